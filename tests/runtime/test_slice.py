"""Slices: which parts a column makes, and where the column comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mealkit
from mealkit.errors import SettingsError
from mealkit_runtime.interval import Wanted
from mealkit_runtime.judge import Judge
from mealkit_runtime.slice import MISSING, OTHER, column_of, parts, slices

CONTEXT: mealkit.Context[Any] = mealkit.Context(run_id="t", hyperparameters=mealkit.Hyperparameters())


def sizes(column: pd.Series) -> dict[str, int]:
    found = parts(column)
    places = np.concatenate([part for _, part in found]) if found else np.array([])
    assert sorted(places) == list(range(len(column))), "each case is in one part"
    return {name: len(part) for name, part in found}


def test_few_values_are_parts_the_most_frequent_first() -> None:
    assert sizes(pd.Series(["b", "a", "b", None])) == {"b": 2, "a": 1, MISSING: 1}
    assert list(sizes(pd.Series([True, False, True]))) == ["True", "False"]
    assert list(sizes(pd.Series([2.0, 2.0, 1.5, np.nan]))) == ["2", "1.5", MISSING]
    assert list(sizes(pd.Series(["x", "y"], dtype="category"))) == ["x", "y"]
    assert sizes(pd.Series([None, None], dtype="object")) == {MISSING: 2}


def test_rare_values_are_judged_together() -> None:
    many = pd.Series([*["a"] * 500, *["b"] * 481, *["c"] * 10, *["d"] * 4, *["e"] * 5])
    assert sizes(many) == {"a": 500, "b": 481, "c": 10, OTHER: 9}
    letters = pd.Series([chr(97 + number % 20) for number in range(400)])
    found = sizes(letters)
    assert len(found) == 11
    assert found[OTHER] == 200


def test_numbers_and_times_are_parted_by_quarters() -> None:
    found = sizes(pd.Series(np.arange(100.0)))
    assert found == {"≤ 24": 25, "24 < … ≤ 49": 25, "49 < … ≤ 74": 25, "> 74": 25}
    frequent = pd.Series([0] * 90 + list(range(1, 21)))
    assert sizes(frequent) == {"≤ 0": 90, "> 0": 20}
    days = pd.Series(pd.date_range("2026-01-01", periods=40))
    assert next(iter(sizes(days))) == "≤ 2026-01-10"
    assert list(sizes(pd.Series([1.5] * 3 + list(range(30)))))[-1].startswith("> ")


def data(index: pd.Index, **more: Any) -> mealkit.Data:
    features = pd.DataFrame(
        {"n": np.linspace(0.9, 0.1, len(index)), "p": np.linspace(0.1, 0.9, len(index))}, index=index
    )
    target = pd.Series(np.arange(len(index)) % 2, index=index)
    return mealkit.Data(features, target, pd.DataFrame({"id": np.arange(len(index))}, index=index), **more)


def test_where_the_column_comes_from() -> None:
    frame = pd.DataFrame({"who": ["a", "a", "b", "c"], "plan": ["x", "x", "y", "x"], "day": [1, 2, 3, 4]})
    rows = data(pd.RangeIndex(4)).take([1, 3])
    assert column_of("plan", frame, rows).tolist() == ["x", "x"]
    assert column_of("p", frame, rows).tolist() == rows.features["p"].tolist()
    assert column_of("id", frame, rows).tolist() == [1, 3]
    by_who = data(pd.Index(["c", "a"], name="who"))
    assert column_of("plan", frame, by_who).tolist() == ["x", "x"]
    assert column_of("who", frame, by_who).tolist() == ["c", "a"]
    with pytest.raises(SettingsError, match="several values within one who"):
        column_of("day", frame, by_who)
    with pytest.raises(SettingsError, match="another index"):
        column_of("plan", frame, data(pd.Index(["z", "y"])))
    with pytest.raises(SettingsError, match="there is no column 'plam'") as told:
        column_of("plam", frame, rows)
    assert told.value.hint == "did you mean 'plan'?"


class Given:
    classes_ = np.array([0, 1])

    def predict_proba(self, features: pd.DataFrame) -> Any:
        return features[["n", "p"]].to_numpy()


def test_a_slice_is_judged_as_if_it_were_alone() -> None:
    whole = data(pd.RangeIndex(200))
    evaluator = mealkit.ClassificationEvaluator[Given]()
    judge = Judge(evaluator, whole, Given(), CONTEXT)
    judge.whole()
    column = pd.Series(["a"] * 150 + ["b"] * 50, name="plan")
    found = slices(judge, [column], Wanted(resamples=20), print)
    assert [(one.column, one.value, one.cases) for one in found] == [("plan", "a", 150), ("plan", "b", 50)]
    alone = evaluator.evaluate(whole.take(np.arange(150)), Given(), CONTEXT)
    for metric in found[0].values:
        assert metric.value == alone[metric.name]
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= metric.value <= metric.high
