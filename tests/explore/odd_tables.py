"""Tables with columns as no one would wish them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=6)
TIMES = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1))
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.null(), st.none()),
    (pa.float64(), st.none() | st.floats()),
    (pa.float32(), st.none() | st.floats(width=32)),
    (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.int8(), st.just(7)),
    (pa.bool_(), st.none() | st.booleans()),
    (pa.string(), st.none() | TEXT),
    (pa.dictionary(pa.int32(), pa.string()), st.none() | TEXT),
    (pa.decimal128(20, 4), st.none() | st.decimals(-1000, 1000, places=4)),
    (pa.timestamp("us"), st.none() | TIMES),
    (pa.timestamp("us", tz="Europe/Berlin"), st.none() | TIMES),
    (pa.timestamp("ns"), st.none() | TIMES.filter(lambda one: 1700 < one.year < 2200)),
    (pa.date32(), st.none() | st.dates(dt.date(1, 1, 1))),
    (pa.time64("us"), st.none() | st.times()),
    (pa.binary(), st.none() | st.binary(max_size=5)),
    (pa.list_(pa.int64()), st.none() | st.lists(st.integers(0, 9), max_size=3)),
    (pa.struct([("a", pa.int64())]), st.none() | st.fixed_dictionaries({"a": st.integers(0, 9)})),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 30))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    return pa.table(
        {
            f"c{number}": pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)
            for number, (kind, values) in enumerate(kinds)
        }
    )
