"""What is measured of a column's values while they pass: numbers, texts, times; each with its number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .moment import Moments

DAY = 86_400_000_000
"""Microseconds of a day."""

_DAYS = 200_000
"""So many different days are told apart."""


class NumberMeasure:
    """Moments and extremes of numbers; infinite ones are only counted."""

    def __init__(self) -> None:
        self.moments = Moments()
        self.minimum: Any = None
        self.maximum: Any = None
        self.zeros = self.negatives = self.infinite = 0

    def add(self, values: Any, counts: Any) -> Any:
        """An Arrow array of different numbers; gives them as floats, NaN where one is missing."""
        floats = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        finite = np.isfinite(floats)
        self.moments.add(floats[finite], counts[finite])
        self.infinite += int(counts[np.isinf(floats)].sum())
        self.zeros += int(counts[floats == 0].sum())
        self.negatives += int(counts[finite & (floats < 0)].sum())
        if pa.types.is_integer(values.type):  # exactly, also beyond 2**53
            ends = pc.min_max(values).as_py()
            self._widen(ends["min"], ends["max"])
        elif finite.any():
            self._widen(float(floats[finite].min()), float(floats[finite].max()))
        return floats

    def _widen(self, low: Any, high: Any) -> None:
        if low is not None:
            self.minimum = low if self.minimum is None else min(self.minimum, low)
            self.maximum = high if self.maximum is None else max(self.maximum, high)


class TextMeasure:
    """Lengths of texts in characters, blanks around them, and empty ones."""

    def __init__(self) -> None:
        self.lengths = Moments()
        self.shortest: int | None = None
        self.longest = self.blanks = self.empty = 0

    def add(self, values: Any, counts: Any) -> None:
        """An Arrow array of different texts, none missing."""
        lengths = pc.utf8_length(values).to_numpy(zero_copy_only=False)
        self.lengths.add(lengths.astype(np.float64), counts)
        self.shortest = int(lengths.min()) if self.shortest is None else min(self.shortest, int(lengths.min()))
        self.longest = max(self.longest, int(lengths.max()))
        padded = pc.not_equal(pc.utf8_trim_whitespace(values), values).to_numpy(zero_copy_only=False)
        self.blanks += int(counts[padded].sum())
        self.empty += int(counts[lengths == 0].sum())


class TimeMeasure:
    """First and last of times, and the days that have rows."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self.days: Any = np.array([], dtype=np.int64)
        self.too_many = False

    def add(self, values: Any) -> None:
        """An Arrow array of different times."""
        stamps = microseconds(values)
        first, last = int(stamps.min()), int(stamps.max())
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        if not self.too_many:
            self.days = np.union1d(self.days, stamps // DAY)
            if len(self.days) > _DAYS:
                self.too_many, self.days = True, self.days[:0]


def microseconds(values: Any) -> Any:
    """Times as numpy integers since 1970; missing ones are left out."""
    stamps = values.drop_null()
    zone = getattr(stamps.type, "tz", None)
    return stamps.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)
