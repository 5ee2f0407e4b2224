"""A column's declared rules, compiled once to checks of whole arrays."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .column import Column
from .convert import ARROW, ZONED, MixedType, attempt, cleaned, is_text, loads, value_at
from .pattern import Pattern
from .salvage import as_mask, salvage


@dataclass(frozen=True)
class Rule:
    """One thing that every value of a column must be.

    Attributes:
        name: As in the schema: ``choice``, ``ge``, ``pattern``, …
        says: The message's end, after the value: what is wrong with it.
        breaks: An Arrow mask of the values that break it; missing ones break none.
    """

    name: str
    says: str
    breaks: Callable[[Any], Any]


@dataclass(frozen=True)
class Broken:
    """Rows of a piece that break one rule.

    Attributes:
        column: The column's name; of a key of several, all of them with ``+`` between.
        rule: The rule's name; beside those of :class:`Rule` ``type``, ``missing``, ``zone`` and ``unique``.
        says: What is wrong: after the column's name and the value.
        mask: Which rows, as numpy's.
        hint: What to do.
        values: Arrays of the rows' values; several of a key of several columns.
    """

    column: str
    rule: str
    says: str
    mask: Any
    hint: str
    values: tuple[Any, ...]

    def value(self, row: int) -> object:
        """What broke the rule."""
        found = [value_at(array, row) for array in self.values]
        return found[0] if len(found) == 1 else " + ".join(map(str, found))


class Check:
    """What a column must hold, compiled."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.rules = tuple(_rules(column))
        kind = column.article + (" or missing" if column.nullable else "")
        self.hint = f"it is declared as {kind}; mend the data, or the row schema"

    def whole(self, source: Any, text: bool) -> Any | None:
        """The column in its type if every value is good, else None: all that a good piece costs."""
        typed = None if isinstance(source.type, MixedType) else attempt(source, self.column.kind, text=text)
        if typed is None or (self.column.zone is not None and _off_zone(source, self.column.zone).any()):
            return None
        typed = self._without_nan(typed)
        if typed.null_count and not self.column.nullable:
            return None
        return None if any(pc.any(rule.breaks(typed)).as_py() for rule in self.rules) else typed

    def each(self, source: Any, text: bool) -> tuple[Any, list[Broken]]:
        """The column in its type, missing what cannot be converted; and which rows break which rule."""
        column = self.column
        typed, wrong = salvage(source, column.kind, text=text)
        typed = self._without_nan(typed)
        missing = as_mask(pc.is_null(typed)) & ~wrong
        found = [Broken(column.name, "type", f"which is not {column.article}", wrong, self.hint, (source,))]
        if not column.nullable:
            hint = f"fill it, or declare {column.name}: … | None in the row schema"
            found.append(Broken(column.name, "missing", "is missing", missing, hint, (typed,)))
        if column.zone is not None:
            says = f"but must have {'a' if column.zone else 'no'} zone"
            off = _off_zone(source, column.zone) & ~wrong & ~missing
            found.append(Broken(column.name, "zone", says, off, self.hint, (source,)))
        for rule in self.rules:
            found.append(Broken(column.name, rule.name, rule.says, as_mask(rule.breaks(typed)), self.hint, (typed,)))
        return typed, [broken for broken in found if broken.mask.any()]

    def _without_nan(self, typed: Any) -> Any:
        """NaN is how numbers say that they are missing."""
        if self.column.kind != "float" or not pc.any(pc.is_nan(typed)).as_py():
            return typed
        return pc.if_else(pc.is_nan(typed), pa.scalar(None, pa.float64()), typed)


def _rules(column: Column) -> Iterator[Rule]:
    if column.choices is not None:
        allowed = pa.array(column.choices, ARROW[column.kind])
        listed = ", ".join(map(str, column.choices))
        yield Rule("choice", f"but must be one of {listed}", lambda array: _outside(array, allowed))
    for name, breaks, words in (
        ("ge", pc.less, "≥"),
        ("gt", pc.less_equal, ">"),
        ("le", pc.greater, "≤"),
        ("lt", pc.greater_equal, "<"),
    ):
        bound = getattr(column, name)
        if bound is not None:
            beyond = _beyond_whole(name, bound) if column.kind == "int" else None
            compare = _compare(breaks, _bound(name, bound, column)) if beyond is None else beyond
            yield Rule(name, f"but must be {words} {bound}", compare)
    if column.multiple_of is not None:
        says = f"but must be a multiple of {column.multiple_of}"
        yield Rule("multiple_of", says, lambda array: _no_multiple(array, column.multiple_of))
    if column.finite and column.kind == "float":
        yield Rule("finite", "but must be finite", pc.is_inf)
    least, most = column.min_length, column.max_length
    if least is not None:
        says = f"but must have at least {least} characters"
        yield Rule("min_length", says, lambda array: pc.less(pc.utf8_length(array), least))
    if most is not None:
        says = f"but must have at most {most} characters"
        yield Rule("max_length", says, lambda array: pc.greater(pc.utf8_length(array), most))
    if column.pattern is not None:
        pattern = Pattern(column.pattern, column.engine)
        yield Rule("pattern", f"but must match {pattern.text}", pattern.misses)


def _compare(breaks: Callable[[Any, Any], Any], bound: Any) -> Callable[[Any], Any]:
    return lambda array: breaks(array, bound)


def _beyond_whole(name: str, bound: Any) -> Callable[[Any], Any] | None:
    """The verdict of a bound that no 64-bit number reaches: the same for all of them."""
    if -(2**63) <= bound < 2**63:
        return None
    if (bound > 0) == (name in ("ge", "gt")):
        return pc.is_valid  # type: ignore[no-any-return]
    return lambda array: pc.not_equal(array, array)


def _bound(name: str, bound: Any, column: Column) -> Any:
    """A bound in a type that compares with the column's without rounding it."""
    if column.kind == "int":
        return pa.scalar(math.ceil(bound) if name in ("ge", "lt") else math.floor(bound), pa.int64())
    if isinstance(bound, dt.datetime) and bound.tzinfo is not None:
        bound = bound.astimezone(dt.UTC).replace(tzinfo=None)
    elif isinstance(bound, dt.date) and not isinstance(bound, dt.datetime):
        bound = dt.datetime.combine(bound, dt.time())
    return pa.scalar(bound, ARROW[column.kind])


def _outside(array: Any, allowed: Any) -> Any:
    outside = pc.invert(pc.is_in(array, allowed))
    return pc.and_(outside, pc.is_valid(array)) if array.null_count else outside


def _no_multiple(array: Any, of: Any) -> Any:
    """As pydantic-core does it: whole numbers exactly, others to a billionth."""
    import numpy as np

    filled = pc.fill_null(array, 0)
    values = filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy()
    if values.dtype.kind == "i" and float(of).is_integer():
        return pa.array(values % int(of) != 0)
    with np.errstate(invalid="ignore", over="ignore"):
        return pa.array(np.abs(np.round(values / of) * of - values) > 1e-9)


def _off_zone(source: Any, wanted: bool) -> Any:
    """A mask (numpy) of times that have no zone where they must have one, or the other way round."""
    if isinstance(source.type, MixedType):
        source = pa.chunked_array([pa.array([str(value) for value in loads(source)], pa.string())])
    if pa.types.is_dictionary(source.type):
        source = source.cast(source.type.value_type)
    if is_text(source.type):
        zoned = pc.match_substring_regex(cleaned(source), ZONED)
        return as_mask(pc.invert(zoned) if wanted else zoned)
    has = pa.types.is_timestamp(source.type) and source.type.tz is not None
    return as_mask(pc.is_valid(source)) & (has is not wanted)
