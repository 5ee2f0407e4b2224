"""Applies a query while a dataset is read: which files and row groups are opened, which columns and rows are taken.

A condition is judged on values in the types that the recipe gets (:mod:`mealkit_runtime.convert`), so every format
selects the same rows. What a file, row group or path tells of its values is used first, so that what cannot hold is
never read.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mealkit.errors import SchemaError, SettingsError

from .condition import EVERY, Among, Both, Bounds, Compare, Condition, Leaf, Missing, can_hold, leaves
from .convert import ARROW, Unconvertible, attempt, convert, is_text, kind_of
from .likeness import listed, nearest
from .query import Query, moment
from .salvage import salvage

if TYPE_CHECKING:
    from .data_file import DataFile
    from .schema import Schema

_FAMILIES = {"int": "number", "float": "number", "date": "time", "datetime": "time", "str": "text", "bool": "bool"}


class Selection:
    """One reading of a dataset; counts rows, so each reading needs its own.

    Args:
        query: What is asked.
        schema: What the recipe wants; a declared type is the one that conditions are judged in.
        total: How many rows fulfil the condition, where a whole number of them is sampled.
    """

    def __init__(self, query: Query, schema: Schema, total: int | None = None) -> None:
        self.query = query
        self.schema = schema
        self.condition = query.condition
        self._chosen = None if query.columns is None else frozenset(query.columns)
        self.declared = {column.name: column for column in schema.columns if column.kind != "any"}
        self.literals: dict[str, list[Any]] = {}
        for leaf in leaves(self.condition):
            self.literals.setdefault(leaf.column, []).extend(_values(leaf))
        self._sampler = None if query.sample is None else _Sampler(query, total)
        self._left = query.limit

    def done(self) -> bool:
        """Whether no further row will be taken."""
        return self._left == 0

    def needed(self, file: DataFile) -> set[str]:
        """The columns that must stand in a file."""
        declared = {column.name for column in self.schema.columns if column.required}
        return {*declared, *(self.query.columns or ()), *self.literals} - file.partition.keys()

    def columns(self, present: Sequence[str], file: DataFile) -> list[str]:
        """The columns to read of those that stand in a file: what the recipe wants, then what a condition asks for.

        Never none: a table without columns would not know how many rows it has.

        Raises:
            SchemaError: one that is needed is neither there nor named by the file's path.
        """
        given = file.partition
        every = [*(name for name in present if name not in given), *given]
        there = set(every)
        for name in (*(self.query.columns or ()), *self.literals):
            if name not in there:
                raise _absent(name, every, file.name)
        chosen = self._chosen
        wanted = self.schema.wanted([name for name in every if chosen is None or name in chosen], file.name)
        names = [name for name in dict.fromkeys([*wanted, *self.literals]) if name not in given]
        return names or list(present[:1])

    def may_hold(self, bounds: Mapping[str, Bounds], kinds: Mapping[str, str]) -> bool:
        """Whether rows with values within ``bounds`` can be chosen.

        Args:
            bounds: By column; see :func:`~mealkit_runtime.condition.can_hold`.
            kinds: The kind of each column's values in the file.
        """
        if self.condition is None:
            return True
        usable: dict[str, Bounds] = {}
        for name in self.literals.keys() & bounds.keys():
            kind, found = self._kind(name, kinds.get(name, "any")), kinds.get(name, "any")
            least, greatest, missing = bounds[name]
            try:
                if _FAMILIES.get(kind) == _FAMILIES.get(found) is not None:
                    usable[name] = (
                        _bound(least, kind),
                        _bound(greatest, kind),
                        None if kind == "float" and missing != EVERY else missing,
                    )
                    for value in self.literals[name]:
                        _literal(name, value, kind)
            except (TypeError, ValueError, OverflowError, SettingsError):
                usable.pop(name, None)  # whoever compares the values will tell what is wrong
        kind_by_name = {name: self._kind(name, kinds.get(name, "any")) for name in usable}
        return can_hold(self.condition, usable, lambda name, value: _literal(name, value, kind_by_name[name]))

    def choose(self, table: Any, file: DataFile, first_row: int, *, text: bool) -> tuple[Any, Any]:
        """The chosen rows of a table, and their numbers in the file; None for numbers that follow each other.

        Args:
            table: With the columns that :meth:`columns` named.
            file: Where it is from.
            first_row: The number of the table's first row.
            text: The format has no types (CSV).

        Raises:
            SchemaError: a value cannot be compared.
            SettingsError: a column is compared with a literal of another kind.
        """
        if self._left is not None and self.condition is None and self._sampler is None and file.kept is None:
            table = table.slice(0, self._left)
            self._left -= len(table)
            return table, None
        if self.query.every_row and file.kept is None:
            return table, None
        rows = _numbers(first_row, len(table))
        if file.kept is not None:
            mask = _fitting(file.kept.slice(first_row - 1, len(table)), len(table))
            table, rows = table.filter(mask), rows.filter(mask)
        if self.condition is not None:
            mask = self._mask(self.condition, self._typed(table, file.name, rows, text)).combine_chunks()
            table, rows = table.filter(mask), rows.filter(mask)
        if self._sampler is not None:
            mask = self._sampler.take(len(table))
            table, rows = table.filter(mask), rows.filter(mask)
        if self._left is not None:
            table, rows = table.slice(0, self._left), rows.slice(0, self._left)
            self._left -= len(table)
        return table, rows

    def project(self, table: Any) -> Any:
        """A table without the columns that only a condition asked for."""
        chosen = self._chosen
        return table if chosen is None else table.select([name for name in table.column_names if name in chosen])

    def _kind(self, name: str, found: str) -> str:
        return self.declared[name].kind if name in self.declared else found

    def _typed(self, table: Any, where: str, rows: Any, text: bool) -> dict[str, tuple[Any, Any, str]]:
        """Each asked column as ``(values in the recipe's type, mask of what cannot be converted or None, kind)``."""
        typed: dict[str, tuple[Any, Any, str]] = {}
        for name, literals in self.literals.items():
            array, column = table[name], self.declared.get(name)
            if column is None:
                kind = _guess(array, literals, text)
                if kind == "any" and literals:
                    raise SettingsError(
                        f"the column {name!r} cannot be compared: it holds {array.type}",
                        where=f"where: {name}",
                        hint="compare plain columns; --flatten makes such of nested ones",
                    )
            else:
                kind = column.kind
                if text and kind == "str" and not column.nullable:
                    array = pc.fill_null(array, "")  # as the schema reads it
            bad = None
            try:
                values = convert(array, kind, text=text or column is None)
            except Unconvertible as error:
                if column is not None:
                    values, mask = salvage(array, kind, text=text)
                    bad = pa.array(mask)
                elif literals:
                    raise SchemaError(
                        f"the column {name!r} is {error.value!r}, which cannot be compared with {literals[0]!r}",
                        where=f"{where}, row {rows[error.row].as_py():,}, column {name}",
                        hint="mend the value, or declare the column in the recipe's row schema",
                    ) from None
                else:
                    values = array  # only whether it is missing is asked
            if kind == "float":
                values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
            for value in literals:
                _literal(name, value, kind)
            typed[name] = (values, bad, kind)
        return typed

    def _mask(self, condition: Condition, typed: Mapping[str, Any]) -> Any:
        if isinstance(condition, Both):
            masks = [self._mask(part, typed) for part in condition.parts]
            join = pc.and_kleene if condition.word == "and" else pc.or_kleene
            found = masks[0]
            for mask in masks[1:]:
                found = join(found, mask)
            return found
        values, bad, kind = typed[condition.column]
        found = _leaf(condition, values, kind)
        # A value that is against the declaration is kept, so that the check of the schema can tell of it.
        return found if bad is None else pc.or_kleene(found, bad)


def _leaf(leaf: Leaf, values: Any, kind: str) -> Any:
    if isinstance(leaf, Missing):
        return pc.is_valid(values) if leaf.negated else pc.is_null(values)
    if isinstance(leaf, Among):
        allowed = [_literal(leaf.column, value, kind) for value in leaf.values]
        if kind == "int":
            allowed = [value for value in allowed if isinstance(value, int) and _fits(value)]
        if kind == "float":  # is_in, which hashes, tells -0.0 from 0.0
            values, allowed = pc.add(values, 0.0), [value + 0.0 for value in allowed]
        found = pc.is_in(values, pa.array(allowed, ARROW[kind]))
        return pc.and_(pc.is_valid(values), pc.invert(found)) if leaf.negated else found
    value = _literal(leaf.column, leaf.value, kind)
    if kind == "int":
        return _compare_whole(leaf.sign, values, value)
    return _SIGNS[leaf.sign](values, pa.scalar(value, ARROW[kind]))


def _compare_whole(sign: str, values: Any, value: int | float) -> Any:
    """Whole numbers compared with any number exactly; Arrow would compare them as floats."""
    if sign in ("=", "!="):
        equal = isinstance(value, int) and _fits(value)
        verdict = None if equal else sign == "!="
    else:
        # x < 2.5 is x < 3, and x <= 2.5 is x <= 2.
        if isinstance(value, float) and math.isfinite(value):
            value = math.ceil(value) if sign in ("<", ">=") else math.floor(value)
        verdict = None if _fits(value) else (value > 0) == (sign in ("<", "<="))
    if verdict is None:
        return _SIGNS[sign](values, pa.scalar(value, pa.int64()))
    return pc.is_valid(values) if verdict else pc.and_(pc.is_valid(values), False)


def _fits(value: int | float) -> bool:
    """Whether it is in the range of 64 bits."""
    return -(2**63) <= value < 2**63


_SIGNS = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def _values(leaf: Leaf) -> tuple[Any, ...]:
    if isinstance(leaf, Compare):
        return (leaf.value,)
    return leaf.values if isinstance(leaf, Among) else ()


def _guess(array: Any, literals: Sequence[Any], text: bool) -> str:
    """The kind in which an undeclared column is compared: that of its type; of a text, that of the literals."""
    kind = kind_of(array.type)
    if pa.types.is_null(array.type):
        return _kind_of(literals[0]) if literals else "str"
    if kind != "str" or not literals or not is_text(_plain_type(array.type)):
        return kind
    asked = _kind_of(literals[0])
    if asked == "datetime":
        return asked
    if not text or asked in ("str", "bool"):
        return asked if text else kind
    return "float" if attempt(array, "int", text=True) is None else "int"


def _plain_type(arrow_type: Any) -> Any:
    return arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "float"
    return "datetime" if isinstance(value, dt.datetime) else "str"


def _literal(name: str, value: Any, kind: str) -> Any:
    """A literal in the type of a column's kind.

    Raises:
        SettingsError: it is of another kind.
    """
    if kind in ("int", "float") and isinstance(value, int | float) and not isinstance(value, bool):
        if kind == "float":
            return float(value)
        return int(value) if isinstance(value, int) or value.is_integer() else value
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "bool" and (isinstance(value, bool) or value in (0, 1)):
        return bool(value)
    if kind in ("date", "datetime"):
        found = moment(value) if isinstance(value, str) else value
        if isinstance(found, dt.datetime):
            return found
    holds = {"int": "whole numbers", "float": "numbers", "str": "texts", "bool": "true and false"}.get(kind, "times")
    hints = {
        "str": "write the value in quotes",
        "date": "write a time in quotes, such as '2026-01-31'",
        "datetime": "write a time in quotes, such as '2026-01-31T12:00:00Z'",
        "bool": "compare it with true or false",
    }
    raise SettingsError(
        f"the column {name!r} holds {holds}, and is compared with {value!r}",
        where=f"where: {name}",
        hint=hints.get(kind, "write a number without quotes"),
    )


def _bound(value: Any, kind: str) -> Any:
    """A least or greatest value as the values themselves are compared; None: not known.

    Raises:
        TypeError: it is not of the kind.
        ValueError: as TypeError.
    """
    if value is None or value != value:  # NaN tells nothing
        return None
    if kind == "int" and not _fits(value):
        raise ValueError(value)  # such values cannot be compared, which whoever reads them tells
    if kind in ("int", "float"):
        return float(value) if kind == "float" else int(value)
    if kind in ("date", "datetime"):
        if hasattr(value, "to_pydatetime"):  # pandas' time has nanoseconds, of which we keep no parts
            value = value.floor("us").to_pydatetime()
        if isinstance(value, dt.datetime):
            return value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)
        return dt.datetime.combine(value, dt.time())
    if not isinstance(value, str if kind == "str" else bool):
        raise TypeError(kind)
    return value


def _absent(name: str, present: Sequence[str], where: str) -> SchemaError:
    near = nearest(name, present)
    return SchemaError(
        f"the column {name!r}, which the query names, is missing",
        where=f"{where}, column {name}",
        hint=f"did you mean {near!r}?" if near else f"the file has: {listed(present)}",
    )


def _fitting(mask: Any, rows: int) -> Any:
    """A mask of so many rows: those behind its end count."""
    return mask if len(mask) == rows else pa.concat_arrays([mask, pa.repeat(pa.scalar(True), rows - len(mask))])


def _numbers(first: int, count: int) -> Any:
    import numpy as np

    return pa.array(np.arange(first, first + count, dtype=np.int64))


class _Sampler:
    """Takes rows by their place among those that fulfil the condition: no format or batch size changes the choice."""

    def __init__(self, query: Query, total: int | None) -> None:
        import numpy as np

        random = np.random.default_rng((query.sample_seed, 0x6D65616C))
        self.at = 0
        self.fraction: float | None = None
        self.random = random
        if isinstance(query.sample, float):
            self.fraction = query.sample
        else:
            assert total is not None, "a number of rows is sampled of a known total"
            assert query.sample is not None
            wanted = min(query.sample, total)
            self.places = np.sort(random.choice(total, wanted, replace=False, shuffle=False))

    def take(self, rows: int) -> Any:
        import numpy as np

        if self.fraction is not None:
            return pa.array(self.random.random(rows) < self.fraction)
        first, last = np.searchsorted(self.places, (self.at, self.at + rows))
        mask = np.zeros(rows, dtype=bool)
        mask[self.places[first:last] - self.at] = True
        self.at += rows
        return pa.array(mask)
