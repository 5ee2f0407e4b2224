"""Evaluators: judge a model on prepared data; ready ones for classification and regression.

Those for clustering and ranking are in :mod:`mealkit.clustering` and :mod:`mealkit.ranking`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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

    Resampler = Callable[[npt.NDArray[np.int64]], Mapping[str, float]]
    """Gives the metrics of a resample, of which it is told how often each case was drawn."""

CURVE_POINTS = 200
"""Curves are thinned to at most this many points; a plot shows no more."""


class Evaluator(ABC, Generic[M]):
    """Subclass it to judge a model in your own way.

    Confidence intervals come of it: the runtime draws cases anew and lets ``evaluate`` judge each draw. The model's
    predictions are not made again for that: what ``predict``, ``predict_proba``, ``decision_function`` and
    ``transform`` gave for ``data.features`` is taken from there, case by case.

    Attributes:
        per_case: Names of methods ``(data, context)`` that give a value for each case by looking at others: what they
            gave for all data holds in resamples and slices too.
    """

    per_case: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def evaluate(self, data: Data, model: M, context: Context[Any]) -> Metrics:
        """Metrics of the model's predictions of ``data.target`` from ``data.features``."""

    def groups(self, data: Data) -> pd.Series | None:
        """What tells which cases are only drawn together; as it is ``data.groups``. None: each is drawn for itself."""
        return data.groups

    def resampler(self, data: Data, model: M, context: Context[Any]) -> Resampler | None:
        """A quick way to the metrics of resamples of ``data``; None: there is none, and ``evaluate`` is asked.

        It is only used where it gives, for the data as they are, what ``evaluate`` gives.
        """
        return None


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
        return Metrics(with_direction("classification", values), curves, (confusion,))

    def resampler(self, data: Data, model: M, context: Context[Any]) -> Resampler | None:
        """The metrics by weighted sums over the cases; None where a case is of a class that the model does not know."""
        import pandas as pd

        from .weighing import class_metrics

        classes, probabilities = self.probabilities(data.features, model)
        truth = pd.Index(classes).get_indexer(pd.Index(data.target))
        if (truth < 0).any():
            return None
        return class_metrics(truth, probabilities, self.threshold, data.weights)


class RegressionEvaluator(Evaluator[M]):
    """MAE, RMSE, MAPE, MASE and R², with predicted against actual.

    MAPE is a fraction (0.05 is 5 %) over rows whose target is not 0. MASE (Hyndman and Koehler, 2006) is the MAE
    divided by the MAE of :meth:`baseline`.
    """

    per_case: ClassVar[tuple[str, ...]] = ("baseline",)

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
        naive = np.asarray(self.baseline(data, context), dtype="float64")
        values = _regression(truth, predicted, naive, weights)
        order = np.argsort(truth, kind="stable")
        curve = curve_of("predicted_against_actual", "actual", "predicted", truth[order], predicted[order])
        return Metrics(with_direction("regression", values), (curve,))

    def resampler(self, data: Data, model: M, context: Context[Any]) -> Resampler | None:
        """The metrics by weighted sums over the cases."""
        import numpy as np

        estimator: Any = model
        truth = np.asarray(data.target, dtype="float64")
        predicted = np.asarray(estimator.predict(data.features), dtype="float64")
        weights = np.ones(len(truth)) if data.weights is None else np.asarray(data.weights, dtype="float64")
        naive = np.asarray(self.baseline(data, context), dtype="float64")
        return lambda counts: _regression(truth, predicted, naive, weights * counts)


def default_evaluator(kind: str) -> Evaluator[Any] | None:
    """The ready evaluator of a kind of recipe; None where there is none."""
    if kind == "clustering":
        from .clustering import ClusteringEvaluator

        return ClusteringEvaluator()
    if kind == "ranking":
        from .ranking import RankingEvaluator

        return RankingEvaluator()
    ready = {"classification": ClassificationEvaluator, "regression": RegressionEvaluator}
    return ready[kind]() if kind in ready else None


def with_direction(kind: str, values: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Values as metrics; the direction of each is that of its kind's, or of the one with another number at its end."""
    known = DIRECTIONS[kind]
    return tuple(
        Metric(name, float(value), known.get(name) or known[f"{name.rpartition('_')[0]}_10"])
        for name, value in values.items()
    )


def _regression(truth: Any, predicted: Any, naive: Any, weights: Any) -> dict[str, float]:
    """The metrics of a regression; what the data leave undefined is NaN."""
    import numpy as np

    error = predicted - truth
    mae = _mean(np.abs(error), weights)
    naive = np.abs(naive - truth)
    has_naive = ~np.isnan(naive)
    scale = _mean(naive[has_naive], weights[has_naive])
    nonzero = truth != 0
    spread = _mean((truth - _mean(truth, weights)) ** 2, weights)
    return {
        "mae": mae,
        "rmse": math.sqrt(_mean(error**2, weights)),
        "mape": _mean(np.abs(error[nonzero] / truth[nonzero]), weights[nonzero]),
        "mase": mae / scale if scale > 0 else math.nan,
        "r2": 1 - _mean(error**2, weights) / spread if spread > 0 else math.nan,
    }


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
        curve_of("roc", "false positive rate", "true positive rate", false_rate, true_rate),
        curve_of("precision_recall", "recall", "precision", recall[::-1], precision[::-1]),
        Curve(
            "calibration",
            "mean predicted probability",
            "fraction of positives",
            tuple(mean_probability),
            tuple(fraction),
        ),
    )


def curve_of(name: str, x_label: str, y_label: str, x: Any, y: Any) -> Curve:
    """A curve thinned to :data:`CURVE_POINTS` evenly chosen points, both ends kept."""
    import numpy as np

    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).round().astype(int))
    return Curve(
        name, x_label, y_label, tuple(map(float, np.asarray(x)[chosen])), tuple(map(float, np.asarray(y)[chosen]))
    )
