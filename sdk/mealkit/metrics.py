"""What an evaluation says: metrics with their direction and interval, slices, curves and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from mealkit._value import asdict, dataclass, field

Direction = Literal["maximize", "minimize"]

DIRECTIONS: Mapping[str, Mapping[str, Direction]] = {
    "classification": {
        "accuracy": "maximize",
        "precision": "maximize",
        "recall": "maximize",
        "f1": "maximize",
        "roc_auc": "maximize",
        "log_loss": "minimize",
    },
    "regression": {
        "mae": "minimize",
        "rmse": "minimize",
        "mape": "minimize",
        "mase": "minimize",
        "r2": "maximize",
    },
    "clustering": {
        "adjusted_rand": "maximize",
        "adjusted_mutual_info": "maximize",
        "homogeneity": "maximize",
        "completeness": "maximize",
        "v_measure": "maximize",
        "silhouette": "maximize",
        "davies_bouldin": "minimize",
        "calinski_harabasz": "maximize",
    },
    "ranking": {
        "map_at_10": "maximize",
        "ndcg_at_10": "maximize",
        "mrr": "maximize",
        "precision_at_10": "maximize",
        "recall_at_10": "maximize",
    },
}
"""The metrics of the ready evaluators by kind of recipe, each with its better direction."""

WITH_TRUTH = frozenset({"adjusted_rand", "adjusted_mutual_info", "homogeneity", "completeness", "v_measure"})
"""Those of clustering that need to know which cases belong together."""


def directions(kind: str, target: str | None) -> dict[str, Direction]:
    """The metrics that a recipe's ready evaluator gives, each with its better direction.

    Args:
        kind: The recipe's kind.
        target: The name of its target; None: it has none, which only clustering can do with.
    """
    known = DIRECTIONS.get(kind, {})
    return {name: way for name, way in known.items() if target is not None or name not in WITH_TRUTH}


@dataclass(frozen=True)
class Metric:
    """One number and which way is better.

    Attributes:
        name: A short lower-case name, such as ``roc_auc``.
        value: The number; NaN where it is not defined for the data.
        direction: ``maximize`` or ``minimize``.
        low: The lower end of its confidence interval; None where none was found.
        high: The upper end.
    """

    name: str
    value: float
    direction: Direction
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Slice:
    """The metrics of a part of the cases.

    Attributes:
        column: By which column they were parted.
        value: Which of its values, or which range, the part has.
        cases: How many cases it has.
        values: Its metrics.
    """

    column: str
    value: str
    cases: int
    values: tuple[Metric, ...]


@dataclass(frozen=True)
class Bootstrap:
    """How the confidence intervals were found.

    Attributes:
        confidence: The part of such intervals that hold the true value, such as 0.95.
        resamples: How often the cases were drawn anew.
        method: ``percentile``; or ``scaled``, where each resample has fewer cases than there are.
        units: What was drawn: ``cases``, or ``groups`` of cases, each as a whole.
        drawn: How many of them each resample has.
        seed: What the draws were made from.
        replicates: The values of each metric in all resamples (None: undefined), by which two models that were judged
            on the same cases are compared in pairs.
    """

    confidence: float
    resamples: int
    method: str
    units: str
    drawn: int
    seed: int
    replicates: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Curve:
    """Points to plot, such as a ROC curve; ``x`` and ``y`` have one length."""

    name: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """Rows to show, such as a confusion matrix; every row has as many cells as ``columns``."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


@dataclass(frozen=True)
class Metrics:
    """The result of an evaluation: ``metrics["roc_auc"]`` is a number, iteration gives :class:`Metric`."""

    values: tuple[Metric, ...]
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    slices: tuple[Slice, ...] = ()
    bootstrap: Bootstrap | None = None

    def __getitem__(self, name: str) -> float:
        for metric in self.values:
            if metric.name == name:
                return metric.value
        raise KeyError(f"no metric {name!r}; there are {', '.join(m.name for m in self.values)}")

    def __iter__(self) -> Iterator[Metric]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; a NaN becomes null, and what was not asked for is left out."""
        found: dict[str, Any] = {
            "metrics": [_metric(metric) for metric in self.values],
            "curves": [_clean(asdict(curve)) for curve in self.curves],
            "tables": [_clean(asdict(table)) for table in self.tables],
        }
        if self.slices:
            found["slices"] = [
                {
                    "column": one.column,
                    "value": one.value,
                    "cases": one.cases,
                    "metrics": list(map(_metric, one.values)),
                }
                for one in self.slices
            ]
        if self.bootstrap is not None:
            found["bootstrap"] = _clean(asdict(self.bootstrap))
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Metrics:
        """The inverse of :meth:`to_json`; a null becomes NaN.

        Raises:
            ValueError: it is not of that form.
        """
        try:
            boot = value.get("bootstrap")
            return cls(
                _read_metrics(value["metrics"]),
                tuple(
                    Curve(c["name"], c["x_label"], c["y_label"], _read_numbers(c["x"]), _read_numbers(c["y"]))
                    for c in value.get("curves", ())
                ),
                tuple(
                    Table(t["name"], tuple(map(str, t["columns"])), tuple(tuple(row) for row in t["rows"]))
                    for t in value.get("tables", ())
                ),
                tuple(
                    Slice(s["column"], s["value"], int(s["cases"]), _read_metrics(s["metrics"]))
                    for s in value.get("slices", ())
                ),
                None if boot is None else Bootstrap(**{**boot, "replicates": _read_replicates(boot["replicates"])}),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"these are no metrics: {type(error).__name__}: {error}") from None


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_clean(item) for item in value]
    return value


def _metric(metric: Metric) -> dict[str, Any]:
    told = asdict(metric)
    if metric.low is None and metric.high is None:
        del told["low"], told["high"]
    cleaned: dict[str, Any] = _clean(told)
    return cleaned


def _read_metrics(values: Sequence[Mapping[str, Any]]) -> tuple[Metric, ...]:
    return tuple(
        Metric(one["name"], _read_number(one["value"]), one["direction"], one.get("low"), one.get("high"))
        for one in values
    )


def _read_number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _read_numbers(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(map(_read_number, values))


def _read_replicates(values: Mapping[str, Sequence[float | None]]) -> dict[str, tuple[float | None, ...]]:
    return {name: tuple(column) for name, column in values.items()}
