"""Converts what can be converted of a column that also has values of another kind, and tells which those are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .convert import ARROW, EXACT, FALSE, TRUE, MixedType, attempt, cleaned, is_text, kind_of, loads

_NUMBERS = ("int", "float")
_TAKES = {
    "int": _NUMBERS,
    "float": _NUMBERS,
    "str": ("str",),
    "bool": ("bool", *_NUMBERS),
    "datetime": ("datetime", "date", "str"),
    "date": ("datetime", "date", "str"),
}
"""The kinds of typed values that each declared kind may be made of."""

# What Arrow's parsers take begins at least like this; the few that look like it and are not one are tried one by one.
_LOOKS = {
    "int": r"(?i)^[-+]?(\d[\d.e+-]*|\.\d[\d.e+-]*|inf.*|nan.*)$",
    "float": r"(?i)^[-+]?(\d[\d.e+-]*|\.\d[\d.e+-]*|inf.*|nan.*)$",
    "datetime": r"^[-+]?\d{4}",
    "date": r"^[-+]?\d{4}",
}


def salvage(array: Any, kind: str, *, text: bool = False) -> tuple[Any, Any]:
    """The converted values, missing where one cannot be converted, and a mask (numpy) of those that cannot.

    Each value gets the verdict that :func:`~mealkit_runtime.convert.convert` gives it alone.
    """
    array = pa.chunked_array([array]) if isinstance(array, pa.Array) else array
    if isinstance(array.type, MixedType):
        return _mixed(array, kind)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    bad = _surely_bad(array, kind, text)
    if bad.sum() == len(array) - array.null_count:
        return pa.chunked_array([pa.nulls(len(array), ARROW[kind])]), bad
    if bad.any():
        array = pc.if_else(pa.array(bad), pa.scalar(None, array.type), array)
    typed = [_halves(array.slice(start, size), kind, text, bad[start : start + size]) for start, size in _cuts(array)]
    return pa.chunked_array([chunk for part in typed for chunk in part], ARROW[kind]), bad


def _cuts(array: Any) -> list[tuple[int, int]]:
    return [(start, min(1 << 12, len(array) - start)) for start in range(0, len(array), 1 << 12)]


def _halves(array: Any, kind: str, text: bool, bad: Any) -> list[Any]:
    """Chunks of converted values; marks the failures in ``bad``, a view."""
    found = attempt(array, kind, text=text)
    if found is not None:
        return list(found.chunks) if isinstance(found, pa.ChunkedArray) else [found]
    if len(array) == 1:
        bad[0] = True
        return [pa.nulls(1, ARROW[kind])]
    middle = len(array) // 2
    left = _halves(array.slice(0, middle), kind, text, bad[:middle])
    return left + _halves(array.slice(middle), kind, text, bad[middle:])


def _surely_bad(array: Any, kind: str, text: bool) -> Any:
    """A mask of values that certainly cannot be converted: so that many bad ones cost no more than a few."""
    found, valid = kind_of(array.type), pc.is_valid(array)
    if pa.types.is_null(array.type) or kind == "any":
        return np.zeros(len(array), dtype=bool)
    if is_text(array.type) and kind != "str" and (text or kind in ("datetime", "date")):
        texts = cleaned(array)
        if kind == "bool":
            lower = pc.utf8_lower(texts)
            good = pc.or_(pc.is_in(lower, TRUE), pc.is_in(lower, FALSE))
            return as_mask(pc.and_(pc.is_valid(texts), pc.invert(good)))
        return as_mask(pc.invert(pc.match_substring_regex(texts, _LOOKS[kind])))
    if found not in _TAKES[kind]:
        return as_mask(valid)
    if kind in ("int", "bool") and pa.types.is_floating(array.type):
        values = array.to_numpy() if not array.null_count else array.fill_null(0).to_numpy()
        with np.errstate(invalid="ignore"):
            odd = (values != np.floor(values)) | (np.abs(values) >= EXACT)
            odd |= (values != 0) & (values != 1) if kind == "bool" else False
        return odd & ~np.isnan(values)
    if kind == "bool" and found == "int":
        ends = pa.scalar(0, array.type), pa.scalar(1, array.type)
        return as_mask(pc.and_(pc.not_equal(array, ends[0]), pc.not_equal(array, ends[1])))
    if kind == "date" and pa.types.is_timestamp(array.type):
        stamps = attempt(array, "datetime")
        if stamps is not None:
            return as_mask(pc.not_equal(stamps, pc.floor_temporal(stamps, unit="day")))
    return np.zeros(len(array), dtype=bool)


def _mixed(array: Any, kind: str) -> tuple[Any, Any]:
    """Values of JSON: those of one type are converted together."""
    values = loads(array)
    bad = np.array([value is not None for value in values], dtype=bool)
    typed: list[Any] = [None] * len(values)
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        large = type(value) is int and not -(2**63) <= value < 2**63
        rows.setdefault(float if large else type(value), []).append(row)
    for each, arrow_type in _JSON.items():
        some = rows.get(each, [])
        part = pa.array([_as(each, values[row]) for row in some], arrow_type)
        found, wrong = salvage(part, kind)
        for row, value, is_wrong in zip(some, found.to_pylist(), wrong, strict=True):
            typed[row], bad[row] = value, is_wrong
    return pa.chunked_array([pa.array(typed, ARROW[kind])]), bad


_JSON: dict[Any, Any] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def _as(kind: Any, value: Any) -> Any:
    try:
        return kind(value)
    except OverflowError:
        return float("inf")  # a whole number beyond all floats


def as_mask(mask: Any) -> Any:
    """An Arrow mask as numpy's; missing is False."""
    filled = pc.fill_null(mask, False)
    return np.array(filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy())
