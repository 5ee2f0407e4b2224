"""The columns that stand in the paths of a dataset's files, as hive and Delta write them: ``day=2026-01-31/``."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mealkit.errors import SchemaError

from .column import Column
from .condition import EVERY, Bounds
from .convert import ARROW, Unconvertible, convert

if TYPE_CHECKING:
    from .data_file import DataFile
    from .dataset import Source
    from .schema import Schema

_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z")
_WHOLE = re.compile(r"[+-]?\d{1,19}\Z")


class Partitions:
    """Adds the columns of a dataset's paths to its tables.

    Their type is the declared one; of an undeclared column that of a Delta table's log, else the plainest that all
    values of the dataset fit: whole numbers, dates, texts.
    """

    def __init__(self, source: Source, schema: Schema) -> None:
        self.columns = {column.name: column for column in schema.columns if column.kind != "any"}
        self.kinds: dict[str, str] = {}
        for name in source.partitions:
            if name in self.columns:
                self.kinds[name] = self.columns[name].kind
            elif source.delta is not None and source.delta.kinds.get(name, "any") != "any":
                self.kinds[name] = source.delta.kinds[name]
            else:
                self.kinds[name] = kind_of_texts(file.partition.get(name) for file in source.files)
        self.table_kinds = {} if source.delta is None else dict(source.delta.kinds)

    def add(self, table: Any, file: DataFile) -> Any:
        """A table with the columns of its file's path behind its own.

        Raises:
            SchemaError: a value is not of the declared type.
        """
        for name, value in file.partition.items():
            array = pa.repeat(self._scalar(name, value, file), len(table))
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, array)
        return table

    def bounds(self, file: DataFile) -> tuple[dict[str, Bounds], dict[str, str]]:
        """What is known of a file's values without opening it, and their kinds."""
        bounds: dict[str, Bounds] = dict(file.bounds)
        kinds = {name: self.table_kinds.get(name, "any") for name in bounds}
        for name, value in file.partition.items():
            held = self._scalar(name, value, file).as_py()
            bounds[name] = (held, held, EVERY if held is None else 0)
            kinds[name] = self.kinds[name]
        return bounds, kinds

    def _scalar(self, name: str, value: str | None, file: DataFile) -> Any:
        kind = self.kinds[name]
        if value is None:
            return pa.scalar(None, ARROW[kind])
        try:
            return convert(pa.chunked_array([pa.array([value])]), kind, text=True)[0]
        except Unconvertible:
            column = self.columns.get(name, Column(name, kind))
            raise SchemaError(
                f"the column {name!r} is {value!r} in the path, which is not {column.article}",
                where=file.name,
                hint="mend the folder's name, or the recipe's row schema",
            ) from None


def kind_of_texts(values: Iterable[str | None]) -> str:
    """The plainest kind that all values of a path's column fit."""
    known = [value for value in values if value is not None]
    if known and all(_WHOLE.match(value) and -(2**63) <= int(value) < 2**63 for value in known):
        return "int"
    return "date" if known and all(_is_day(value) for value in known) else "str"


def _is_day(value: str) -> bool:
    if not _DAY.match(value):
        return False
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return True
