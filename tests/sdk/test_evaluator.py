"""The ready evaluators give what scikit-learn gives; what data leave undefined is NaN."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import mealkit
from mealkit.errors import RecipeError
from mealkit.evaluator import CURVE_POINTS, default_evaluator
from mealkit.metrics import DIRECTIONS

CONTEXT: mealkit.Context[Any] = mealkit.Context(run_id="t", hyperparameters=mealkit.Hyperparameters())


class Given:
    """A model whose predictions are the features."""

    def __init__(self, classes: list[Any] | None = None) -> None:
        if classes is not None:
            self.classes_ = np.array(classes)

    def predict_proba(self, features: pd.DataFrame) -> npt.NDArray[np.float64]:
        return features.to_numpy()

    def predict(self, features: pd.DataFrame) -> npt.NDArray[np.float64]:
        return features["p"].to_numpy()


def data(features: pd.DataFrame, target: Any, **more: Any) -> mealkit.Data:
    return mealkit.Data(features, pd.Series(target), pd.DataFrame(index=features.index), **more)


def binary(seed: int, rows: int, weighted: bool, classes: list[Any]) -> mealkit.Data:
    random = np.random.default_rng(seed)
    p = random.random(rows)
    target = np.array(classes)[(random.random(rows) < p).astype(int)]
    weights = pd.Series(random.random(rows)) if weighted else None
    return data(pd.DataFrame({"n": 1 - p, "p": p}), target, weights=weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [[0, 1], [False, True], ["no", "yes"]])
def test_two_classes_against_scikit_learn(weighted: bool, classes: list[Any]) -> None:
    given_data = binary(0, 500, weighted, classes)
    found = mealkit.ClassificationEvaluator[Given]().evaluate(given_data, Given(classes), CONTEXT)
    truth, p = given_data.target.to_numpy() == classes[1], given_data.features["p"].to_numpy()
    how: dict[str, Any] = {"sample_weight": given_data.weights}
    assert {metric.name: metric.value for metric in found} == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, p >= 0.5, **how),
            "precision": sk.precision_score(truth, p >= 0.5, **how),
            "recall": sk.recall_score(truth, p >= 0.5, **how),
            "f1": sk.f1_score(truth, p >= 0.5, **how),
            "roc_auc": sk.roc_auc_score(truth, p, **how),
            "log_loss": sk.log_loss(truth, p, **how),
        }
    )
    table = found.tables[0]
    assert table.columns == ("actual", f"predicted {classes[0]}", f"predicted {classes[1]}")
    np.testing.assert_allclose([row[1:] for row in table.rows], sk.confusion_matrix(truth, p >= 0.5, **how))


@pytest.mark.parametrize("weighted", [False, True])
def test_three_classes_against_scikit_learn(weighted: bool) -> None:
    random = np.random.default_rng(1)
    p = random.dirichlet([1, 1, 1], 300)
    classes = ["a", "b", "c"]
    truth = np.array([random.choice(classes, p=row) for row in p])
    weights = pd.Series(random.random(300)) if weighted else None
    found = mealkit.ClassificationEvaluator[Given]().evaluate(
        data(pd.DataFrame(p), truth, weights=weights), Given(classes), CONTEXT
    )
    predicted = np.array(classes)[p.argmax(axis=1)]
    how: dict[str, Any] = {"sample_weight": weights}
    assert {metric.name: metric.value for metric in found} == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, predicted, **how),
            "precision": sk.precision_score(truth, predicted, average="macro", **how),
            "recall": sk.recall_score(truth, predicted, average="macro", **how),
            "f1": sk.f1_score(truth, predicted, average="macro", **how),
            "roc_auc": sk.roc_auc_score(truth, p, multi_class="ovr", **how),
            "log_loss": sk.log_loss(truth, p, labels=classes, **how),
        }
    )
    assert found.curves == ()


def test_the_threshold_decides_what_is_predicted_and_nothing_else() -> None:
    class Eager(mealkit.ClassificationEvaluator[Given]):
        threshold = 0.1

    given_data = binary(2, 400, False, [0, 1])
    plain = mealkit.ClassificationEvaluator[Given]().evaluate(given_data, Given([0, 1]), CONTEXT)
    eager = Eager().evaluate(given_data, Given([0, 1]), CONTEXT)
    assert eager["recall"] > plain["recall"]
    assert (eager["roc_auc"], eager["log_loss"]) == (plain["roc_auc"], plain["log_loss"])


@pytest.mark.parametrize("value", [0, 1])
def test_one_single_class_leaves_the_ranking_undefined(value: int) -> None:
    one = data(pd.DataFrame({"n": [0.6, 0.2], "p": [0.4, 0.8]}), [value, value])
    found = mealkit.ClassificationEvaluator[Given]().evaluate(one, Given([0, 1]), CONTEXT)
    assert math.isnan(found["roc_auc"])
    assert found["log_loss"] == pytest.approx(sk.log_loss([value, value], [0.4, 0.8], labels=[0, 1]))
    assert found.curves == ()
    assert found.to_json()["metrics"][4] == {"name": "roc_auc", "value": None, "direction": "maximize"}


def test_a_class_that_the_data_lack_and_a_model_of_one_class() -> None:
    p = pd.DataFrame([[0.2, 0.3, 0.5], [0.5, 0.2, 0.3]])
    found = mealkit.ClassificationEvaluator[Given]().evaluate(data(p, ["c", "a"]), Given(["a", "b", "c"]), CONTEXT)
    assert math.isnan(found["roc_auc"])
    assert found["accuracy"] == 1
    one = data(pd.DataFrame([[1.0], [1.0]]), ["a", "a"])
    with pytest.warns(UserWarning, match="single label"):
        found = mealkit.ClassificationEvaluator[Given]().evaluate(one, Given(["a"]), CONTEXT)
    assert found["accuracy"] == 1
    assert math.isnan(found["log_loss"])


def test_a_model_without_probabilities_is_told() -> None:
    with pytest.raises(RecipeError, match="type object gives no probabilities"):
        mealkit.ClassificationEvaluator[object]().evaluate(binary(0, 9, False, [0, 1]), object(), CONTEXT)


def test_curves_are_thinned_and_keep_their_ends() -> None:
    given_data = binary(3, 5_000, False, [0, 1])
    found = mealkit.ClassificationEvaluator[Given]().evaluate(given_data, Given([0, 1]), CONTEXT)
    curves = {curve.name: curve for curve in found.curves}
    assert set(curves) == {"roc", "precision_recall", "calibration"}
    assert all(len(curve.x) == len(curve.y) <= CURVE_POINTS for curve in found.curves)
    roc = curves["roc"]
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(found["roc_auc"], abs=0.002)
    np.testing.assert_allclose(curves["calibration"].x, curves["calibration"].y, atol=0.08)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0.01, 10)), min_size=2, max_size=30
    ).filter(lambda rows: len({row[0] for row in rows}) > 1 and all(abs(row[0]) > 1e-3 for row in rows))
)
def test_regression_against_scikit_learn(rows: list[tuple[float, float, float]]) -> None:
    truth, predicted, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = mealkit.RegressionEvaluator[Given]().evaluate(
        data(pd.DataFrame({"p": predicted}), truth, weights=pd.Series(weights)), Given(), CONTEXT
    )
    how: dict[str, Any] = {"sample_weight": weights}
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, predicted, **how))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, predicted, **how))
    assert found["mape"] == pytest.approx(sk.mean_absolute_percentage_error(truth, predicted, **how))
    if np.average((truth - np.average(truth, weights=weights)) ** 2, weights=weights) > 1e-6:
        assert found["r2"] == pytest.approx(sk.r2_score(truth, predicted, **how), rel=1e-6, abs=1e-6)
    naive = sk.mean_absolute_error(truth[1:], truth[:-1], sample_weight=weights[1:])
    if naive > 0:
        assert found["mase"] == pytest.approx(found["mae"] / naive)


def test_the_naive_prediction_stays_in_its_group() -> None:
    grouped = data(
        pd.DataFrame({"p": [1.0, 2.0, 10.0, 20.0]}), [1.0, 3.0, 10.0, 30.0], groups=pd.Series(["a", "a", "b", "b"])
    )
    found = mealkit.RegressionEvaluator[Given]().evaluate(grouped, Given(), CONTEXT)
    assert found["mase"] == pytest.approx((0 + 1 + 0 + 10) / 4 / ((2 + 20) / 2))


def test_what_regression_data_leave_undefined_is_nan() -> None:
    found = mealkit.RegressionEvaluator[Given]().evaluate(data(pd.DataFrame({"p": [1.0]}), [0.0]), Given(), CONTEXT)
    assert found["mae"] == 1
    assert all(math.isnan(found[name]) for name in ("mape", "mase", "r2"))


def test_every_metric_has_its_direction_and_is_a_json_number() -> None:
    found = mealkit.ClassificationEvaluator[Given]().evaluate(binary(4, 50, True, [0, 1]), Given([0, 1]), CONTEXT)
    assert {metric.name: metric.direction for metric in found} == dict(DIRECTIONS["classification"])
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [entry["name"] for entry in again["metrics"]] == list(DIRECTIONS["classification"])
    assert len(found) == 6
    with pytest.raises(KeyError, match="no metric 'auc'; there are accuracy"):
        found["auc"]


def test_which_kinds_have_a_ready_evaluator() -> None:
    assert isinstance(default_evaluator("classification"), mealkit.ClassificationEvaluator)
    assert isinstance(default_evaluator("regression"), mealkit.RegressionEvaluator)
    assert isinstance(default_evaluator("clustering"), mealkit.ClusteringEvaluator)
    assert isinstance(default_evaluator("ranking"), mealkit.RankingEvaluator)
    assert default_evaluator("custom") is None
