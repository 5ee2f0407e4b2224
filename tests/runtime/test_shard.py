"""Shards: the setting, how a dataset is divided, and runs of `score` that together make one batch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mealkit.errors import SettingsError
from mealkit_runtime.shard import Shard, Unit, divide, job_name, parse_shard


def test_the_setting() -> None:
    assert parse_shard("0/3", {}) == Shard(0, 3)
    assert str(parse_shard("auto/3", {"JOB_COMPLETION_INDEX": "2"})) == "2/3"
    for text in ("3", "3/3", "-1/3", "a/3", "1/0", "0/0", "1/2/3", "auto/2", ""):
        with pytest.raises(SettingsError) as caught:
            parse_shard(text, {})
        assert caught.value.hint


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        ({"HOSTNAME": "nightly-3"}, None),
        ({"JOB_COMPLETION_INDEX": "3", "HOSTNAME": "nightly-3"}, "nightly"),
        ({"JOB_COMPLETION_INDEX": "13", "HOSTNAME": "nightly-3"}, None),
        ({"JOB_COMPLETION_INDEX": "3", "HOSTNAME": "-3"}, None),
        ({"JOB_COMPLETION_INDEX": "3", "HOSTNAME": "other", "JOB_NAME": "weekly"}, "weekly"),
    ],
)
def test_the_name_of_a_job(environment: dict[str, str], name: str | None) -> None:
    assert job_name(environment) == name


weights = st.lists(st.integers(1, 100), max_size=30)


@given(weights, st.integers(1, 12))
def test_shards_are_disjoint_whole_and_in_order(sizes: list[int], count: int) -> None:
    units = [Unit(0, number, size) for number, size in enumerate(sizes)]
    shares = divide(units, count, together=False)
    assert len(shares) == count
    assert [unit for share in shares for unit in share] == units
    fair = sum(sizes) / count
    assert all(sum(unit.weight for unit in share) <= fair + max(sizes, default=0) for share in shares)


@settings(max_examples=200)
@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=4), max_size=12), st.integers(1, 6))
def test_groups_are_in_one_shard(groups: list[list[int]], count: int) -> None:
    units = [Unit(0, number, len(values), min(values), max(values)) for number, values in enumerate(groups)]
    shares = divide(units, count, together=True)
    assert [unit for share in shares for unit in share] == units
    seen: dict[int, int] = {}
    for index, share in enumerate(shares):
        for unit in share:
            for value in groups[unit.group or 0]:
                assert seen.setdefault(value, index) == index


def test_sorted_groups_divide_well() -> None:
    units = [Unit(0, number, 10, f"c{number:02}", f"c{number:02}x") for number in range(12)]
    assert [len(share) for share in divide(units, 4, together=True)] == [3, 3, 3, 3]
    unknown: list[Any] = [Unit(0, number, 10) for number in range(12)]
    assert [len(share) for share in divide(unknown, 4, together=True)].count(0) == 3
