"""The objective: the metric that trials are compared by."""

from __future__ import annotations

import math
from typing import Any

from mealkit.errors import RecipeError, SettingsError
from mealkit.metrics import Direction
from mealkit.spec import RecipeSpec

_MAIN = {
    "classification": "log_loss",
    "regression": "rmse",
    "clustering": "silhouette",
    "ranking": "ndcg_at_10",
}


def find_objective(spec: RecipeSpec, wanted: str | None) -> tuple[str, Direction]:
    """The metric that trials are compared by, and its better direction.

    Raises:
        SettingsError: the recipe has no such metric, or none is named and its kind has no main one.
    """
    names = ", ".join(spec.metrics) or "none is declared under [tool.mealkit.metrics]"
    name = wanted or spec.objective
    if name is None:
        main = _MAIN.get(spec.kind)
        name = main if main in spec.metrics else next(iter(spec.metrics), None) if len(spec.metrics) == 1 else None
    if name is None:
        raise SettingsError(
            f"trials of a recipe of kind {spec.kind!r} need an objective",
            where="objective",
            hint=f"add --objective METRIC, or write objective under [tool.mealkit]; metrics: {names}",
        )
    if name not in spec.metrics:
        raise SettingsError(f"the recipe has no metric {name!r}", where="objective", hint=f"its metrics: {names}")
    return name, spec.metrics[name]


def objective_value(metrics: list[dict[str, Any]], objective: str) -> float:
    """The objective's value.

    Raises:
        RecipeError: the evaluator gave none, or it is not a number.
    """
    value = next((one["value"] for one in metrics if one["name"] == objective), None)
    if value is None or not math.isfinite(value):
        raise RecipeError(
            f"the evaluation gave no value of {objective}",
            where="objective",
            hint="is it defined for the validation data? choose another --objective",
        )
    return float(value)
