"""Metrics of resamples by weighted sums over the cases: what is costly is done once, each resample is a few sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def class_metrics(
    truth: npt.NDArray[np.int64], probabilities: Any, threshold: float, weights: Any
) -> Callable[[npt.NDArray[np.int64]], Mapping[str, float]]:
    """The metrics of :class:`mealkit.ClassificationEvaluator` for cases that are drawn so and so often.

    Args:
        truth: The number of each case's class.
        probabilities: Of each class, shape (cases, classes).
        threshold: Of two classes: the probability from which the second is predicted.
        weights: How much each case counts; None: all alike.
    """
    import numpy as np

    probabilities = np.asarray(probabilities)
    classes = probabilities.shape[1]
    binary = classes == 2
    base: Any = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype="float64")
    predicted = (probabilities[:, 1] >= threshold).astype(int) if binary else probabilities.argmax(axis=1)
    pair = truth * classes + predicted
    smallest = np.finfo(probabilities.dtype).eps
    loss = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], smallest, 1 - smallest))
    ranked = [1] if binary else list(range(classes)) if classes > 2 else []
    areas = [area_under_roc(truth == one, probabilities[:, one]) for one in ranked]

    def measure(counts: npt.NDArray[np.int64]) -> Mapping[str, float]:
        counted = base * counts
        total = float(counted.sum())
        if total <= 0:
            return {}
        cells = np.bincount(pair, weights=counted, minlength=classes * classes).reshape(classes, classes)
        hit, actual, called = np.diag(cells), cells.sum(axis=1), cells.sum(axis=0)
        precision, recall, f1 = _part(hit, called), _part(hit, actual), _part(2 * hit, called + actual)
        chosen = slice(1, 2) if binary else slice(None)
        present = len(np.unique(truth[counts > 0]))
        return {
            "accuracy": float(hit.sum()) / total,
            "precision": float(precision[chosen].mean()),
            "recall": float(recall[chosen].mean()),
            "f1": float(f1[chosen].mean()),
            "roc_auc": math.fsum(area(counted) for area in areas) / len(areas)
            if areas and present == classes
            else math.nan,
            "log_loss": float((loss * counted).sum()) / total if classes > 1 else math.nan,
        }

    return measure


def area_under_roc(positive: npt.NDArray[np.bool_], score: Any) -> Callable[[npt.NDArray[np.float64]], float]:
    """The area under the ROC curve for weights of the cases; equal scores count half (Mann and Whitney)."""
    import numpy as np

    levels, level = np.unique(score, return_inverse=True)

    def area(weights: npt.NDArray[np.float64]) -> float:
        good = np.bincount(level, weights=weights * positive, minlength=len(levels))
        bad = np.bincount(level, weights=weights * ~positive, minlength=len(levels))
        pairs = float(good.sum() * bad.sum())
        below = np.cumsum(bad) - bad
        return float((good * (below + bad / 2)).sum()) / pairs if pairs > 0 else math.nan

    return area


def _part(some: Any, whole: Any) -> Any:
    """``some / whole``, and 0 of nothing."""
    import numpy as np

    return np.divide(some, whole, out=np.zeros(len(whole)), where=whole > 0)
