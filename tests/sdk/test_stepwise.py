"""Fitting scikit-learn estimators in steps, outside of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mealkit import Context, Data, EarlyStopping, Hyperparameters, Trainer
from mealkit.checkpoint import Checkpoint
from mealkit.errors import RecipeError
from mealkit.history import History


class Steps(Trainer):  # type: ignore[type-arg]
    def train(self, data: Any, context: Any) -> Any:
        raise NotImplementedError


class Kept:
    """Checkpoints in a folder, without any care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[int] = []

    def save(self, step: int, write: Any) -> None:
        place = self.folder / str(step)
        place.mkdir()
        write(place)
        self.steps.append(step)

    def latest(self) -> Checkpoint | None:
        return Checkpoint(self.steps[-1], self.folder / str(self.steps[-1])) if self.steps else None


def make_data(rows: int = 120, *, numbers: bool = False, weighted: bool = False) -> Data:
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.normal(size=(rows, 3)), columns=list("abc"))
    score = features["a"] * 2 - features["b"] + random.normal(size=rows)
    whole = Data(
        features=features,
        target=score if numbers else (score > 0).astype(int),
        keys=features[[]],
        weights=pd.Series(random.random(rows)) if weighted else None,
    )
    cut = np.arange(rows) < rows * 3 // 4
    return replace(whole.take(cut), validation=whole.take(~cut))


def context_of(**more: Any) -> Context[Any]:
    return Context(run_id="r", hyperparameters=Hyperparameters(), **more)


ESTIMATORS = [
    (SGDClassifier(loss="log_loss", random_state=0), "validation_log_loss"),
    (SGDClassifier(loss="hinge", random_state=0), "validation_error"),
    (SGDRegressor(random_state=0), "validation_rmse"),
    (GradientBoostingRegressor(random_state=0), "validation_rmse"),
    (HistGradientBoostingClassifier(random_state=0, min_samples_leaf=5), "validation_log_loss"),
    (RandomForestClassifier(random_state=0, max_depth=3), "validation_log_loss"),
    (make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)), "validation_log_loss"),
]


@pytest.mark.parametrize(("estimator", "metric"), ESTIMATORS)
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_that_were_interrupted_are_the_same(estimator: Any, metric: str, weighted: bool, tmp_path: Path) -> None:
    data = make_data(numbers="rmse" in metric, weighted=weighted)
    whole_context = context_of()
    whole = Steps().fit_in_steps(clone(estimator), data, whole_context, steps=5, grow=2)
    kept = Kept(tmp_path)
    first = context_of(checkpoint=kept)
    Steps().fit_in_steps(clone(estimator), data, first, steps=3, grow=2)
    second = context_of(checkpoint=kept, history=first.history)
    parts = Steps().fit_in_steps(clone(estimator), data, second, steps=5, grow=2)
    assert kept.steps == [1, 2, 3, 4, 5]
    for name, model in (("whole", whole), ("parts", parts)):
        (tmp_path / name).mkdir()
        Steps().save(model, tmp_path / name)
    assert (tmp_path / "whole" / "model.skops").read_bytes() == (tmp_path / "parts" / "model.skops").read_bytes()
    assert second.history.to_json() == whole_context.history.to_json()
    points = whole_context.history.points(metric)
    assert [step for step, _ in points] == [1, 2, 3, 4, 5]
    assert np.isfinite([value for _, value in points]).all()


def test_a_growing_estimator_has_the_size_that_was_asked_for() -> None:
    model = Steps().fit_in_steps(
        GradientBoostingRegressor(random_state=0), make_data(numbers=True), context_of(), steps=4, grow=3
    )
    assert model.n_estimators_ == 12
    fitted = GradientBoostingRegressor(random_state=0, n_estimators=12).fit(
        make_data(numbers=True).features, make_data(numbers=True).target
    )
    features = make_data().features
    np.testing.assert_allclose(model.predict(features), fitted.predict(features))


def test_every_and_a_stop_tell_when_checkpoints_are_saved(tmp_path: Path) -> None:
    estimator = SGDClassifier(loss="log_loss", random_state=0)
    history = History()
    asked: dict[str, Any] = {
        "history": history,
        "stopping": lambda: len(history.points("validation_log_loss")) >= 2,
    }
    for folder, expected, more in (("a", [3, 6, 7], {}), ("b", [2], asked)):
        (tmp_path / folder).mkdir()
        kept = Kept(tmp_path / folder)
        context = context_of(checkpoint=kept, **more)
        Steps().fit_in_steps(clone(estimator), make_data(), context, steps=7, every=3)
        assert kept.steps == expected


def test_early_stopping_holds_when_it_is_resumed(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    rule = EarlyStopping("validation_log_loss", patience=1, min_delta=10)
    context = context_of(checkpoint=kept)
    for _ in range(2):  # the second time it has stopped already
        Steps().fit_in_steps(
            SGDClassifier(loss="log_loss", random_state=0), make_data(), context, steps=50, early_stopping=rule
        )
        assert kept.steps == [1, 2]
        assert context.watch(rule).stop


def test_an_earlier_model_is_gone_on_with_and_left_as_it_is() -> None:
    data = make_data()
    for estimator in (SGDClassifier(loss="log_loss", random_state=0), ESTIMATORS[5][0], ESTIMATORS[6][0]):
        earlier = Steps().fit_in_steps(clone(estimator), data, context_of(), steps=2, grow=2)
        before = earlier.predict_proba(data.features)
        later = Steps().fit_in_steps(
            clone(estimator), data, context_of(earlier=lambda earlier=earlier: earlier), steps=3, grow=2
        )
        whole = Steps().fit_in_steps(clone(estimator), data, context_of(), steps=5, grow=2)
        np.testing.assert_array_equal(later.predict_proba(data.features), whole.predict_proba(data.features))
        np.testing.assert_array_equal(earlier.predict_proba(data.features), before)


def test_data_without_validation_are_fitted_without_a_word() -> None:
    context = context_of()
    Steps().fit_in_steps(SGDClassifier(random_state=0), replace(make_data(), validation=None), context, steps=2)
    assert context.history.to_json() == {}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (KMeans(), {"steps": 2}, "a KMeans cannot be fitted in steps"),
        (LogisticRegression(), {"steps": 2}, "a LogisticRegression cannot be fitted in steps"),
        (SGDClassifier(), {"steps": 0}, "must be 1 or more"),
        (SGDClassifier(), {"steps": 1, "every": 0}, "must be 1 or more"),
    ],
)
def test_what_cannot_be_fitted_in_steps_is_told(model: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Steps().fit_in_steps(model, make_data(), context_of(), **options)
