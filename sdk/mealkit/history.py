"""The history of a training: the metrics that it logs, by step, and the rules that tell when they no longer improve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mealkit._value import asdict, dataclass

from .errors import SettingsError
from .metrics import Direction

POINTS = 500
"""Values kept of one metric at most: when there are more, every second one is dropped, evenly over the steps."""

NAMES = 200
"""Metrics kept at most; those that come later are told, but not remembered."""


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop: a logged metric has not improved for some time.

    .. code-block:: python

        early = context.watch(mealkit.EarlyStopping("validation_loss", patience=5))
        for epoch in range(1, 101):
            ...
            context.log_metric("validation_loss", loss, epoch)
            if early.stop or context.stop_requested:
                break

    Attributes:
        metric: The name that :meth:`mealkit.Context.log_metric` is told.
        patience: How many values in a row may bring no improvement (≥ 1).
        min_delta: By how much a value must be better than the best to count as an improvement (≥ 0).
        direction: ``minimize`` or ``maximize``.
    """

    metric: str
    patience: int = 5
    min_delta: float = 0.0
    direction: Direction = "minimize"

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_delta < 0 or self.direction not in ("minimize", "maximize"):
            raise SettingsError(
                f"not a rule for early stopping: {self}",
                hint="patience is 1 or more, min_delta 0 or more, direction minimize or maximize",
            )


class Watch:
    """What a rule has seen so far.

    Attributes:
        rule: The rule.
        best: The best value; None before the first.
        best_step: Its step.
        waited: Values since then.
        step: The step of the last value.
    """

    def __init__(self, rule: EarlyStopping) -> None:
        self.rule = rule
        self.best: float | None = None
        self.best_step: int | None = None
        self.waited = 0
        self.step: int | None = None

    @property
    def stop(self) -> bool:
        """Whether the metric has not improved for as long as the rule allows."""
        return self.waited >= self.rule.patience

    @property
    def improved(self) -> bool:
        """Whether the last value was the best so far."""
        return self.step is not None and self.step == self.best_step

    def see(self, value: float, step: int) -> None:
        """Take note of a value; one that is not a number is no improvement."""
        self.step = step
        sign = 1 if self.rule.direction == "minimize" else -1
        if not math.isnan(value) and (self.best is None or sign * (self.best - value) > self.rule.min_delta):
            self.best, self.best_step, self.waited = value, step, 0
        else:
            self.waited += 1

    def to_json(self) -> dict[str, Any]:
        """The rule, what it has seen, and whether it said stop."""
        seen = {"best": self.best, "best_step": self.best_step, "waited": self.waited, "step": self.step}
        return {**asdict(self.rule), **seen, "stopped": self.stop}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_json` gave."""
        self.best, self.best_step = state["best"], state["best_step"]
        self.waited, self.step = state["waited"], state["step"]


class _Series:
    """One metric's values, thinned to :data:`POINTS`; the last one is always kept."""

    def __init__(self) -> None:
        self.count = 0
        self.stride = 1
        self.points: list[tuple[int, float]] = []
        self.last: tuple[int, float] | None = None

    def add(self, value: float, step: int | None) -> int:
        step = self.count if step is None else step
        self.last = (step, value)
        if self.count % self.stride == 0:
            self.points.append(self.last)
            if len(self.points) > POINTS:
                self.points = self.points[::2]
                self.stride *= 2
        self.count += 1
        return step

    def all(self) -> list[tuple[int, float]]:
        if self.last is None or (self.points and self.points[-1] == self.last):
            return list(self.points)
        return [*self.points, self.last]


class History:
    """The values of a run's metrics, in the order in which they were logged; its size is bounded."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        self._watches: dict[EarlyStopping, Watch] = {}

    def add(self, name: str, value: float, step: int | None = None) -> None:
        """A metric has this value; values without a step are counted from 0."""
        if name not in self._series:
            if len(self._series) >= NAMES:
                return
            self._series[name] = _Series()
        step = self._series[name].add(value, step)
        for watch in self._watches.values():
            if watch.rule.metric == name:
                watch.see(value, step)

    def watch(self, rule: EarlyStopping) -> Watch:
        """The watch of a rule; the same rule gives the same watch, also after a training was resumed."""
        if rule not in self._watches:
            self._watches[rule] = watch = Watch(rule)
            for step, value in self.points(rule.metric):
                watch.see(value, step)
        return self._watches[rule]

    def points(self, name: str) -> list[tuple[int, float]]:
        """``(step, value)`` of a metric as far as they are kept."""
        return self._series[name].all() if name in self._series else []

    def to_json(self) -> dict[str, list[list[float | None]]]:
        """``{metric: [[step, value], …]}``; a value that is no finite number is null."""
        return {
            name: [[step, value if math.isfinite(value) else None] for step, value in series.all()]
            for name, series in self._series.items()
        }

    def watches(self) -> list[dict[str, Any]]:
        """What each rule has seen."""
        return [watch.to_json() for watch in self._watches.values()]

    def state(self) -> dict[str, Any]:
        """All of it as JSON values, for a checkpoint; numbers that are not finite are written as Python reads them."""
        return {
            "series": {name: vars(series) for name, series in self._series.items()},
            "watches": self.watches(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave; watches that were handed out stay the same objects."""
        self._series = {}
        for name, found in state["series"].items():
            series = self._series[name] = _Series()
            series.count, series.stride = found["count"], found["stride"]
            series.points = [(step, value) for step, value in found["points"]]
            series.last = None if found["last"] is None else (found["last"][0], found["last"][1])
        for found in state["watches"]:
            rule = EarlyStopping(found["metric"], found["patience"], found["min_delta"], found["direction"])
            self._watches.setdefault(rule, Watch(rule)).restore(found)
