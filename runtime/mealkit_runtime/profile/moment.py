"""Means, deviations and correlations of all rows, gathered piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

COLUMNS = 60
"""So many columns of numbers, the first ones, are correlated with each other."""


class Moments:
    """Count, mean and squared deviations of a column, merged as Chan, Golub and LeVeque (1983) do."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, values: Any, weights: Any) -> None:
        """Finite values, each with the number of its rows."""
        count = int(weights.sum())
        if not count:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float((values * (weights / count)).sum())
            squares = float((weights * (values - mean) ** 2).sum())
            step = mean - self._mean
            total = self.count + count
            self._squares += squares + step * step * (self.count * (count / total))
            self._mean += step * (count / total)
        self.count = total

    @property
    def mean(self) -> float | None:
        """The mean; None without values, or where it is beyond what a float holds."""
        return self._mean if self.count and np.isfinite(self._mean) else None

    @property
    def std(self) -> float | None:
        """The standard deviation with n - 1 below the line."""
        if self.count < 2 or not np.isfinite(self._squares):
            return None
        return float(np.sqrt(self._squares / (self.count - 1)))


class CoMoments:
    """Sums of products of columns, for each pair over the rows in which both have a finite value.

    Every column is shifted and scaled by what its first values are like, so that the sums stay exact enough.

    Args:
        columns: How many columns take part: the first ones.
        reserved: One that takes part in any case: the target.
    """

    def __init__(self, columns: int = COLUMNS, reserved: str | None = None) -> None:
        self._reserved = reserved
        self.names: list[str] = []
        self.left_out: set[str] = set()
        self._columns = columns
        self._shift, self._scale = np.zeros(columns), np.ones(columns)
        self._count, self._sum, self._square, self._product = np.zeros((4, columns, columns))

    def add(self, numbers: Mapping[str, Any]) -> None:
        """Further rows: arrays of one length; what is not finite is missing."""
        rows: list[Any] = []
        where: list[int] = []
        for name, values in numbers.items():
            place = self._place(name, values)
            if place is not None:
                where.append(place)
                rows.append(values)
        if not where:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            stack = (np.stack(rows) - self._shift[where][:, None]) / self._scale[where][:, None]
            there = np.isfinite(stack)
            stack[~there] = 0.0
            held = there.astype(np.float64)
            grid = np.ix_(where, where)
            self._count[grid] += held @ held.T
            self._sum[grid] += stack @ held.T
            self._square[grid] += (stack * stack) @ held.T
            self._product[grid] += stack @ stack.T

    def _place(self, name: str, values: Any) -> int | None:
        """The column's number; it gets one with its first finite value, if there is still room."""
        if name in self.names:
            return self.names.index(name)
        room = self._columns - (self._reserved is not None and self._reserved not in (name, *self.names))
        if len(self.names) >= room:
            self.left_out.add(name)
            return None
        finite = values[np.isfinite(values)]
        if not len(finite):
            return None
        place = len(self.names)
        with np.errstate(over="ignore", invalid="ignore"):
            shift, scale = float(finite.mean()), float(finite.std())
        self._shift[place] = shift if np.isfinite(shift) else 0.0
        self._scale[place] = scale if np.isfinite(scale) and scale > 0 else max(abs(float(finite[0])), 1.0)
        self.names.append(name)
        return place

    def pearson(self) -> dict[tuple[str, str], float | None]:
        """The correlation of each pair, both ways round; None where a column is constant over the pair's rows."""
        n = len(self.names)
        count, total, square, product = (part[:n, :n] for part in (self._count, self._sum, self._square, self._product))
        with np.errstate(all="ignore"):
            spread = count * square - total * total
            both = count * product - total * total.T
            value = both / np.sqrt(spread * spread.T)
            # A spread that is nothing but rounding belongs to a constant column.
            constant = spread <= 1e-12 * count * square
            value[constant | constant.T | (count < 2) | ~np.isfinite(value)] = np.nan
        value = np.clip(value, -1.0, 1.0)
        return {
            (one, other): None if np.isnan(value[i, j]) else 1.0 if i == j else float(value[i, j])
            for i, one in enumerate(self.names)
            for j, other in enumerate(self.names)
        }
