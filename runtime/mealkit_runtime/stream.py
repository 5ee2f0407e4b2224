"""Cuts a stream of tables into batches of a given size, never through a group of rows that belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mealkit.errors import DataError


def batches(
    tables: Iterable[Any],
    rows: int,
    together: str | None = None,
    again: Callable[[], Iterable[Any]] | None = None,
    where: str = "the dataset",
) -> Iterator[Any]:
    """Tables of exactly ``rows`` rows (the last may be shorter), whatever the sizes of ``tables``.

    With ``together``, rows that follow each other with one value of that column stay in one batch: batches end at the
    last change of the value within ``rows``, and a group that is longer than ``rows`` makes a longer batch.

    Args:
        tables: Arrow tables of one schema.
        rows: At least 1.
        together: The column.
        again: Reads the tables once more, for a dataset that turns out not to be sorted; None: from the memory of the
            groups seen, which then grows with their number from the start.
        where: The dataset's name, for messages.

    Raises:
        DataError: a value of ``together`` comes again after its group was over.
    """
    groups = None if together is None else _Groups(together, again, where)
    pending: list[Any] = []
    count = 0
    for table in tables:
        if not len(table):
            continue
        pending.append(table)
        count += len(table)
        while count > rows or (groups is None and count == rows):
            whole = pa.concat_tables(pending) if len(pending) > 1 else pending[0]
            cut = rows if groups is None else groups.cut(whole, rows)
            if cut is None:
                pending = [whole]
                break
            batch, rest = whole.slice(0, cut), whole.slice(cut)
            if groups is not None:
                groups.leave(batch)
            yield batch
            pending, count = ([rest] if len(rest) else []), len(rest)
    if count:
        whole = pa.concat_tables(pending)
        if groups is not None:
            groups.leave(whole)
        yield whole


class Scattered(DataError):
    """The rows of a group do not stand together."""


class _Groups:
    """Which groups are over.

    While the values only grow, the greatest tells that; no memory is needed, however many groups there are. At the
    first value that is smaller, the values before it are read again into a set, which then holds every group seen.
    """

    def __init__(self, column: str, again: Callable[[], Iterable[Any]] | None, where: str) -> None:
        self.column = column
        self.where = where
        self.again = again
        self.seen: set[Any] | None = set() if again is None else None
        self.greatest: Any = None
        self.over = 0

    def cut(self, table: Any, rows: int) -> int | None:
        """Where a batch of at most ``rows`` rows ends; else after its first group; None: that may go on."""
        ends = _runs(table[self.column])[1]
        fitting = [end for end in ends[:-1] if end <= rows]
        if fitting:
            return int(fitting[-1])
        return int(ends[0]) if len(ends) > 1 else None

    def leave(self, batch: Any) -> None:
        """The batch's groups are over."""
        values, ends = _runs(batch[self.column])
        if self.seen is None and not self._grow(values):
            self.seen = self._before()
        if self.seen is not None:
            start = 0
            for value, end in zip(values.to_pylist(), ends, strict=True):
                if value in self.seen:
                    raise Scattered(
                        f"the rows of {self.column} {value!r} do not stand together: it comes again after other rows",
                        where=f"{self.where}, row {self.over + start + 1:,}, column {self.column}",
                        hint=f"sort the dataset by {self.column} (and then by time, if the order matters), or add "
                        "duckdb to the recipe's dependencies and give --group engine",
                    )
                self.seen.add(value)
                start = end
        self.over += len(batch)

    def _grow(self, values: Any) -> bool:
        """Whether the values only grow, from the greatest one before on."""
        if values.null_count:
            return False
        first, last = values[0].as_py(), values[-1].as_py()
        if self.greatest is not None and not first > self.greatest:
            return False
        if len(values) > 1 and not pc.all(pc.less(values[:-1], values[1:])).as_py():
            return False
        self.greatest = last
        return True

    def _before(self) -> set[Any]:
        """The groups of the first ``over`` rows."""
        seen: set[Any] = set()
        left = self.over
        for table in self.again() if self.again is not None else ():
            if left <= 0:
                break
            values = pc.unique(table[self.column].slice(0, left))
            seen.update(values.to_pylist())
            left -= len(table)
        return seen


def _runs(column: Any) -> tuple[Any, list[int]]:
    """The values of a column's runs, and the row after each run's last."""
    encoded = pc.run_end_encode(column.combine_chunks(), run_end_type=pa.int64())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.values, encoded.run_ends.to_pylist()
