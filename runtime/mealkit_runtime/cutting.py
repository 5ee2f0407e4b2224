"""A dataset's batches, for scoring: read, cut, and sorted before if the rows that belong together do not stand so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mealkit.errors import SettingsError

from .dataset import Source, pieces
from .grouping import Sorter, has_engine, temporary_folder
from .run import Run
from .stream import Scattered, batches

if TYPE_CHECKING:
    from .bad_row import BadRows
    from .schema import Schema


class Batches:
    """Arrow tables of ``--batch-rows`` rows; may be iterated in any thread, once.

    Args:
        run: Its settings.
        source: The dataset.
        schema: What the tables conform to.
        together: The column whose equal values stay in one batch.
        bad_rows: The ledger of rows that the schema refuses.

    Raises:
        SettingsError: the dataset is to be sorted, and there is no engine for that.
    """

    def __init__(self, run: Run, source: Source, schema: Schema, together: str | None, bad_rows: BadRows) -> None:
        self._run = run
        self._source = source
        self._schema = schema
        self._together = together
        self._bad_rows = bad_rows
        self._rows = run.config.batch_rows
        self._sorter: Sorter | None = None
        if together is not None and run.config.group == "engine" and not has_engine():
            raise SettingsError(
                "there is no engine to sort the dataset with: duckdb is not installed",
                where="group",
                hint=f"add duckdb to the recipe's dependencies, or sort the dataset by {together}",
            )

    def __iter__(self) -> Iterator[Any]:
        tables = self._cut()
        while True:
            with self._run.timed("read"):
                table = next(tables, None)
            if table is None:
                return
            yield table
            del table

    def cancel(self) -> None:
        """Break off what another thread waits for."""
        if self._sorter is not None:
            self._sorter.cancel()

    def _cut(self) -> Iterator[Any]:
        if self._must_sort():
            assert self._together is not None
            with temporary_folder(self._run.stopper) as folder:
                self._sorter = Sorter(self._together, self._rows, folder)
                tables = self._sorter.sort(self._all())
                # What the engine gives stands together; it need not be looked at again.
                yield from batches(tables, self._rows, self._together, lambda: (), self._source.uri)
            return
        yield from batches(self._all(), self._rows, self._together, self._column, self._source.uri)

    def _all(self) -> Iterator[Any]:
        return pieces(self._source, self._schema, self._rows, self._bad_rows)

    def _column(self) -> Iterator[Any]:
        """The column by which rows stand together, of the same rows."""
        from .schema import Schema

        if self._bad_rows.policy != "fail":  # which rows are left out depends on all columns
            return pieces(self._source, self._schema, self._rows, self._bad_rows.again())
        columns = tuple(column for column in self._schema.columns if column.name == self._together)
        return pieces(self._source, Schema(columns, open=False), self._rows)

    def _must_sort(self) -> bool:
        """Whether the rows must be sorted: as it was told, or because one look at the column says so."""
        if self._together is None or self._run.config.group == "sorted" or not has_engine():
            return False
        if self._run.config.group == "engine":
            return True
        try:
            for _ in batches(self._column(), self._rows, self._together, self._column):
                pass
        except Scattered:
            return True
        return False
