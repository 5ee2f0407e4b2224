"""What is gathered of one column while a dataset's pieces pass: its kind, different values, measures, and a digest."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mealkit_runtime.convert import MISSING, Unconvertible, convert, infer, is_text, kind_of

from .distinct import MOST, Values
from .measure import DAY, NumberMeasure, TextMeasure, TimeMeasure, microseconds

NUMBERS = ("int", "float")
TIMES = ("date", "datetime")

_LONG = 200
"""Characters beyond which a text is known by its beginning and a digest."""


class Tally:
    """One column.

    Different values of a piece are found first (Arrow's dictionary encoding); everything else looks at each of them
    once, with the number of its rows.

    Args:
        name: Its name.
        text: The format has no types (CSV): the texts tell what the column may be read as, for as long as all agree.
        cap: How many different values are counted exactly.
    """

    def __init__(self, name: str, text: bool, cap: int = MOST) -> None:
        self.name = name
        self.text = text
        self.stored: dict[str, None] = {}
        self.kind: str | None = None
        self.rows = self.missing = 0
        self.words: Counter[str] = Counter()
        self.values = Values(cap)
        self.rewritten = False
        self.digest = hashlib.blake2b(digest_size=16)
        self.numbers, self.texts, self.times = NumberMeasure(), TextMeasure(), TimeMeasure()

    def add(self, array: Any) -> Any:
        """The column's part of a piece; gives each row's number, NaN where there is none, or None for other kinds."""
        self.stored[str(array.type)] = None
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        if pa.types.is_floating(array.type):
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
            array = pc.add(array, pa.scalar(0.0, array.type))  # -0.0 is 0.0
        if array.null_count == len(array):
            self.absent(len(array))
            return None
        self.rows += len(array)
        if kind_of(array.type) == "any":
            self._become("other")
            self.missing += array.null_count
            self.digest.update(f"{self.name} {self.rows}".encode())  # never the same as another's
            return None
        coded = pa.concat_arrays(array.chunks).dictionary_encode()
        return self._add(coded.dictionary, coded.indices.fill_null(-1).to_numpy(zero_copy_only=False))

    def absent(self, rows: int) -> None:
        """Rows in which the column has no value, or which do not have the column."""
        self.rows += rows
        self.missing += rows
        self.digest.update(f"missing {rows}".encode())

    def _add(self, values: Any, where: Any) -> Any:
        """Different values, and which of them each row has (-1: none)."""
        counts = np.bincount(where[where >= 0], minlength=len(values))
        self.missing += int((where < 0).sum())
        typed, kind = self._typed(values)
        if is_text(values.type):
            self.texts.add(values, counts)
        if typed.null_count:
            self._set_aside(values.filter(typed.is_null()), counts[_mask(typed.is_null())])
        present = _mask(typed.is_valid())
        keys = _keys(typed.drop_null())
        self.rewritten |= self.text and kind != "str" and keys != values.filter(typed.is_valid()).to_pylist()
        self.values.add(keys, counts[present].tolist())
        self.digest.update(where.astype(np.int32).tobytes() + present.tobytes() + "\0".join(keys).encode())
        if kind in TIMES:
            self.times.add(typed)
        if kind in NUMBERS:
            return np.append(self.numbers.add(typed, counts), np.nan)[where]
        return None

    def _typed(self, values: Any) -> tuple[Any, str | None]:
        """The values in the column's kind; None as the kind: there are only words for what is missing."""
        if not (self.text and is_text(values.type)):  # the partition columns of a CSV file have types
            kind = kind_of(values.type)
            if kind in TIMES:
                kind = "date" if bool((microseconds(values) % DAY == 0).all()) else "datetime"
            self._become(kind)
            return values, kind
        if self.kind == "str":
            return values, "str"
        typed, found = read_texts(values)
        if found is None:
            return typed, None
        self._become(found)
        return (values, "str") if self.kind == "str" else (typed, found)

    def _become(self, kind: str) -> None:
        """The column's kind is one that takes both what was seen and ``kind``."""
        if self.kind in (None, kind):
            self.kind = kind
        elif {self.kind, kind} == set(NUMBERS):
            self.kind = "float"
        elif {self.kind, kind} == set(TIMES):
            self.kind = "datetime"
        else:
            self.kind = "str" if self.text else "mixed"
        if self.kind == "str" and self.words:
            # "NA" is missing among numbers, and a text among texts.
            self.values.add(list(self.words), self.words.values())
            self.missing -= self.words.total()
            self.words.clear()

    def _set_aside(self, words: Any, counts: Any) -> None:
        """Words for what is missing, which they are unless the column turns out to be one of texts."""
        for word, count in zip(words.to_pylist(), counts.tolist(), strict=True):
            self.words[word] += count
        self.missing += int(counts.sum())


def read_texts(values: Any) -> tuple[Any, str | None]:
    """Texts as what all of them can be read as, and that kind; texts that stand for a missing value are null.

    The kind is None where there is nothing but such texts.
    """
    trimmed = pc.utf8_trim_whitespace(values)
    if pc.all(pc.is_in(trimmed, MISSING)).as_py():
        return pa.nulls(len(values), pa.string()), None
    typed = infer(pa.chunked_array([values]))
    kind = kind_of(typed.type)
    if kind == "str":
        try:
            typed = convert(typed, "datetime", text=True)
        except Unconvertible:
            return values, "str"
        short = (pc.max(pc.utf8_length(trimmed)).as_py() or 0) <= 10
        kind = "date" if short else "datetime"
    array = pa.concat_arrays(typed.chunks)
    return (
        (array, kind) if kind != "float" else (pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array), kind)
    )


def _mask(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=False)


def _keys(values: Any) -> list[str]:
    """Values as texts; long ones as their beginning and a digest."""
    texts = values.cast(pa.string())
    keys: list[str] = texts.to_pylist()
    if (pc.max(pc.binary_length(texts)).as_py() or 0) > _LONG:
        return [key if len(key) <= _LONG else _short(key) for key in keys]
    return keys


def _short(text: str) -> str:
    return f"{text[:80]}… #{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
