"""The recipe against the best that is possible, which the simulator knows."""
# ruff: noqa: D103 (a test's name says what it shows)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mealkit.testing
from mealkit.testing import Trial
from propensity.simulate import Simulation, best_possible, simulate


@pytest.fixture(scope="module")
def visits() -> Simulation:
    return simulate(10_000, seed=11)


@pytest.fixture(scope="module")
def trial(root: Path, visits: Simulation) -> Trial:
    return mealkit.testing.try_recipe(root, visits.events)


@pytest.fixture(scope="module")
def best(visits: Simulation, trial: Trial) -> dict[str, float]:
    truth = visits.truth.set_index(["visitor_id", "session_id"]).loc[trial.validation.features.index]
    assert (truth["ordered"] == trial.validation.target).all()
    return best_possible(truth.reset_index())


def test_roc_auc_is_near_the_best_possible_and_not_above_it(
    visits: Simulation, trial: Trial, best: dict[str, float]
) -> None:
    assert len(visits.events) > 100_000
    assert trial.metrics["roc_auc"] > best["roc_auc"] - 0.02
    # More than this above the best would be a leak: the standard error of the difference is well below 0.005.
    assert trial.metrics["roc_auc"] < best["roc_auc"] + 0.005


def test_log_loss_is_near_the_best_possible_and_far_from_the_constant(trial: Trial, best: dict[str, float]) -> None:
    share = best["share_ordered"]
    constant = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert best["log_loss"] - 0.002 < trial.metrics["log_loss"] < best["log_loss"] + 0.01
    assert trial.metrics["log_loss"] < 0.9 * constant
    assert trial.metrics["log_loss_skill"] == pytest.approx(1 - trial.metrics["log_loss"] / constant)


def test_the_best_tenth_of_the_journeys_has_most_orders(trial: Trial) -> None:
    tenths = trial.metrics.tables[-1]
    assert tenths.name == "orders_by_tenth"
    assert sum(row[1] for row in tenths.rows) == len(trial.validation)
    assert trial.metrics["lift_at_10"] > 3
    predicted, happened = tenths.rows[0][4], tenths.rows[0][3]
    assert predicted == pytest.approx(happened, rel=0.2)  # calibrated where it matters


def test_no_visitor_is_in_training_and_validation(trial: Trial) -> None:
    training = set(trial.training.keys["visitor_id"])
    validation = set(trial.validation.keys["visitor_id"])
    assert training
    assert validation
    assert not training & validation


def test_every_journey_is_scored_once_and_the_same_seed_gives_the_same(
    root: Path, visits: Simulation, trial: Trial
) -> None:
    assert list(trial.scores.columns) == ["visitor_id", "session_id", "probability"]
    assert not trial.scores.duplicated(["visitor_id", "session_id"]).any()
    assert len(trial.scores) == len(visits.truth)
    assert trial.scores["probability"].between(0, 1).all()
    again = mealkit.testing.try_recipe(root, visits.events)
    assert again.scores.equals(trial.scores)
    assert again.metrics == trial.metrics
