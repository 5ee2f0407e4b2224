"""Evaluators: judge a model on prepared data; ready ones for classification and regression."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from .context import Context
from .data import Data
from .errors import RecipeError
from .metrics import DIRECTIONS, Curve, Metric, Metrics, Table
from .trainer import M

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

CURVE_POINTS = 200
"""Curves are thinned to at most this many points; a plot shows no more."""


class Evaluator(ABC, Generic[M]):
    """Subclass it to judge a model in your own way."""

    @abstractmethod
    def evaluate(self, data: Data, model: M, context: Context[Any]) -> Metrics:
        """Metrics of the model's predictions of ``data.target`` from ``data.features``."""


class ClassificationEvaluator(Evaluator[M]):
    """Accuracy, precision, recall, F1, ROC AUC and log loss, with confusion matrix, ROC, precision-recall, calibration.

    Two classes: precision, recall and F1 are of the last class (the positive one). More classes: they are means over
    the classes, and ROC AUC is one against the rest. Definitions: scikit-learn's ``sklearn.metrics``.

    Attributes:
        threshold: With two classes: the probability from which the positive class is predicted.
    """

    threshold: ClassVar[float] = 0.5

    def probabilities(self, features: pd.DataFrame, model: M) -> tuple[list[Any], npt.NDArray[np.float64]]:
        """``(classes, probabilities)``, the latter of shape (rows, classes); as it is: ``model.predict_proba``."""
        estimator: Any = model
        if not hasattr(estimator, "predict_proba"):
            raise RecipeError(
                f"a model of type {type(model).__name__} gives no probabilities",
                where=f"{type(self).__name__}.probabilities",
                hint="override probabilities in your evaluator, or use a model with predict_proba",
            )
        return list(estimator.classes_), estimator.predict_proba(features)

    def evaluate(self, data: Data, model: M, context: Context[Any]) -> Metrics:
        """The metrics of the class docstring; those that one single class leaves undefined are NaN."""
        import numpy as np
        from sklearn import metrics as sk

        classes, probabilities = self.probabilities(data.features, model)
        truth = np.asarray(data.target)
        weights = None if data.weights is None else np.asarray(data.weights)
        binary = len(classes) == 2
        if binary:
            predicted = np.asarray(classes)[(probabilities[:, 1] >= self.threshold).astype(int)]
            scoring: dict[str, Any] = {"average": "binary", "pos_label": classes[1], "zero_division": 0}
        else:
            predicted = np.asarray(classes)[probabilities.argmax(axis=1)]
            scoring = {"average": "macro", "labels": classes, "zero_division": 0}
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            truth, predicted, sample_weight=weights, **scoring
        )
        present = len(np.unique(truth))
        auc = math.nan
        if binary and present == 2:
            auc = sk.roc_auc_score(truth == classes[1], probabilities[:, 1], sample_weight=weights)
        elif present == len(classes) > 2:
            auc = sk.roc_auc_score(truth, probabilities, multi_class="ovr", labels=classes, sample_weight=weights)
        loss = math.nan
        if len(classes) > 1:
            loss = sk.log_loss(truth, probabilities, labels=classes, sample_weight=weights)
        values = {
            "accuracy": sk.accuracy_score(truth, predicted, sample_weight=weights),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "roc_auc": auc,
            "log_loss": loss,
        }
        matrix = sk.confusion_matrix(truth, predicted, labels=classes, sample_weight=weights)
        names = [str(name) for name in classes]
        confusion = Table(
            "confusion_matrix",
            ("actual", *(f"predicted {name}" for name in names)),
            tuple((name, *(cell.item() for cell in row)) for name, row in zip(names, matrix, strict=True)),
        )
        curves: tuple[Curve, ...] = ()
        if binary and present == 2:
            curves = _binary_curves(truth == classes[1], probabilities[:, 1], weights)
        return Metrics(_with_direction("classification", values), curves, (confusion,))


class RegressionEvaluator(Evaluator[M]):
    """MAE, RMSE, MAPE, MASE and R², with predicted against actual.

    MAPE is a fraction (0.05 is 5 %) over rows whose target is not 0. MASE (Hyndman and Koehler, 2006) is the MAE
    divided by the MAE of :meth:`baseline`.
    """

    def baseline(self, data: Data, context: Context[Any]) -> pd.Series:
        """A naive prediction on the index of ``data``: the target of the row before, within its group if there are any.

        Rows that have none (NaN) do not count in the baseline's error.
        """
        if data.groups is None:
            return data.target.shift(1)
        return data.target.groupby(data.groups.to_numpy(), sort=False).shift(1)

    def evaluate(self, data: Data, model: M, context: Context[Any]) -> Metrics:
        """The metrics of the class docstring; those that the data leave undefined are NaN."""
        import numpy as np

        estimator: Any = model
        truth = np.asarray(data.target, dtype="float64")
        predicted = np.asarray(estimator.predict(data.features), dtype="float64")
        weights = np.ones(len(truth)) if data.weights is None else np.asarray(data.weights, dtype="float64")
        error = predicted - truth
        mae = _mean(np.abs(error), weights)
        naive = np.abs(np.asarray(self.baseline(data, context), dtype="float64") - truth)
        has_naive = ~np.isnan(naive)
        scale = _mean(naive[has_naive], weights[has_naive])
        nonzero = truth != 0
        spread = _mean((truth - _mean(truth, weights)) ** 2, weights)
        values = {
            "mae": mae,
            "rmse": math.sqrt(_mean(error**2, weights)),
            "mape": _mean(np.abs(error[nonzero] / truth[nonzero]), weights[nonzero]),
            "mase": mae / scale if scale > 0 else math.nan,
            "r2": 1 - _mean(error**2, weights) / spread if spread > 0 else math.nan,
        }
        order = np.argsort(truth, kind="stable")
        curve = _curve("predicted_against_actual", "actual", "predicted", truth[order], predicted[order])
        return Metrics(_with_direction("regression", values), (curve,))


def default_evaluator(kind: str) -> Evaluator[Any] | None:
    """The ready evaluator of a kind of recipe; None where there is none."""
    ready = {"classification": ClassificationEvaluator, "regression": RegressionEvaluator}
    return ready[kind]() if kind in ready else None


def _with_direction(kind: str, values: dict[str, Any]) -> tuple[Metric, ...]:
    return tuple(Metric(name, float(value), DIRECTIONS[kind][name]) for name, value in values.items())


def _mean(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0 else math.nan


def _binary_curves(truth: Any, probability: Any, weights: Any) -> tuple[Curve, ...]:
    import numpy as np
    from sklearn import metrics as sk

    false_rate, true_rate, _ = sk.roc_curve(truth, probability, sample_weight=weights)
    precision, recall, _ = sk.precision_recall_curve(truth, probability, sample_weight=weights)
    counted = np.ones(len(truth)) if weights is None else weights
    bins = np.clip((probability * 10).astype(int), 0, 9)
    filled = [number for number in range(10) if counted[bins == number].sum() > 0]
    mean_probability = [_mean(probability[bins == number], counted[bins == number]) for number in filled]
    fraction = [_mean(truth[bins == number].astype(float), counted[bins == number]) for number in filled]
    return (
        _curve("roc", "false positive rate", "true positive rate", false_rate, true_rate),
        _curve("precision_recall", "recall", "precision", recall[::-1], precision[::-1]),
        Curve(
            "calibration",
            "mean predicted probability",
            "fraction of positives",
            tuple(mean_probability),
            tuple(fraction),
        ),
    )


def _curve(name: str, x_label: str, y_label: str, x: Any, y: Any) -> Curve:
    """A curve thinned to :data:`CURVE_POINTS` evenly chosen points, both ends kept."""
    import numpy as np

    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).round().astype(int))
    return Curve(
        name, x_label, y_label, tuple(map(float, np.asarray(x)[chosen])), tuple(map(float, np.asarray(y)[chosen]))
    )
