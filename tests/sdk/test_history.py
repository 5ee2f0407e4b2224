"""The history of a training, and rules for early stopping."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from mealkit import EarlyStopping
from mealkit.errors import SettingsError
from mealkit.history import NAMES, POINTS, History


def test_the_history_is_what_was_logged() -> None:
    history = History()
    history.add("loss", 0.5, 1)
    history.add("loss", math.nan, 2)
    history.add("loss", -math.inf, 3)
    history.add("rows", 7)
    history.add("rows", 8)
    assert history.to_json() == {"loss": [[1, 0.5], [2, None], [3, None]], "rows": [[0, 7], [1, 8]]}
    assert history.points("nothing") == []


@pytest.mark.parametrize("count", [1, POINTS, POINTS + 1, 2 * POINTS + 2, 12_345])
def test_the_history_is_bounded_and_keeps_both_ends(count: int) -> None:
    history = History()
    for step in range(count):
        history.add("loss", step / 2, step)
    points = history.points("loss")
    assert len(points) <= POINTS + 1
    assert points[0] == (0, 0.0)
    assert points[-1] == (count - 1, (count - 1) / 2)
    distances = {after - before for (before, _), (after, _) in itertools.pairwise(points[:-1])}
    assert len(distances) <= 1, "what is left is spread evenly"
    if count > POINTS + 1:
        assert len(points) > POINTS / 2


def test_the_number_of_metrics_is_bounded() -> None:
    history = History()
    for number in range(NAMES + 10):
        history.add(f"metric {number}", 1.0)
    assert len(history.to_json()) == NAMES


def feed(history: History, values: list[float], begin: int = 1) -> list[bool]:
    rule = EarlyStopping("loss", patience=2, min_delta=0.1)
    watch = history.watch(rule)
    said = []
    for step, value in enumerate(values, begin):
        history.add("loss", value, step)
        said.append(watch.stop)
    return said


def test_early_stopping() -> None:
    history = History()
    values = [1.0, 0.8, 0.75, math.nan, 0.1]
    assert feed(history, values) == [False, False, False, True, False]
    watch = history.watch(EarlyStopping("loss", patience=2, min_delta=0.1))
    assert (watch.best, watch.best_step, watch.improved) == (0.1, 5, True)
    (told,) = history.watches()
    assert told["metric"] == "loss"
    assert told["stopped"] is False
    other = history.watch(EarlyStopping("loss", patience=1, direction="maximize"))
    assert (other.best, other.stop) == (1.0, True), "a rule that comes late sees what was"


def test_the_first_value_that_is_no_number_is_no_best() -> None:
    watch = History().watch(EarlyStopping("loss", patience=1))
    watch.see(math.nan, 1)
    assert (watch.best, watch.stop, watch.improved) == (None, True, False)


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_restored_history_goes_on_as_if_nothing_had_been(cut: int) -> None:
    values = [1.0, 0.8, math.nan, 0.79, 0.78]
    whole = History()
    expected = feed(whole, values)
    first = History()
    feed(first, values[:cut])
    second = History()
    second.add("other", 1.0)
    second.restore(json.loads(json.dumps(first.state())))
    assert feed(second, values[cut:], cut + 1) == expected[cut:]
    assert second.to_json() == whole.to_json()
    assert second.watches() == whole.watches()


def test_a_thinned_history_is_restored_with_its_rhythm() -> None:
    whole, first = History(), History()
    for step in range(3 * POINTS):
        whole.add("loss", 1.0, step)
        if step < 1_001:
            first.add("loss", 1.0, step)
    second = History()
    second.restore(json.loads(json.dumps(first.state())))
    for step in range(1_001, 3 * POINTS):
        second.add("loss", 1.0, step)
    assert second.to_json() == whole.to_json()


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"min_delta": -1.0}, {"direction": "down"}])
def test_a_rule_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="not a rule"):
        EarlyStopping("loss", **wrong)  # type: ignore[arg-type]
