"""The simulator: seeded, in the declared shape, with orders as frequent as their probabilities say."""
# ruff: noqa: D103 (a test's name says what it shows)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from propensity.settings import DECISION_SECONDS, DEVICES, EVENTS, REFERRERS, Event
from propensity.simulate import Simulation, best_possible, main, simulate

KEYS = ["visitor_id", "session_id"]


def test_the_same_seed_gives_the_same_visits(small: Simulation) -> None:
    again, other = simulate(400, seed=3), simulate(400, seed=4)
    pd.testing.assert_frame_equal(small.events, again.events)
    pd.testing.assert_frame_equal(small.truth, again.truth)
    assert not small.events.equals(other.events)


def test_events_are_rows_of_the_declared_schema(small: Simulation) -> None:
    assert tuple(small.events.columns) == Event.columns()
    for row in small.events.astype("object").where(small.events.notna(), None).head(300).to_dict("records"):
        Event.model_validate(row)
    for column, names in {"event": EVENTS, "device": DEVICES, "referrer": REFERRERS}.items():
        assert set(small.events[column]) == set(names)


def test_a_visitors_events_stand_together_in_order_of_time(small: Simulation) -> None:
    events = small.events
    assert events["visitor_id"].is_monotonic_increasing
    assert (events.groupby("visitor_id")["time"].diff().dropna() >= pd.Timedelta(0)).all()
    begun = events.groupby(KEYS)["time"].agg(["min", "max"])
    pause = begun["min"] - begun["max"].groupby("visitor_id").shift(1)
    assert (pause.dropna() >= pd.Timedelta(minutes=30)).all()


def test_the_truth_and_the_log_tell_the_same(small: Simulation) -> None:
    ordered = (small.events["event"] == "order").groupby([small.events[key] for key in KEYS]).any()
    truth = small.truth.set_index(KEYS)["ordered"]
    pd.testing.assert_series_equal(ordered.sort_index(), truth.sort_index(), check_names=False)
    begun = small.events.groupby(KEYS)["time"].transform("min")
    late = small.events["event"].isin(["order", "checkout"])
    assert ((small.events["time"] - begun)[late] >= pd.Timedelta(seconds=DECISION_SECONDS)).all()


def test_carts_and_checkouts_are_no_label_in_disguise(small: Simulation) -> None:
    journeys = pd.crosstab([small.events[key] for key in KEYS], small.events["event"]) > 0
    assert (journeys["add_to_cart"] & ~journeys["order"]).sum() > 20
    assert (journeys["checkout"] & ~journeys["order"]).sum() > 5


def test_orders_are_as_frequent_as_their_probabilities_say() -> None:
    truth = simulate(20_000, seed=5).truth
    error = truth["ordered"].sum() - truth["probability"].sum()
    assert abs(error) < 4 * np.sqrt((truth["probability"] * (1 - truth["probability"])).sum())
    for _, part in truth.groupby(pd.qcut(truth["probability"], 10)):
        assert part["ordered"].mean() == pytest.approx(part["probability"].mean(), rel=0.25, abs=0.01)


def test_best_possible_against_scikit_learn(small: Simulation) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    best = best_possible(small.truth)
    ordered, probability = small.truth["ordered"], small.truth["probability"]
    assert best["roc_auc"] == pytest.approx(roc_auc_score(ordered, probability))
    assert best["log_loss"] == pytest.approx(log_loss(ordered, probability))


def test_one_visitor_will_do() -> None:
    drawn = simulate(1, seed=0)
    assert drawn.events["visitor_id"].eq(0).all()
    assert len(drawn.truth) == drawn.events["session_id"].nunique()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_command_writes_events_and_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small: Simulation, suffix: str
) -> None:
    events, truth = tmp_path / f"new/events.{suffix}", tmp_path / f"truth.{suffix}"
    assert main(["--visitors", "400", "--seed", "3", "--output", str(events), "--truth", str(truth)]) == 0
    said = capsys.readouterr().out
    assert f"{len(small.events):,} events" in said
    assert "best possible ROC AUC" in said
    read = pd.read_csv(events, parse_dates=["time"]) if suffix == "csv" else pd.read_parquet(events)
    assert read["time"].tolist() == small.events["time"].tolist()
    for column in ("visitor_id", "event", "page", "device"):
        assert read[column].tolist() == small.events[column].tolist()
    assert truth.exists()


def test_the_command_refuses_no_visitors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--visitors", "0", "--output", "x.csv"])
    assert "1 or more" in capsys.readouterr().err
