"""A seeded sample of a dataset's rows, without replacement, the same however the rows come in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LONGEST = 200
"""Characters of a text that are kept."""


class RowSample:
    """Keeps the rows that drew the smallest numbers.

    Args:
        size: How many rows.
        seed: Of the draw.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._rows = 0
        self._limit = np.inf
        self._tables: list[Any] = []
        self._drawn: list[Any] = []
        self._places: list[Any] = []
        self._pending = 0

    def add(self, table: Any) -> None:
        """Further rows, in the dataset's order; nested and binary columns are left out."""
        drawn = self._random.random(len(table))
        chosen = np.flatnonzero(drawn < self._limit)
        if len(chosen):
            kept = _plain(table if len(chosen) == len(table) else table.take(pa.array(chosen)))
            self._tables.append(kept)
            self._drawn.append(drawn[chosen])
            self._places.append(chosen + self._rows)
            self._pending += len(chosen)
        self._rows += len(table)
        if self._pending > 2 * self.size:
            self._cut()

    def _cut(self) -> None:
        """Keep the smallest ``size``, in the dataset's order."""
        drawn, places = np.concatenate(self._drawn), np.concatenate(self._places)
        table = concat(self._tables)
        if len(drawn) > self.size:
            kept = np.sort(np.argpartition(drawn, self.size - 1)[: self.size])
            drawn, places, table = drawn[kept], places[kept], table.take(pa.array(kept))
            self._limit = float(drawn.max())
        # combine_chunks copies: slices would keep the whole piece that they are part of in memory.
        self._tables, self._drawn, self._places = [table.combine_chunks()], [drawn], [places]
        self._pending = len(drawn)

    def table(self) -> Any:
        """The sample as one Arrow table, in the dataset's order."""
        if not self._tables:
            return pa.table({})
        self._cut()
        return self._tables[0]

    def places(self) -> Any:
        """The rows' numbers in the dataset, from 0."""
        return np.concatenate(self._places) if self._places else np.array([], dtype=np.int64)


def _plain(table: Any) -> Any:
    """The columns of plain values; long texts are cut."""
    arrays = {}
    for name in table.column_names:
        array = table[name]
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.cast(kind.value_type)
            kind = array.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            continue
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            array = array.cast(pa.string())
            if (pc.max(pc.binary_length(array)).as_py() or 0) > _LONGEST:
                array = pc.utf8_slice_codeunits(array, 0, _LONGEST)
        arrays[name] = array
    # A table without a column would forget how many rows it has.
    return pa.table({**arrays, "": pa.nulls(len(table))}) if not arrays else pa.table(arrays)


def concat(tables: Sequence[Any]) -> Any:
    """Tables below each other; columns that do not agree on a type become texts, lacking ones are missing."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        types: dict[str, set[Any]] = {}
        for table in tables:
            for field in table.schema:
                types.setdefault(field.name, set()).add(field.type)
        mixed = {name for name, kinds in types.items() if len(kinds) > 1}
        alike = [
            pa.table({name: _texts(table[name]) if name in mixed else table[name] for name in table.column_names})
            for table in tables
        ]
        return pa.concat_tables(alike, promote_options="permissive")


def _texts(array: Any) -> Any:
    return array.cast(pa.string())
