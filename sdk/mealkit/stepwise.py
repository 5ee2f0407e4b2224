"""Fits scikit-learn estimators step by step, so that a training can be watched, stopped and taken up again."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from .context import Context
from .data import Data
from .errors import RecipeError
from .history import EarlyStopping

if TYPE_CHECKING:
    from .trainer import Trainer

_WHERE = "Trainer.fit_in_steps"


def fit_in_steps(
    trainer: Trainer[Any, Any],
    model: Any,
    data: Data,
    context: Context[Any],
    *,
    steps: int,
    grow: int,
    size: str | None,
    every: int,
    early_stopping: EarlyStopping | None,
) -> Any:
    """See :meth:`mealkit.Trainer.fit_in_steps`."""
    if min(steps, grow, every) < 1:
        raise RecipeError("steps, grow and every must be 1 or more", where=_WHERE, hint="mend the call")
    model = _begin(model, context.warm_start)
    features, judged = _features(model, data, fit=context.warm_start is None)
    found = context.checkpoint.latest()
    # What stands above is done again by a resumed run, in the same way; only the last part comes from the checkpoint.
    advance = _advance(_last(model), data, features, grow, size)
    begun = 0
    if found is not None:
        begun = found.step
        model = _with_last(model, _last(trainer.load(found.folder)))
        advance = advance.on(_last(model))
    watch = None if early_stopping is None else context.watch(early_stopping)
    for step in range(begun + 1, steps + 1):
        if watch is not None and watch.stop:
            break
        advance.to(step)
        if judged is not None and data.validation is not None:
            name, value = _measure(_last(model), judged, data.validation)
            context.log_metric(name, value, step)
        context.progress(step, steps)
        over = step == steps or (watch is not None and watch.stop)
        if over or step % every == 0 or context.stop_requested:
            context.checkpoint.save(step, lambda folder: trainer.save(model, folder))
        if context.stop_requested:
            break
    return model


def _last(model: Any) -> Any:
    return model.steps[-1][1] if hasattr(model, "steps") else model


def _with_last(model: Any, estimator: Any) -> Any:
    if not hasattr(model, "steps"):
        return estimator
    model.steps[-1] = (model.steps[-1][0], estimator)
    return model


def _begin(model: Any, earlier: Any) -> Any:
    """The model to fit: a copy of the earlier one with the parameters of the new one, if there is an earlier one."""
    if earlier is None:
        return model
    if type(earlier) is not type(model) or type(_last(earlier)) is not type(_last(model)):
        raise RecipeError(
            f"the earlier model is a {_name(earlier)}, and this training makes a {_name(model)}",
            where=_WHERE,
            hint="start from a model of the same kind, or without --warm-start",
        )
    begun = copy.deepcopy(earlier)
    _last(begun).set_params(**_last(model).get_params(deep=False))
    return begun


def _name(model: Any) -> str:
    return (
        " → ".join(type(part).__name__ for _, part in model.steps) if hasattr(model, "steps") else type(model).__name__
    )


def _features(model: Any, data: Data, *, fit: bool) -> tuple[Any, Any]:
    """What the last part of the model sees of the training data and of the validation data."""
    validation = None if data.validation is None else data.validation.features
    if not hasattr(model, "steps") or len(model.steps) == 1:
        return data.features, validation
    head = model[:-1]  # shares its parts with the model
    features = head.fit_transform(data.features, data.target) if fit else head.transform(data.features)
    return features, None if validation is None else head.transform(validation)


class _Passes:
    """Steps of an estimator that learns from a pass over the data."""

    def __init__(self, estimator: Any, data: Data, features: Any) -> None:
        self.estimator, self.data, self.features = estimator, data, features
        self.known: dict[str, Any] = {}
        if _classifies(estimator):
            import numpy as np

            # An earlier model keeps its classes: new ones need a new model.
            self.known["classes"] = getattr(estimator, "classes_", np.unique(data.target))
        if data.weights is not None:
            self.known["sample_weight"] = data.weights

    def on(self, estimator: Any) -> _Passes:
        return _Passes(estimator, self.data, self.features)

    def to(self, step: int) -> None:
        self.estimator.partial_fit(self.features, self.data.target, **self.known)


class _Growth:
    """Steps of an estimator that keeps what it has and adds to it."""

    def __init__(self, estimator: Any, data: Data, features: Any, grow: int, size: str, base: int) -> None:
        self.estimator, self.data, self.features = estimator, data, features
        self.grow, self.size, self.base = grow, size, base

    def on(self, estimator: Any) -> _Growth:
        return _Growth(estimator, self.data, self.features, self.grow, self.size, self.base)

    def to(self, step: int) -> None:
        self.estimator.set_params(warm_start=True, **{self.size: self.base + self.grow * step})
        weights = {} if self.data.weights is None else {"sample_weight": self.data.weights}
        self.estimator.fit(self.features, self.data.target, **weights)


def _advance(estimator: Any, data: Data, features: Any, grow: int, size: str | None) -> _Passes | _Growth:
    if size is None and hasattr(estimator, "partial_fit"):
        return _Passes(estimator, data, features)
    params = estimator.get_params(deep=False)
    if size is None:
        size = "max_iter" if type(estimator).__name__.startswith("HistGradientBoosting") else "n_estimators"
    if "warm_start" not in params or size not in params:
        raise RecipeError(
            f"a {type(estimator).__name__} cannot be fitted in steps",
            where=_WHERE,
            hint="use an estimator with partial_fit or warm_start, or save checkpoints with context.checkpoint",
        )
    return _Growth(estimator, data, features, grow, size, _grown(estimator))


def _grown(estimator: Any) -> int:
    """How large an estimator is already: 0 for a new one."""
    if hasattr(estimator, "n_iter_"):
        return int(estimator.n_iter_)
    return len(getattr(estimator, "estimators_", ()))


def _classifies(estimator: Any) -> bool:
    from sklearn.base import is_classifier

    return bool(is_classifier(estimator))


def _measure(estimator: Any, features: Any, validation: Data) -> tuple[str, float]:
    import numpy as np
    from sklearn import metrics

    truth, weights = validation.target, validation.weights
    if not _classifies(estimator):
        error = metrics.mean_squared_error(truth, estimator.predict(features), sample_weight=weights)
        return "validation_rmse", math.sqrt(error)
    if hasattr(estimator, "predict_proba"):
        classes = estimator.classes_
        if not np.isin(truth, classes).all() or len(classes) < 2:
            return "validation_log_loss", math.nan
        probability = estimator.predict_proba(features)
        return "validation_log_loss", float(metrics.log_loss(truth, probability, labels=classes, sample_weight=weights))
    return "validation_error", 1 - float(
        metrics.accuracy_score(truth, estimator.predict(features), sample_weight=weights)
    )
