"""The sample's columns in the kinds that were found: numbers, labels, times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from mealkit_runtime.convert import convert

from .tally import NUMBERS, TIMES, Tally

PARTS = 20
"""Into so many parts the sample is cut to show where values are missing."""


class View:
    """One column of the sample.

    Args:
        array: As it was kept; None: the column is of a kind that is not kept.
        tally: What all rows told of the column.
        rows: The sample's rows.
    """

    def __init__(self, array: Any, tally: Tally, rows: int) -> None:
        self.name = tally.name
        self.kind = tally.kind
        self.rows = rows
        self._array = array
        self._text = tally.text

    @cached_property
    def typed(self) -> Any:
        """The column in its kind; missing values are null."""
        if self._array is None or self.kind is None:
            return pa.nulls(self.rows, pa.string())
        array = self._array
        if self._text and self.kind not in ("str", "other"):
            array = convert(array, "datetime" if self.kind in TIMES else self.kind, text=True)
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array

    @cached_property
    def missing(self) -> Any:
        """Whether each row has no value."""
        if self._array is None and self.kind == "other":
            return np.zeros(self.rows, dtype=bool)
        missing = self.typed.is_null().to_numpy(zero_copy_only=False)
        return missing | np.isnan(self.numbers) if self.kind in NUMBERS else missing

    @cached_property
    def numbers(self) -> Any:
        """A column of numbers as floats; NaN where there is none."""
        return self.typed.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)

    @cached_property
    def finite(self) -> Any:
        """The numbers that are there and not infinite."""
        return self.numbers[np.isfinite(self.numbers)]

    @cached_property
    def labels(self) -> Any:
        """The values as texts, None where there is none."""
        return self.typed.cast(pa.string()).to_numpy(zero_copy_only=False)

    def missing_by_part(self, parts: int = PARTS) -> tuple[float, ...]:
        """The share of missing values in each part of the sample."""
        return tuple(float(part.mean()) for part in np.array_split(self.missing, min(parts, self.rows)) if len(part))


def views(table: Any, tallies: Mapping[str, Tally]) -> dict[str, View]:
    """The sample's columns by name."""
    there = set(table.column_names)
    return {name: View(table[name] if name in there else None, tally, len(table)) for name, tally in tallies.items()}
