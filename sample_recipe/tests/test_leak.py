"""The label does not leak: features hold nothing that is only known after the moment of prediction."""
# ruff: noqa: D103 (a test's name says what it shows)

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mealkit.testing
from mealkit.recipe import Recipe, make_data, prepare, score
from propensity.settings import DECISION_SECONDS
from propensity.simulate import Simulation

KEYS = ["visitor_id", "session_id"]


def journeys(events: pd.DataFrame) -> pd.DataFrame:
    """For each event: seconds since its journey began, and the journey's number among its visitor's (0 the first)."""
    begun = events.groupby(KEYS)["time"].transform("min")
    number = begun.groupby(events["visitor_id"]).rank("dense").astype(int) - 1
    last = number == number.groupby(events["visitor_id"]).transform("max")
    return pd.DataFrame({"seconds": (events["time"] - begun).dt.total_seconds(), "number": number, "last": last})


def test_what_comes_after_the_decision_changes_no_feature(recipe: Recipe, small: Simulation) -> None:
    events, about = small.events, journeys(small.events)
    later = about["last"] & (about["seconds"] >= DECISION_SECONDS)
    assert later.sum() > 100
    assert (events.loc[later, "event"] == "order").any()
    changed = events.copy()
    changed.loc[later, "event"] = np.random.default_rng(0).choice(["view", "order", "add_to_cart"], later.sum())
    changed.loc[later, "page"] = "confirmation"
    changed.loc[later, ["product", "price"]] = ["P000", 1_000_000.0]
    changed.loc[later, "time"] += pd.Timedelta(minutes=7)
    context = mealkit.testing.make_context(recipe)
    mealkit.testing.assert_no_leak(recipe, events, changed, context)
    mealkit.testing.assert_no_leak(recipe, events, events[~later], context)


def test_the_check_finds_a_leak(recipe: Recipe, small: Simulation) -> None:
    """What the features do use, they show: the same check fails when an event before the decision is altered."""
    early = journeys(small.events)["seconds"] < DECISION_SECONDS
    changed = small.events.assign(event=small.events["event"].where(~early, "add_to_cart"))
    with pytest.raises(AssertionError):
        mealkit.testing.assert_no_leak(recipe, small.events, changed, mealkit.testing.make_context(recipe))


@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_log_of_today_gives_what_the_log_of_then_gave(recipe: Recipe, small: Simulation, number: int) -> None:
    """Features of each visitor's n-th journey, from the whole log and from the log as it was at the decision."""
    events, about = small.events, journeys(small.events)
    then = (about["number"] < number) | ((about["number"] == number) & (about["seconds"] < DECISION_SECONDS))
    asked = pd.MultiIndex.from_frame(events.loc[about["number"] == number, KEYS].drop_duplicates())
    context = mealkit.testing.make_context(recipe)
    today = prepare(recipe, events.reset_index(drop=True), context).features
    past = prepare(recipe, events[then].reset_index(drop=True), context).features
    rows = asked.intersection(today.index)
    assert len(rows) > 20
    pd.testing.assert_frame_equal(today.loc[rows], past.loc[rows])


def test_scores_do_not_need_the_outcome(recipe: Recipe, small: Simulation) -> None:
    context = mealkit.testing.make_context(recipe, hyperparameters={"trees": 20})
    model = recipe.trainer.train(make_data(recipe, small.events, context), context)
    about = journeys(small.events)
    known = ~(about["last"] & (about["seconds"] >= DECISION_SECONDS))
    whole = score(recipe, small.events.reset_index(drop=True), model, context)
    cut = score(recipe, small.events[known].reset_index(drop=True), model, context)
    pd.testing.assert_frame_equal(whole, cut)


def test_a_journey_that_has_ordered_already_needs_no_prediction(recipe: Recipe) -> None:
    def event(visitor: int, second: int, name: str, page: str) -> dict[str, object]:
        time = pd.Timestamp("2026-03-02 10:00:00") + pd.Timedelta(seconds=second)
        return {
            "visitor_id": visitor, "session_id": visitor, "time": time, "event": name, "page": page,
            "product": "P001", "price": 10.0, "device": "mobile", "referrer": "email",
        }  # fmt: skip

    rows = [
        event(1, 0, "view", "product"),
        event(1, DECISION_SECONDS - 1, "order", "confirmation"),
        event(2, 0, "view", "product"),
        event(2, DECISION_SECONDS, "order", "confirmation"),
        event(3, 0, "view", "product"),
    ]
    data = make_data(recipe, pd.DataFrame(rows), mealkit.testing.make_context(recipe))
    assert data.target.to_dict() == {(2, 2): 1, (3, 3): 0}
    assert data.features["events"].tolist() == [1, 1]


def test_the_order_of_the_rows_does_not_matter(recipe: Recipe, small: Simulation) -> None:
    # Events of one second are the exception: only their order in the log tells which came first.
    events = small.events.drop_duplicates(["visitor_id", "time"])
    shuffled = events.sample(frac=1, random_state=0)
    mealkit.testing.assert_no_leak(recipe, events, shuffled, mealkit.testing.make_context(recipe))
