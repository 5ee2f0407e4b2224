"""Shards: the setting, how a dataset is divided, and runs of `score` that together make one batch."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from churn_runs import Outcome, Runner, make_events, write
from hypothesis import given, settings
from hypothesis import strategies as st

from mealkit.errors import SettingsError
from mealkit.spec import RecipeSpec
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


Scoring = Callable[..., Outcome]


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """A folder of events: sorted by customer, in row groups of 40, in two files."""
    events = make_events(seed=1).drop(columns="left").sort_values("customer", kind="stable", ignore_index=True)
    cut = int(events.index[events["customer"] == events["customer"][len(events) // 2]][0])
    folder = tmp_path / "visits"
    folder.mkdir()
    for name, part in (("a", events[:cut]), ("b", events[cut:])):
        part.to_parquet(folder / f"{name}.parquet", index=False, row_group_size=40)
    return folder


@pytest.fixture
def scoring(run: Runner, common: tuple[str, ...], visits: Path, model: Path, tmp_path: Path) -> Scoring:
    """Score the events, or a shard of them."""

    def runner(*more: object, output: object = tmp_path / "s", **options: Any) -> Outcome:
        return run(
            "score", "--input", visits, *common, "--model", model, "--output", output, "--log-format", "json", *more,
            **options,
        )  # fmt: skip

    return runner


@pytest.mark.parametrize("kind", ["", "delta:"])
def test_shards_score_what_one_run_scores(scoring: Scoring, tmp_path: Path, kind: str) -> None:
    whole = scoring("--run-id", "whole", output=tmp_path / "one")
    for number, index in enumerate((2, 0, 3, 1)):
        outcome = scoring("--run-id", "run", "--shard", f"{index}/4", output=f"{kind}{tmp_path}/many")
        assert outcome.code == 0, outcome.err
        assert outcome.result["batch"]["waiting"] == 3 - number
    assert outcome.result["batch"]["rows"] == whole.result["rows_scored"]
    files = sorted((tmp_path / "many").glob("batch_id=run/*.parquet"))
    assert len(files) == 4
    found = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    expected = pd.read_parquet(next((tmp_path / "one").glob("batch_id=*/*.parquet")))
    # Batches end elsewhere, and a product of matrices may have other last bits where it has another number of rows.
    exact = [name for name in found if name != "probability"]
    pd.testing.assert_frame_equal(found[exact], expected[exact], check_exact=True)
    pd.testing.assert_series_equal(found["probability"], expected["probability"], rtol=1e-12, atol=0)
    assert all(len(pd.read_parquet(file)) for file in files)
    again = scoring("--run-id", "run", "--shard", "1/4", output=f"{kind}{tmp_path}/many")
    assert (again.code, again.result["batch"]["existed"], again.result["warnings"]) == (0, True, [])


def test_in_an_indexed_job(scoring: Scoring, tmp_path: Path) -> None:
    for index in ("0", "1"):
        environment = {"MEALKIT_SHARD": "auto/2", "JOB_COMPLETION_INDEX": index, "HOSTNAME": f"nightly-{index}"}
        outcome = scoring(environment=environment)
        assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["batch_id=nightly"]
    refused = scoring("--shard", "0/2")
    assert refused.code == 2
    assert "need one run id" in refused.err


def test_a_killed_shard_runs_again(
    scoring: Scoring, start: Any, run: Runner, common: tuple[str, ...], data: Path, visits: Path, tmp_path: Path
) -> None:
    run("train", "--input", data / "events.csv", *common, "--model", tmp_path / "m", "--set", "score=slow")
    argv = (
        "score", "--input", visits, *common, "--model", tmp_path / "m", "--output", tmp_path / "s", "--run-id", "run",
        "--batch-rows", "20", "--log-format", "json",
    )  # fmt: skip
    process = start(*argv, "--shard", "1/2")
    for line in process.stdout:
        if '"progress"' in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert run(*argv, "--shard", "0/2").result["batch"]["waiting"] == 1
    assert not list((tmp_path / "s").glob("batch_id=*"))
    outcome = run(*argv, "--shard", "1/2")
    assert outcome.result["batch"]["waiting"] == 0
    assert outcome.result["batch"]["rows"] == 120
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["batch_id=run"]


def test_what_cannot_be_divided_is_refused(
    scoring: Scoring, run: Runner, churn: RecipeSpec, common: tuple[str, ...], model: Path, tmp_path: Path
) -> None:
    for arguments, said in ((("--limit", "5"), "sample or a limit"), (("--sample", "0.5"), "sample or a limit")):
        outcome = scoring("--run-id", "run", "--shard", "0/2", *arguments)
        assert outcome.code == 2
        assert said in outcome.err
    spec = replace(churn, components={**churn.components, "saver": "churn.model:LoudSaver"})
    outcome = scoring("--run-id", "run", "--shard", "0/2", spec=spec)
    assert outcome.code == 2
    assert "LoudSaver cannot make one batch" in outcome.err
    for name in ("a.csv", "b.csv"):
        write(make_events(seed=1).drop(columns="left"), tmp_path / "text" / name)
    outcome = run(
        "score", "--input", tmp_path / "text", *common, "--model", model, "--output", tmp_path / "s", "--run-id", "r",
        "--shard", "0/2",
    )  # fmt: skip
    assert outcome.code == 2
    assert "Parquet sorted by customer" in outcome.err
    assert not (tmp_path / "s").exists()


def test_a_row_is_told_by_its_number_in_the_file(scoring: Scoring, visits: Path) -> None:
    broken = pd.read_parquet(visits / "b.parquet")
    last = len(broken) - 1
    broken.loc[last, "amount"] = -1.0
    broken.to_parquet(visits / "b.parquet", index=False, row_group_size=40)
    outcome = scoring("--run-id", "run", "--shard", "1/2")
    assert outcome.code == 3
    assert f"b.parquet, row {last + 1}" in outcome.err
