"""Which rows have a key that an earlier row of the same dataset had: in memory that is bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mealkit.errors import SchemaError

from .salvage import as_mask

MOST = 1 << 26
"""So many keys are remembered, in 8 bytes each: half a gigabyte. Sorted keys need no memory beyond."""


class Keys:
    """The keys that were seen.

    A key of one whole number, time or date is remembered as it is. Others are remembered by a 64-bit hash: of n keys
    that all differ, two are taken for equal with a chance of n²/2⁶⁵: three in a million for ten million keys.

    Sorted arrays are kept, each more than twice as long as the next, so that a piece is looked up in a few of them.
    """

    def __init__(self, columns: tuple[str, ...], most: int = MOST) -> None:
        self.columns = columns
        self.most = most
        self._runs: list[Any] = []
        self._count = 0
        self._greatest: Any = None
        self._growing = True
        self._unsorted = False

    def repeated(self, table: Any, where: str) -> Any:
        """A mask (numpy) of the rows whose key was seen before, in this table or an earlier one; remembers the others.

        A row that lacks a part of the key is like no other.

        Raises:
            SchemaError: there are more keys than can be remembered, and they are not sorted.
        """
        mask = np.zeros(len(table), dtype=bool)
        columns = [table[name].combine_chunks() for name in self.columns]
        whole = np.ones(len(table), dtype=bool)
        for column in columns:
            if column.null_count:
                whole &= as_mask(pc.is_valid(column))
        rows = np.flatnonzero(whole)
        if not len(rows):
            return mask
        columns = [column.take(pa.array(rows)) for column in columns] if len(rows) < len(table) else columns
        self._growing = self._growing and self._grows(columns)
        if self._growing and self._count >= self.most:
            self._runs, self._unsorted = [], False
        if not self._growing and self._count >= self.most:
            raise SchemaError(
                f"there are more than {self.most:,} keys, which cannot all be remembered to find one that comes again",
                where=f"{where}, column {'+'.join(self.columns)}",
                hint=f"sort the dataset by {self.columns[0]}, or take unique=… from the row schema",
            )
        if not self._growing or self._count < self.most:
            mask[rows] = self._look_up(_numbers(columns))
        self._count += len(rows)
        return mask

    def _grows(self, columns: list[Any]) -> bool:
        """Whether the keys only grow, from the greatest one before on."""
        if len(columns) > 1 or pa.types.is_boolean(columns[0].type):
            return False
        array, before = columns[0], self._greatest
        self._greatest = array[-1]
        if before is not None and not pc.greater(array[0], before).as_py():
            return False
        return bool(pc.all(pc.less(array[:-1], array[1:]), min_count=0).as_py())

    def _look_up(self, keys: Any) -> Any:
        if self._growing:  # all new, and not looked at before one comes that is not
            self._runs.append(keys)
            self._unsorted = True
            return np.zeros(len(keys), dtype=bool)
        if self._unsorted:
            self._runs, self._unsorted = [np.sort(np.concatenate(self._runs))], False
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        again = np.zeros(len(keys), dtype=bool)
        again[1:] = ordered[1:] == ordered[:-1]
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, ordered), len(run) - 1)
            again |= run[place] == ordered
        self._runs.append(ordered[~again])
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")
        self._runs = [run for run in self._runs if len(run)]
        mask = np.zeros(len(keys), dtype=bool)
        mask[order] = again
        return mask


def _numbers(columns: list[Any]) -> Any:
    """A number for each key."""
    if len(columns) == 1 and pa.types.is_integer(columns[0].type):
        return columns[0].to_numpy(zero_copy_only=False)
    if len(columns) == 1 and pa.types.is_timestamp(columns[0].type):
        return columns[0].cast(pa.int64()).to_numpy(zero_copy_only=False)
    import pandas as pd

    frame = pd.DataFrame({str(number): column.to_pandas() for number, column in enumerate(columns)})
    return pd.util.hash_pandas_object(frame, index=False, categorize=False).to_numpy()
