"""Columns as no one would wish them: the profile is made all the same, is valid JSON, and counts right."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_tables import tables
from profiles import profile

from mealkit_runtime.profile.survey import survey
from mealkit_runtime.schema import Schema, conform

QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def _strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@QUICK
@given(tables(), st.integers(1, 40), st.integers(1, 12))
def test_any_column_has_a_profile(table: pa.Table, size: int, sample: int) -> None:
    found = profile(table, size, size=sample)
    assert _strict(found.to_text())["rows"] == found.rows == len(table)
    for column in found.columns:
        values = [None if value != value else value for value in table[column.name].to_pylist()]
        there = [value for value in values if value is not None]
        assert column.missing == len(values) - len(there)
        assert 0 <= min(column.missing_by_part) <= max(column.missing_by_part) <= 1
        if column.kind == "other":
            assert column.distinct is None
            continue
        assert column.distinct_exact
        assert column.distinct == len(set(there))
        assert sum(one.rows for one in column.top) <= len(there)
        if column.kind == "int" and there:
            assert column.numbers is not None
            assert (column.numbers.minimum, column.numbers.maximum) == (min(there), max(there))


@QUICK
@given(
    st.lists(
        st.none() | st.sampled_from(["1", "2.5", "NA", "x", "true", "2024-01-01", "nan", " 3 ", "inf", ""]), min_size=1
    ),
    st.integers(1, 9),
)
def test_texts_of_a_csv_are_counted_whatever_they_turn_out_to_be(values: list[str | None], size: int) -> None:
    column = profile(pa.table({"a": pa.array(values, pa.string())}), size, text=True).column("a")
    words = [value for value in values if value is not None]
    if column.kind == "str":
        assert column.missing == values.count(None)
        assert column.distinct == len(set(words)) or not column.distinct_exact
    else:
        words = [value for value in words if value not in ("NA", "nan", "")]
        assert column.missing == len(values) - len(words)
        assert sum(one.rows for one in column.top) == len(words)
    assert column.texts is None or column.texts.longest == max(map(len, words))


def test_files_that_do_not_agree() -> None:
    parts = [
        pa.table({"a": [1, 2], "b": ["x", "y"]}),
        pa.table({"a": ["u", "v"], "c": [1.5, None]}),
        pa.table({"c": [2.5]}),
    ]
    found = survey(parts, uri="x", files=3, text=False)
    assert found is not None
    kinds = {column.name: (column.kind, column.missing) for column in found.columns}
    assert kinds == {"a": ("mixed", 1), "b": ("str", 3), "c": ("float", 3)}
    assert found.findings[0].code == "mixed-types"


def test_a_column_of_csv_that_turns_into_texts_late() -> None:
    parts = [pa.table({"a": ["1", "NA", "2"]}), pa.table({"a": ["3", "A4"]}), pa.table({"a": ["NA", "5"]})]
    column = profile(pa.concat_tables(parts), 3, text=True).column("a")
    assert (column.kind, column.missing, column.distinct, column.numbers) == ("str", 0, 6, None)
    assert {one.value: one.rows for one in column.top}["NA"] == 2


def test_long_texts_are_told_apart_and_cut() -> None:
    texts = ["x" * 10_000 + end for end in "abb"]
    column = profile(pa.table({"a": texts})).column("a")
    assert column.distinct == 2
    assert column.top[0].rows == 2
    assert len(column.top[0].value) < 120
    assert column.texts is not None
    assert column.texts.longest == 10_001


def test_no_rows_give_no_profile() -> None:
    assert survey([pa.table({"a": pa.array([], pa.int64())})], uri="x", files=1, text=False) is None


def test_a_decimal_is_a_number() -> None:
    column = profile(pa.table({"a": pa.array([Decimal("1.50"), Decimal("2.50"), None])})).column("a")
    assert column.kind == "float"
    assert column.numbers is not None
    assert column.numbers.mean == pytest.approx(2)


def test_reading_an_undeclared_number_beyond_64_bits_with_a_sign_does_no_harm() -> None:
    table = pa.table({"a": pa.array([2**64 - 1, 1], pa.uint64())})
    assert profile(conform(table, Schema(), "x")).column("a").missing == 0
