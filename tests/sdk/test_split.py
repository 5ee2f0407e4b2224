"""The default split: seeded, by whole groups, stratified by class, in the order of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mealkit


def data(target: list[Any], groups: list[Any] | None = None) -> mealkit.Data:
    index = pd.RangeIndex(100, 100 + len(target))
    return mealkit.Data(
        pd.DataFrame({"x": np.arange(len(target))}, index=index),
        pd.Series(target, index=index),
        pd.DataFrame(index=index),
        weights=pd.Series(1.0, index=index),
        groups=None if groups is None else pd.Series(groups, index=index),
    )


def split(
    given_data: mealkit.Data, kind: str = "classification", seed: int = 0, fraction: float = 0.2
) -> tuple[mealkit.Data, mealkit.Data]:
    class Loader(mealkit.DataLoader):
        validation_fraction = fraction

    context = mealkit.Context(run_id="t", hyperparameters=mealkit.Hyperparameters(), kind=kind, seed=seed)
    return Loader().split(given_data, context)


@settings(deadline=None, max_examples=50)
@given(
    groups=st.none() | st.lists(st.integers(0, 5), min_size=8, max_size=40).filter(lambda g: len(set(g)) > 1),
    kind=st.sampled_from(["classification", "regression"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_row_is_on_one_side_in_order(groups: list[int] | None, kind: str, seed: int) -> None:
    rows = 40 if groups is None else len(groups)
    whole = data([row % 2 for row in range(rows)], groups)
    training, validation = split(whole, kind, seed)
    for part in (training, validation):
        assert len(part)
        assert part.features["x"].is_monotonic_increasing
        assert part.features.index.equals(part.target.index)
        assert part.weights is not None
        assert part.features.index.equals(part.weights.index)
    assert sorted([*training.features["x"], *validation.features["x"]]) == list(range(rows))
    if groups is not None:
        assert training.groups is not None
        assert validation.groups is not None
        assert not set(training.groups) & set(validation.groups)
    again, _ = split(whole, kind, seed)
    assert again.features.equals(training.features)


def test_another_seed_is_another_split() -> None:
    whole = data([0, 1] * 50)
    assert not split(whole, seed=1)[1].features.equals(split(whole, seed=2)[1].features)


def test_classes_are_as_frequent_on_both_sides() -> None:
    training, validation = split(data([1] * 20 + [0] * 180))
    assert (training.target.sum(), validation.target.sum()) == (16, 4)


@pytest.mark.parametrize("target", [[0] * 10, [0] * 9 + [1], list(range(10))])
def test_classes_too_rare_to_stratify_are_split_all_the_same(target: list[int]) -> None:
    training, validation = split(data(target))
    assert (len(training), len(validation)) == (8, 2)


def test_the_fraction_is_the_loaders() -> None:
    assert len(split(data([0.5] * 100), "regression", fraction=0.35)[1]) == 35


def test_take_takes_every_part() -> None:
    whole = data([0, 1, 0, 1], [1, 1, 2, 2])
    for rows in ([3, 1], np.array([False, True, False, True])):
        part = whole.take(rows)
        assert sorted(part.features["x"]) == [1, 3]
        assert part.target.index.equals(part.features.index)
        assert part.keys.index.equals(part.features.index)
        assert part.groups is not None
        assert part.groups.index.equals(part.features.index)
