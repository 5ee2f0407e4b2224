"""The language of ``--where``: what it means, against a judgement row by row, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mealkit.errors import SettingsError
from mealkit_runtime.condition import EVERY, Among, Both, Compare, Condition, Missing, can_hold, leaves, parse
from mealkit_runtime.query import make_query

Truth = bool | None


def judge(condition: Condition, row: dict[str, Any]) -> Truth:
    """SQL's three truths, row by row; what the vectorised judgement is compared with."""
    if isinstance(condition, Both):
        parts = [judge(part, row) for part in condition.parts]
        sure, other = (False, True) if condition.word == "and" else (True, False)
        return sure if sure in parts else None if None in parts else other
    value = row[condition.column]
    if isinstance(condition, Missing):
        return (value is None) != condition.negated
    if value is None:
        return None
    if isinstance(condition, Among):
        return (value in condition.values) != condition.negated
    other = condition.value
    return {
        "=": value == other, "!=": value != other, "<": value < other, "<=": value <= other, ">": value > other,
        ">=": value >= other,
    }[condition.sign]  # fmt: skip


NUMBERS = st.integers(-3, 3)
LEAVES = st.one_of(
    st.builds(Compare, st.sampled_from(["a", "b.c"]), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), NUMBERS),
    st.builds(
        Compare, st.just("odd name"), st.sampled_from(["=", "!=", "<", ">="]), st.sampled_from(["x", "it's", ""])
    ),
    st.builds(Among, st.just("a"), st.lists(NUMBERS, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(Missing, st.sampled_from(["a", "and"]), st.booleans()),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(Both, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3).map(tuple)),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {
        "a": st.none() | NUMBERS, "b.c": st.none() | NUMBERS, "and": st.none() | NUMBERS,
        "odd name": st.none() | st.sampled_from(["x", "it's", ""]),
    }
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, ROWS)
def test_a_condition_and_its_text_mean_the_same(condition: Condition, row: dict[str, Any]) -> None:
    again = parse(str(condition))
    assert judge(again, row) == judge(condition, row)
    assert str(parse(str(again))) == str(again), "the canonical form is its own"
    negated = parse(f"not {condition}")
    assert judge(negated, row) == {True: False, False: True, None: None}[judge(condition, row)]


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, st.lists(ROWS, min_size=1, max_size=5))
def test_what_cannot_hold_holds_in_no_row(condition: Condition, rows: list[dict[str, Any]]) -> None:
    bounds = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        missing = sum(row[name] is None for row in rows) if values else EVERY
        bounds[name] = (min(values, default=None), max(values, default=None), missing)
    if any(judge(condition, row) for row in rows):
        assert can_hold(condition, bounds, lambda name, value: value)


def test_bounds_tell_what_cannot_hold() -> None:
    bounds = {"day": (3, 7, 0), "kind": ("b", "b", 0), "none": (None, None, EVERY)}
    for text, possible in (
        ("day = 2", False), ("day < 3", False), ("day <= 3", True), ("day > 7", False), ("day between 8 and 9", False),
        ("day in (1, 9)", False), ("day in (1, 5)", True), ("kind != 'b'", False), ("none != 1", False),
        ("none is null", True), ("none is not null", False),
        ("kind not in ('b')", False),
        ("day is null", False), ("day is not null", True), ("other = 1", True), ("day = 1 or other = 1", True),
        ("day = 1 and other = 1", False), ("not day > 0", False),
    ):  # fmt: skip
        assert can_hold(parse(text), bounds, lambda name, value: value) is possible, text


def test_spellings() -> None:
    for text, canonical in (
        ("A = 1", "A = 1"),
        ("a == 1 AND NOT b <> 'x'", "(a = 1 and b = 'x')"),
        ('a >= -1.5e3 or b in ["x", "y",]', "(a >= -1500.0 or b in ('x', 'y'))"),
        ("`odd name` is NOT null", "`odd name` is not null"),
        ("a not between 1 and 2", "(a < 1 or a > 2)"),
        ("not (a < 1 and (b.c is null or d = true))", "(a >= 1 or (b.c is not null and d != true))"),
        ("a = 'it''s'", "a = 'it''s'"),
    ):
        assert str(parse(text)) == canonical
    assert [leaf.column for leaf in leaves(parse("a = 1 and (b = 2 or a = 3)"))] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("", "the end is where a column's name should be", 1),
        ("a >", "the end is where a value should be", 4),
        ("a > b", "'b' is where a value should be: texts stand in quotes", 5),
        ("1 < a", "'1 < a' is where a column's name", 1),
        ("a > 1 b", "'b' does not belong here", 7),
        ("a = null", "can be asked with `is null`", 5),
        ("a in ()", "is where a value should be", 7),
        ("a in (1, 'x')", "values of several kinds", 13),
        ("a is 1", "`null` should be", 6),
        ("(a > 1", "the end is where `)` should be", 7),
        ("a between 1 or 2", "`and` should be", 13),
        ("a > 'x", "cannot be read", 5),
        ("__import__('os').system('true')", "cannot be read", 17),
        ("a; drop", "cannot be read", 2),
        ("(" * 60 + "a = 1" + ")" * 60, "nested deeper than 50", 51),
    ],
)
def test_what_is_refused(text: str, message: str, at: int) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert message in caught.value.message
    assert caught.value.where == f"where, character {at}"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given_", "where", "message"),
    [
        ({"since": "2026-01-01"}, "since", "the recipe names none"),
        ({"since": "yesterday", "time": "day"}, "since", "not a time"),
        ({"since": "2026-02-01", "until": "2026-01-01", "time": "day"}, "until", "empty"),
        ({"sample": "0"}, "sample", "not a sample"),
        ({"sample": "150%"}, "sample", "not a sample"),
        ({"sample": "nan"}, "sample", "not a sample"),
        ({"columns": " , "}, "columns", "no column"),
    ],
)
def test_queries_that_are_refused(given_: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_query(**given_)
    assert caught.value.where == where
    assert message in caught.value.message


def test_a_query_tells_itself() -> None:
    assert make_query().to_json() == {}
    assert make_query(time="day").to_json() == {}, "a time column alone asks for nothing"
    query = make_query(
        columns="a, b,a",
        where="a>1",
        time="day",
        since="2026-01-01T01:00:00+01:00",
        flatten=True,
        sample="10%",
        limit=5,
    )
    assert query.to_json() == {
        "columns": ["a", "b"], "where": "a > 1", "time": "day", "since": "2026-01-01T00:00:00", "flatten": True,
        "sample": 0.1, "sample_seed": 0, "limit": 5,
    }  # fmt: skip
    assert query.asked == ("a", "day")
