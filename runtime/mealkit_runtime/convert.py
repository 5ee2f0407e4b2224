"""From the values that a file holds to a column's declared type: lossless, or told by row.

=============  =========================  ==============================================================
declared       in Arrow, in pandas        also accepted, without loss
=============  =========================  ==============================================================
``int``        int64; ``Int64`` if ``| None``   other integers, whole floats (how missing values leave integers)
``float``      float64, missing is NaN    integers, decimals
``str``        string                     categories
``bool``       bool; ``boolean`` if ``| None``  0 and 1; in CSV true, false, yes, no in any case
``datetime``   timestamp[us], no zone     dates; text in ISO 8601; a zone is converted to UTC
``date``       timestamp[us] at midnight  dates; text in ISO 8601; times at midnight
=============  =========================  ==============================================================

The type depends on the declaration alone, never on the values of a batch, so that every batch, and CSV, JSON lines and
Parquet, give a recipe the same frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ARROW: dict[str, Any] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bool": pa.bool_(),
    "datetime": pa.timestamp("us"),
    "date": pa.timestamp("us"),
}

MISSING = pa.array(["", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "NaT"])
"""Texts that stand for a missing value in a column that is not text."""

ZONED = r"[T ]\d\d:?\d\d.*([Zz]|[+-]\d\d(:?\d\d)?)$"
"""Finds a zone at the end of a time in ISO 8601."""

EXACT = 2**53
"""From here on a float no longer tells which whole number was meant."""


class MixedType(pa.ExtensionType):  # type: ignore[misc]  # pyarrow has no types
    """Values of several types, each as its JSON text: what a column of JSON lines may hold."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "mealkit.mixed")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> MixedType:
        return cls()


class Unconvertible(Exception):
    """A value is not of the declared kind; ``row`` counts from 0 in the array."""

    def __init__(self, row: int, value: object) -> None:
        super().__init__(row, value)
        self.row = row
        self.value = value


def convert(array: Any, kind: str, *, text: bool = False) -> Any:
    """A chunked array as the Arrow type of ``kind``.

    Row by row: whether a value can be converted does not depend on the others.

    Args:
        array: The values.
        kind: The declared kind.
        text: The format has no types (CSV), so texts may stand for numbers, true and false.

    Raises:
        Unconvertible: a value cannot be converted without loss.
    """
    found = attempt(array, kind, text=text)
    if found is None:
        row = _first_failure(array, lambda part: attempt(part, kind, text=text) is not None)
        raise Unconvertible(row, value_at(array, row))
    return found


def attempt(array: Any, kind: str, *, text: bool = False) -> Any | None:
    """As :func:`convert`; None if a value cannot be converted."""
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if kind == "any":
        return plain(array)
    if array.null_count == len(array):
        return pa.chunked_array([pa.nulls(len(array), ARROW[kind])])
    if array.type == ARROW[kind] and kind != "date":
        return array
    # A file that has types, and holds a number as a text, was written wrongly.
    if not text and kind in ("int", "float", "bool") and is_text(array.type):
        return None
    try:
        return _STEPS[kind](array)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, _Refused):
        return None


def value_at(array: Any, row: int) -> object:
    """One value of an array as Python's; a text of what Python has no value for, such as the year 10,000."""
    if isinstance(array.type, MixedType):
        return loads(array.slice(row, 1))[0]
    try:
        return array[row].as_py()
    except (ValueError, OverflowError):
        return str(array[row].cast(pa.string()).as_py())


def loads(array: Any) -> list[Any]:
    """The values of a mixed column."""
    texts = [item for chunk in array.chunks for item in chunk.storage.to_pylist()]
    return [None if item is None else json.loads(item) for item in texts]


def json_value(value: Any) -> Any:
    """A default as JSON would hold it."""
    value = getattr(value, "value", value)  # an Enum's member stands for its value
    return value.isoformat() if hasattr(value, "isoformat") else value


def plain(array: Any) -> Any:
    """An undeclared column in the one type of its kind; nested and binary values stay as they are."""
    kind = kind_of(array.type)
    found = None if kind == "any" else attempt(array, kind)
    return array if found is None else found  # a number beyond 64 bits stays what it is


def kind_of(arrow_type: Any) -> str:
    """The kind that an Arrow type belongs to; ``any`` for nested, binary and unknown ones."""
    if pa.types.is_dictionary(arrow_type):
        return kind_of(arrow_type.value_type)
    for kind, test in _TESTS.items():
        if test(arrow_type):
            return kind
    return "any"


def infer(array: Any) -> Any:
    """A column of texts as whole numbers, numbers, or true and false if all of it is; else as it is."""
    if not is_text(array.type):
        return array
    nothing = _all(pc.is_null(cleaned(array)))
    for kind in ("float",) if nothing else ("int", "float", "bool"):  # a float can say that it is missing
        if kind == "bool" and not _all(pc.is_in(pc.utf8_lower(pc.drop_null(array)), _WORDS)):
            continue
        try:
            return _STEPS[kind](array)
        except (pa.ArrowInvalid, _Refused):
            continue
    return array


def _all(mask: Any) -> bool:
    """Whether every value that is not missing is true; also when there is none."""
    return bool(pc.all(mask, min_count=0).as_py())


class _Refused(Exception):
    """A value is of a type that the kind does not take."""


def _first_failure(array: Any, succeeds: Callable[[Any], bool]) -> int:
    """The first row that fails, by halving: a failing slice holds a failing row."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        if succeeds(array.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def is_text(arrow_type: Any) -> bool:
    """Whether the values are texts."""
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def _is_number(arrow_type: Any) -> bool:
    return bool(pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type))


def cleaned(array: Any) -> Any:
    """Texts without blanks around them; those that stand for a missing value are missing."""
    texts = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return pc.if_else(pc.is_in(texts, MISSING), pa.scalar(None, pa.string()), texts)


def _int(array: Any) -> Any:
    if is_text(array.type):
        texts = cleaned(array)
        try:
            if pc.any(pc.match_substring(texts, "x", ignore_case=True)).as_py():
                raise _Refused  # Arrow would read 0x1F
            return texts.cast(pa.int64())
        except pa.ArrowInvalid:
            # 3.0: how pandas writes integers beside missing values. Others must not become floats for its sake.
            digits, nothing = pc.match_substring_regex(texts, r"^-?\d+$"), pa.scalar(None, pa.string())
            floats = _int(pc.if_else(digits, nothing, texts).cast(pa.float64()))
            return pc.coalesce(pc.if_else(digits, texts, nothing).cast(pa.int64()), floats)
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        if pc.any(pc.greater_equal(pc.abs(array), float(EXACT))).as_py():
            raise _Refused
        return array.cast(pa.int64())
    if not _is_number(array.type):
        raise _Refused
    return array.cast(pa.int64())


def _float(array: Any) -> Any:
    if is_text(array.type):
        return cleaned(array).cast(pa.float64())
    if not _is_number(array.type):
        raise _Refused
    if pa.types.is_integer(array.type) and pa.types.is_uint64(array.type) is False:
        return array.cast(pa.int64()).cast(pa.float64(), safe=False)
    return array.cast(pa.float64(), safe=False)


def _str(array: Any) -> Any:
    if not is_text(array.type):
        raise _Refused
    return array.cast(pa.string())


TRUE = pa.array(["true", "yes", "1", "1.0"])
FALSE = pa.array(["false", "no", "0", "0.0"])
_WORDS = pa.array(["true", "false", "", "na", "n/a", "#n/a", "nan", "null", "none", "<na>"])


def _bool(array: Any) -> Any:
    if is_text(array.type):
        texts = pc.utf8_lower(cleaned(array))
        true, false = pc.is_in(texts, TRUE), pc.is_in(texts, FALSE)
        if not _all(pc.or_(pc.or_(true, false), pc.is_null(texts))):
            raise _Refused
        return pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), true)
    if pa.types.is_boolean(array.type):
        return array
    numbers = _int(array)
    if not _all(pc.and_(pc.greater_equal(numbers, 0), pc.less_equal(numbers, 1))):
        raise _Refused
    return numbers.cast(pa.bool_())


def _datetime(array: Any) -> Any:
    if is_text(array.type):
        texts = cleaned(array)
        zoned = pc.match_substring_regex(texts, ZONED)
        nothing = pa.scalar(None, pa.string())
        bare = _stamp(pc.if_else(zoned, nothing, texts), None)
        utc = _stamp(pc.if_else(zoned, texts, nothing), "UTC").cast(pa.timestamp("us"))
        return pc.coalesce(bare, utc)
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(array.type):
        raise _Refused
    # A zone in Arrow is only for display: the stored instant is UTC. Parts of a microsecond are cut off.
    return array.cast(pa.timestamp("us", tz=array.type.tz), safe=False).cast(pa.timestamp("us"))


def _stamp(texts: Any, zone: str | None) -> Any:
    try:
        return texts.cast(pa.timestamp("us", tz=zone))
    except pa.ArrowInvalid:
        fine, nothing = pc.match_substring_regex(texts, r"\.\d{7}"), pa.scalar(None, pa.string())
        cut = pc.if_else(fine, texts, nothing).cast(pa.timestamp("ns", tz=zone))
        rest = pc.if_else(fine, nothing, texts).cast(pa.timestamp("us", tz=zone))
        return pc.coalesce(rest, cut.cast(pa.timestamp("us", tz=zone), safe=False))


def _date(array: Any) -> Any:
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("us"))
    stamps = _datetime(array)
    if not _all(pc.equal(stamps, pc.floor_temporal(stamps, unit="day"))):
        raise _Refused
    return stamps


_STEPS: dict[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "str": _str,
    "bool": _bool,
    "datetime": _datetime,
    "date": _date,
}
_TESTS: dict[str, Callable[[Any], bool]] = {
    "bool": pa.types.is_boolean,
    "int": pa.types.is_integer,
    "float": lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind),
    "str": is_text,
    "datetime": pa.types.is_timestamp,
    "date": pa.types.is_date,
}
