"""The retail recipe on real sales: the known figures, and the last week's forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sales import MISSING, RECIPE, by_store, sales

import mealkit.testing
from mealkit.recipe import make_data, prepare, score
from mealkit.testing import Trial

pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


@pytest.fixture(scope="module")
def weeks() -> pd.DataFrame:
    return sales()


@pytest.fixture(scope="module")
def trial(weeks: pd.DataFrame) -> Trial:
    return mealkit.testing.try_recipe(RECIPE, weeks, seed=1234)


def test_the_rows_are_those_of_the_known_split(trial: Trial) -> None:
    assert (len(trial.training), len(trial.validation)) == (4635, 1710)
    assert trial.training.keys["date"].iloc[[0, -1]].tolist() == ["2/12/10", "1/27/12"]
    assert trial.validation.keys["date"].iloc[[0, -1]].tolist() == ["2/3/12", "10/19/12"]


def test_the_known_figures(trial: Trial) -> None:
    assert trial.metrics["mape"] == pytest.approx(0.054, rel=0.01)
    assert trial.metrics["mae"] == pytest.approx(56_400, rel=0.01)
    assert trial.metrics["rmse"] == pytest.approx(83_800, rel=0.01)
    assert trial.metrics["mae"] / trial.metrics["mase"] == pytest.approx(57_800, rel=0.005)


def test_the_last_week_is_scored_too(weeks: pd.DataFrame, trial: Trial) -> None:
    assert list(trial.scores.columns) == ["date", "store", "prediction"]
    assert len(trial.scores) == len(weeks) - 45  # all but each store's first week, which has none before it
    last = trial.scores[trial.scores["date"] == "10/26/12"]
    assert sorted(last["store"]) == list(range(1, 46))
    assert np.isfinite(last["prediction"]).all()
    assert "10/26/12" not in set(trial.validation.keys["date"])


def test_a_forecast_needs_only_two_weeks(weeks: pd.DataFrame, trial: Trial) -> None:
    recipe = mealkit.testing.load(RECIPE)
    two = weeks[weeks["date"].isin(["10/19/12", "10/26/12"])].reset_index(drop=True)
    rows = score(recipe, two, trial.model, mealkit.testing.make_context(recipe))
    whole = trial.scores[trial.scores["date"] == "10/26/12"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, whole)


def test_the_week_after_changes_no_feature(weeks: pd.DataFrame) -> None:
    recipe = mealkit.testing.load(RECIPE)
    context = mealkit.testing.make_context(recipe)
    until = weeks[weeks["date"] != "10/26/12"]
    known = prepare(recipe, weeks, context).features
    then = prepare(recipe, until, context).features
    pd.testing.assert_frame_equal(known.loc[then.index], then)


def test_the_target_is_the_same_stores_next_week(weeks: pd.DataFrame) -> None:
    recipe = mealkit.testing.load(RECIPE)
    data = make_data(recipe, weeks, mealkit.testing.make_context(recipe))
    assert len(data) == 6435 - 45 - 45
    assert "weeklySalesAhead" not in data.features.columns
    # Independent of the recipe: the file has 45 stores a week in one order.
    ahead = weeks["weeklySales"].shift(-45)
    np.testing.assert_array_equal(data.target, ahead.loc[data.target.index])


def test_a_store_that_skipped_a_week_gets_no_other_weeks_sales(weeks: pd.DataFrame) -> None:
    recipe = mealkit.testing.load(RECIPE)
    gap = weeks[~((weeks["store"] == 7) & (weeks["date"] == "1/7/11"))].reset_index(drop=True)
    data = make_data(recipe, gap, mealkit.testing.make_context(recipe))
    dates = set(data.keys.loc[data.keys["store"] == 7, "date"])
    assert "12/31/10" not in dates  # its next week is not known
    assert "1/14/11" not in dates  # it has no week before
    assert len(data) == 6435 - 45 - 45 - 3


def test_the_order_of_the_rows_does_not_matter(weeks: pd.DataFrame, trial: Trial) -> None:
    recipe = mealkit.testing.load(RECIPE)
    context = mealkit.testing.make_context(recipe)
    rows = score(recipe, by_store(weeks), trial.model, context).sort_values(["store", "date"], ignore_index=True)
    pd.testing.assert_frame_equal(rows, trial.scores.sort_values(["store", "date"], ignore_index=True))
