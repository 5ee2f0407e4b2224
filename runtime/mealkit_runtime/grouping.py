"""Sorts a dataset of any size by a column, so that rows which belong together stand together; DuckDB does the work.

It sorts in a bounded part of the memory and puts the rest into a temporary folder. Rows of one value keep the order in
which they came. DuckDB is not part of an image: a recipe that needs it names it among its dependencies.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from mealkit.errors import SchemaError, StorageError, storage_error

from .staging import locked_folder, remove_dead
from .stop import Stopper

_PREFIX = "mealkit-group-"
_MEMORY = 1 << 30
"""Bytes that the engine may take, where there is as much four times."""

_LEAST = 256 << 20
_THREADS = 4


def has_engine() -> bool:
    """Whether DuckDB is installed."""
    return importlib.util.find_spec("duckdb") is not None


class Sorter:
    """Sorts one stream of tables.

    Args:
        column: The column to sort by; missing values come last.
        rows: How many rows the tables have that it gives.
        folder: Takes what does not fit into the memory.
        memory: Bytes; None: what this machine can spare.
    """

    def __init__(self, column: str, rows: int, folder: Path, memory: int | None = None) -> None:
        self.column = column
        self.rows = rows
        self.folder = folder
        self.memory = memory or _spare_memory()
        self._connection: Any = None
        self._problem: BaseException | None = None

    def sort(self, tables: Iterator[Any]) -> Iterator[Any]:
        """The rows of all ``tables``, which have one schema, sorted.

        Raises:
            SchemaError: a table has other types than the first.
            StorageError: the disk is full.
        """
        import duckdb

        first = next(tables, None)
        if first is None:
            return
        # DuckDB does not tell names apart that differ in case only, and has no type for columns without values.
        kept = [field.name for field in first.schema if not pa.types.is_null(field.type)]
        names = {name: f"c{position}" for position, name in enumerate(kept)}
        schema = pa.schema([first.schema.field(name) for name in kept])
        numbered = pa.schema([*(field.with_name(names[field.name]) for field in schema), pa.field("row", pa.int64())])
        reader = pa.RecordBatchReader.from_batches(numbered, self._feed(chain([first], tables), schema, numbered))
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{self.memory >> 20}MB",
            "temp_directory": str(self.folder),
            "threads": min(_THREADS, len(os.sched_getaffinity(0))),
            "preserve_insertion_order": False,  # the column `row` tells it
        }
        self._connection = duckdb.connect(":memory:", config=settings)
        try:
            self._connection.register("input", reader)
            chosen = ", ".join(names.values())
            # A column that has no value at all puts all rows into one group.
            by = f"{names[self.column]} nulls last, row" if self.column in names else "row"
            query = f"select {chosen} from input order by {by}"  # noqa: S608 (names of ours alone)
            result = self._connection.sql(query)
            read = getattr(result, "to_arrow_reader", None) or result.fetch_arrow_reader  # the name before DuckDB 2
            for batch in read(self.rows):
                table = pa.Table.from_batches([batch]).rename_columns(kept).cast(schema)
                for position, field in enumerate(first.schema):
                    if field.name not in names:
                        table = table.add_column(position, field, pa.nulls(len(table), field.type))
                yield table
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            if self._problem is not None:  # what the reader of the dataset said, not what the engine made of it
                raise self._problem from None
            raise StorageError(
                f"sorting the rows by {self.column}: {str(error).strip().splitlines()[0]}",
                where=str(self.folder),
                hint="free some space there, name another folder by TMPDIR, or sort the dataset yourself",
            ) from None
        finally:
            self._connection.close()

    def cancel(self) -> None:
        """Break off the sorting that another thread does."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is over just now
                self._connection.interrupt()

    def _feed(self, tables: Iterator[Any], schema: Any, numbered: Any) -> Iterator[Any]:
        import numpy as np

        row = 0
        try:
            for table in tables:
                try:
                    same = table.select(schema.names).cast(schema)
                except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    raise SchemaError(
                        f"the files do not agree on a column's type: {error}",
                        where=f"row {row + 1:,}",
                        hint="write the column alike in every file, or declare it in the recipe's row schema",
                    ) from None
                rows = pa.array(np.arange(row, row + len(same), dtype=np.int64))
                yield from pa.table([*same.columns, rows], schema=numbered).to_batches()
                row += len(same)
        except BaseException as error:
            self._problem = error
            raise


@contextlib.contextmanager
def temporary_folder(stopper: Stopper) -> Iterator[Path]:
    """A folder that is removed at the end of the block, or when the process is ended; and those of killed runs now."""
    root = Path(tempfile.gettempdir())
    with contextlib.ExitStack() as resources:
        try:
            remove_dead(root.glob(f"{_PREFIX}*"))
            folder = locked_folder(root, _PREFIX, resources)
        except OSError as error:
            raise storage_error(error, "making a folder to sort the rows in", root) from None
        resources.callback(shutil.rmtree, folder, ignore_errors=True)
        with stopper.staging(folder):
            yield folder


def _spare_memory() -> int:
    """A quarter of the machine's memory, or of the container's, within bounds."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path(name).read_text(encoding="ascii")))
    return max(_LEAST, min(_MEMORY, memory // 4))
