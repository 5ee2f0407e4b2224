"""The check of a column says what pydantic says of each value, and what the JSON Schema in the label says."""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import AwareDatetime, ConfigDict, NaiveDatetime, StringConstraints, ValidationError, create_model
from pydantic_core import SchemaValidator, core_schema

import mealkit
from mealkit import Field
from mealkit.errors import ProjectError, SchemaError
from mealkit.row import json_schema
from mealkit_runtime.bad_row import BadRows
from mealkit_runtime.column import columns_of
from mealkit_runtime.convert import ARROW, Unconvertible, convert
from mealkit_runtime.dataset import locate, pieces
from mealkit_runtime.pattern import Pattern
from mealkit_runtime.salvage import salvage
from mealkit_runtime.schema import conform, schema_of
from mealkit_runtime.sieve import Sieve

QUICK = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


ALPHABET = "aAbZ09_-. $\n\x0b\x1c٣éſK"
TEXTS = st.text(ALPHABET, max_size=5) | st.sampled_from(["red", "blue", "a-1", "12"])
INTS = st.integers(-4, 4) | st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 0.5, 1.5, 0.3, 0.1, 1e9, -2.5])
TIMES = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2040, 1, 1)) | st.just(dt.datetime(2026, 1, 1))
DAYS = st.dates(dt.date(1990, 1, 1), dt.date(2040, 1, 1)) | st.just(dt.date(2026, 1, 1))
PATTERNS = [
    "^a", "a$", r"\d", r"^\w+$", r"\s", r"\bA", "^[a-z]{1,3}$", "^[^a]*$", "^(a|b)+$", ".", r"^\S.*$", "(?i)^k",
    "[a-z&&[^b]]", r"\p{Nd}", r"^[\w.-]+$", "é", "^(?:a-)?[0-9]+$", r"a\.b|\$", "",
]  # fmt: skip


def bounds(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(("ge", "gt", "le", "lt"), values))


SMALL = st.integers(-3, 3)
LENGTHS = {"min_length": st.integers(0, 3), "max_length": st.integers(1, 4), "pattern": st.sampled_from(PATTERNS)}
FIELDS: dict[str, tuple[Any, st.SearchStrategy[Any], st.SearchStrategy[dict[str, Any]]]] = {
    "int": (
        int,
        INTS,
        bounds(SMALL | st.sampled_from([2**70, -(2**70), 2**63 - 1]))
        | st.fixed_dictionaries({"multiple_of": st.integers(1, 4)}),
    ),
    "float": (
        float,
        FLOATS,
        bounds(SMALL | st.sampled_from([0.5, 0.1]))
        | st.fixed_dictionaries({"multiple_of": st.sampled_from([0.5, 0.1, 3, 1e-3])})
        | st.just({"allow_inf_nan": False}),
    ),
    "str": (str, TEXTS, st.fixed_dictionaries({}, optional=LENGTHS)),
    "bool": (bool, st.booleans(), st.just({})),
    "datetime": (dt.datetime, TIMES, bounds(st.just(dt.datetime(2026, 1, 1)))),
    "date": (dt.date, DAYS, bounds(st.just(dt.date(2026, 1, 1)))),
    "word": (Literal["a", "red"], TEXTS, st.just({})),
    "code": (Literal[1, 2], st.integers(-1, 4), st.just({})),
    "color": (Color, TEXTS, st.just({})),
}
TYPES = {**ARROW, "date": pa.date32(), "word": pa.string(), "code": pa.int64(), "color": pa.string()}


@st.composite
def columns(draw: Any, names: list[str]) -> tuple[type[mealkit.Row], dict[str, str], list[dict[str, Any]]]:
    kinds = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
    fields: dict[str, Any] = {}
    rows: dict[str, st.SearchStrategy[Any]] = {}
    for number, kind in enumerate(kinds):
        annotation, values, rules = FIELDS[kind]
        nullable = draw(st.booleans())
        fields[f"c{number}"] = (annotation | None if nullable else annotation, Field(**draw(rules)))
        rows[f"c{number}"] = values | st.none() if draw(st.booleans()) else values
    row = create_model("Drawn", __base__=mealkit.Row, **fields)
    found = draw(st.lists(st.fixed_dictionaries(rows), min_size=1, max_size=12))
    return row, {f"c{number}": kind for number, kind in enumerate(kinds)}, found


def accepted(row: type[mealkit.Row], values: dict[str, Any]) -> bool:
    try:
        row.model_validate(values)
    except ValidationError:
        return False
    return True


@QUICK
@given(columns(sorted(FIELDS)))
def test_a_row_is_bad_if_pydantic_refuses_it(drawn: Any) -> None:
    row, kinds, rows = drawn
    table = pa.table({name: pa.array([each[name] for each in rows], TYPES[kind]) for name, kind in kinds.items()})
    ledger = BadRows("skip")
    good = Sieve(schema_of(row), ledger).sift(table.append_column("n", pa.array(range(len(rows)))), "x")
    wanted = [accepted(row, each) for each in rows]
    bad = Sieve(schema_of(row), BadRows("skip"))
    found = [len(bad.sift(table.slice(number, 1), "x")) == 1 for number in range(len(rows))]
    assert found == wanted
    assert len(good) == sum(wanted) == ledger.rows_read - ledger.rows_bad
    assert ledger.rows_bad == sum(count for rules in ledger.by_rule.values() for count in rules.values())
    if all(wanted):
        assert conform(table, schema_of(row), "x").num_rows == len(rows)
    else:
        with pytest.raises(SchemaError):
            conform(table, schema_of(row), "x")


JSON_VALUES = (
    st.none() | st.integers(-5, 5) | st.integers(-(2**20), 2**20) | st.sampled_from([0.5, 1.5, 2.0, -3.25])
    | st.sampled_from(["", "a", "red", "blue", "12", "a-1", "true"]) | st.just([1]) | st.just({"a": 1})
)  # fmt: skip


@QUICK
@given(st.data())
def test_a_row_is_bad_if_the_label_s_schema_refuses_it(data: Any) -> None:
    names = ["int", "float", "str", "bool", "word", "code", "color"]
    row, kinds, _ = data.draw(columns(names))
    each = {
        name: st.booleans() | (st.none() if kind == "bool" else JSON_VALUES) | FIELDS[kind][1].filter(_plain)
        for name, kind in kinds.items()
    }
    rows = data.draw(st.lists(st.fixed_dictionaries(each), min_size=1, max_size=10))
    assume("0.1" not in str(row.model_fields) and "0.001" not in str(row.model_fields))  # jsonschema rounds otherwise
    label = Draft202012Validator(json.loads(json.dumps(json_schema(row))))
    try:
        wanted = [label.is_valid(values) for values in rows]
    except (re.error, FutureWarning):
        assume(False)  # a pattern that Python's engine cannot read, or reads otherwise
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.jsonl"
        file.write_text("".join(json.dumps(values) + "\n" for values in rows), encoding="utf-8")
        ledger = BadRows("skip")
        good = list(pieces(locate(str(file)), schema_of(row), 100, ledger))
    assert sum(map(len, good)) == sum(wanted)
    assert ledger.rows_bad == len(rows) - sum(wanted)


def _plain(value: Any) -> bool:
    """What JSON Schema, Python's engine and JSON read as pydantic does."""
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    return not isinstance(value, float) or (abs(value) < 2**20 and (value * 8).is_integer())


@QUICK
@given(
    st.sampled_from(PATTERNS) | st.text(r"ab.^$[]()|*+?\\dwsSB-{}1,<>&", max_size=6),
    st.lists(st.none() | TEXTS, max_size=8),
)
def test_patterns_are_those_of_pydantic(pattern: str, texts: list[str | None]) -> None:
    try:
        exact = SchemaValidator(core_schema.str_schema(pattern=pattern))
    except Exception as error:
        assume("regex" not in str(error).lower() and "pattern" not in str(error).lower())
        raise
    found = Pattern(pattern).misses(pa.chunked_array([pa.array(texts, pa.string())]))
    assert found.to_pylist() == [None if text is None else not exact.isinstance_python(text) for text in texts]


def test_texts_that_come_often_are_matched_once() -> None:
    some = ["c1", "x", None, "c\u0663", "c12"]
    for pattern in ("^c[0-9]+$", r"^c\d+$", r"(?i)^C\d"):
        wanted = Pattern(pattern).misses(pa.array(some)).to_pylist()
        many = pa.chunked_array([pa.array(some * 1000), pa.array(some * 100)])
        assert Pattern(pattern).misses(many).to_pylist() == wanted * 1100
    assert Pattern(r"^c\d+$").misses(pa.array(some)).to_pylist() == [False, True, None, False, False]


def test_patterns_of_other_engines() -> None:
    class Python(mealkit.Row):
        model_config = ConfigDict(regex_engine="python-re")
        a: str = Field(pattern=r"^a(?!b)")

    class Compiled(mealkit.Row):
        a: str = Field(pattern=re.compile("^a(?!B)", re.IGNORECASE))

    texts = ["a", "ab", "ba", "AB", "ac\n"]
    for row in (Python, Compiled):
        good = Sieve(schema_of(row), BadRows("skip")).sift(pa.table({"a": texts}), "x")
        assert good["a"].to_pylist() == [text for text in texts if accepted(row, {"a": text})]
        with pytest.raises(SchemaError, match=r"must match \^a\(\?!"):
            conform(pa.table({"a": texts}), schema_of(row), "x")


def test_which_patterns_arrow_answers() -> None:
    for pattern in ("^c[0-9]+$", r"^\d{4}-\d\d$", r"^(?:a|b)+\.c$", r"[\w.]+@[a-z]+"):
        assert Pattern(pattern).fast, pattern
    for pattern in ("(?i)a", "[a-z&&[^b]]", r"\<a", "[[:alpha:]]", r"\p{L}", "a{1001}", r"[\w-.]", "[a--b]", r"\x41"):
        assert not Pattern(pattern).fast, pattern
    assert not Pattern("^c", "python-re").fast


SOURCES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 2)),
    (pa.uint64(), st.integers(0, 2**64 - 1) | st.integers(0, 2)),
    (pa.float64(), st.floats() | st.sampled_from([0.0, 1.0, 2.0, 1.5, 2.0**53])),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (
        pa.string(),
        st.text("0123456789+-.einfaTxZ: ", max_size=12) | st.sampled_from(["2026-01-01", "2026-13-01", "yes"]),
    ),
    (
        pa.string(),
        st.sampled_from(["1", "1.0", "2.5", "9007199254740993", "1e400", "0x1F", " 7 ", "NA", "", "true", "-"]),
    ),
    (
        pa.string(),
        st.sampled_from(
            ["1500-01-01", "2026-01-01T00:00:00.123456789", "2026-01-01T00:00:00Z", "2026-01-01 25:00", "x"]
        ),
    ),
    (pa.timestamp("ns", "Europe/Berlin"), st.integers(-(2**62), 2**62)),
    (pa.timestamp("s"), st.integers(-(2**40), 2**40) | st.integers(0, 20000).map(lambda day: day * 86400)),
    (pa.date32(), st.integers(-10000, 20000)),
    (pa.decimal128(5, 1), st.decimals(-999, 999, places=1)),
    (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)),
]


@QUICK
@given(st.sampled_from(SOURCES), st.sampled_from(sorted(ARROW)), st.booleans(), st.data())
def test_a_value_is_salvaged_if_it_can_be_converted_alone(source: Any, kind: str, text: bool, data: Any) -> None:
    arrow_type, values = source
    text = text and arrow_type == pa.string()
    array = pa.chunked_array([pa.array(data.draw(st.lists(st.none() | values, min_size=1, max_size=20)), arrow_type)])
    typed, bad = salvage(array, kind, text=text)
    assert typed.type == ARROW[kind]
    for row in range(len(array)):
        try:
            alone = convert(array.slice(row, 1), kind, text=text)
        except Unconvertible:
            assert bad[row]
            assert not typed[row].is_valid
        else:
            assert not bad[row]
            assert typed[row] == alone[0] or (kind == "float" and str(typed[row]) == str(alone[0]) == "nan")
    if bad.any():
        with pytest.raises(Unconvertible) as caught:
            convert(array, kind, text=text)
        assert caught.value.row == int(bad.argmax())
    else:
        whole = convert(array, kind, text=text)
        assert pc.is_valid(whole).to_pylist() == pc.is_valid(typed).to_pylist()


def test_where_checks_differ_from_pydantic_on_purpose() -> None:
    class Row(mealkit.Row):
        a: int
        b: float
        c: str
        d: bool

    good = {"a": [1], "b": [1.0], "c": ["x"], "d": [True]}

    def passes(**changed: Any) -> bool:
        try:
            conform(pa.table({**good, **changed}), schema_of(Row), "x")
        except SchemaError:
            return False
        return True

    for changed, here, pydantic in (
        ({"a": ["1"]}, False, True),  # a number as a text, in a file that has types
        ({"a": [True]}, False, True),
        ({"a": [2.0**53]}, False, True),  # which whole number was it?
        ({"b": [float("nan")]}, False, True),  # NaN is missing
        ({"b": ["1.5"]}, False, True),
        ({"d": ["yes"]}, False, True),
        ({"a": [2.0]}, True, True),
        ({"d": [1]}, True, True),
        ({"d": [2]}, False, False),
    ):
        assert passes(**changed) is here, changed
        assert accepted(Row, {name: values[0] for name, values in {**good, **changed}.items()}) is pydantic, changed


def test_zones_are_checked() -> None:
    class Row(mealkit.Row):
        aware: AwareDatetime | None
        naive: NaiveDatetime | None

    here, there = dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    texts = pa.table(
        {"aware": ["2026-01-01T00:00:00+02:00", None, "2026-01-01"], "naive": ["2026-01-01", None, "2026-01-01T00:00Z"]}
    )
    good = Sieve(schema_of(Row), ledger := BadRows("skip")).sift(texts, "x")
    assert good["aware"].to_pylist() == [dt.datetime(2025, 12, 31, 22), None]
    assert ledger.by_rule == {"aware": {"zone": 1}}
    for aware, naive, rule in ((here, here, "must have a zone"), (there, there, "must have no zone")):
        with pytest.raises(SchemaError, match=rule):
            conform(pa.table({"aware": [aware], "naive": [naive]}), schema_of(Row), "x")
    assert conform(pa.table({"aware": [there], "naive": [here]}), schema_of(Row), "x").num_rows == 1


def test_row_schemas_that_change_values_are_refused() -> None:
    class Strips(mealkit.Row):
        a: Annotated[str, StringConstraints(strip_whitespace=True)]

    class Strict(mealkit.Row):
        a: int = Field(strict=True)

    class Config(mealkit.Row):
        model_config = ConfigDict(str_to_lower=True)
        a: str

    class Forbids(mealkit.Row):
        model_config = ConfigDict(extra="forbid")
        a: str

    class Initialises(mealkit.Row):
        a: int

        def model_post_init(self, context: Any, /) -> None:
            raise ValueError

    for row in (Strips, Strict, Config, Forbids, Initialises):
        with pytest.raises(ProjectError) as caught:
            columns_of(row)
        assert caught.value.hint
