"""What an evaluation says: metrics with their direction, curves and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from mealkit._value import asdict, dataclass

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
}
"""The metrics of the ready evaluators by kind of recipe, each with its better direction."""


@dataclass(frozen=True)
class Metric:
    """One number and which way is better.

    Attributes:
        name: A short lower-case name, such as ``roc_auc``.
        value: The number; NaN where it is not defined for the data.
        direction: ``maximize`` or ``minimize``.
    """

    name: str
    value: float
    direction: Direction


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
        """Metrics, curves and tables as JSON values; a NaN becomes null."""

        def clean(value: Any) -> Any:
            if isinstance(value, float):
                return value if value == value and abs(value) != float("inf") else None
            if isinstance(value, Mapping):
                return {key: clean(item) for key, item in value.items()}
            if isinstance(value, Sequence) and not isinstance(value, str):
                return [clean(item) for item in value]
            return value

        return {
            "metrics": [clean(asdict(metric)) for metric in self.values],
            "curves": [clean(asdict(curve)) for curve in self.curves],
            "tables": [clean(asdict(table)) for table in self.tables],
        }
