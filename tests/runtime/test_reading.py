"""Reading: every format gives one frame, every batch size the same rows, and groups stay whole."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from annotated_types import Ge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mealkit
from mealkit.errors import DataError, ProjectError, SchemaError
from mealkit_runtime.batch import ParquetBatchSaver
from mealkit_runtime.column import Column, columns_of
from mealkit_runtime.convert import ARROW, Unconvertible, convert
from mealkit_runtime.dataset import fingerprint, locate, pieces, read_all
from mealkit_runtime.schema import conform, schema_of
from mealkit_runtime.stream import batches


class Thing(mealkit.Row):
    name: str
    note: str | None
    count: int
    maybe: int | None
    size: float | None
    good: bool
    odd: bool | None
    day: dt.date
    at: dt.datetime | None
    choice: Literal["a", "b"] = "a"


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)
FAR = 2**53
ROW = st.fixed_dictionaries(
    {
        "name": TEXT,
        "note": st.none() | TEXT.filter(bool),
        "count": st.integers(-FAR, FAR),
        "maybe": st.none() | st.integers(-FAR, FAR),
        "size": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
        "good": st.booleans(),
        "odd": st.none() | st.booleans(),
        "day": st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)),
        "at": st.none() | st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),
        "choice": st.sampled_from("ab"),
    }
)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TYPES = pa.schema(
    [
        ("name", pa.string()), ("note", pa.string()), ("count", pa.int64()), ("maybe", pa.int64()),
        ("size", pa.float64()), ("good", pa.bool_()), ("odd", pa.bool_()), ("day", pa.date32()),
        ("at", pa.timestamp("us")), ("choice", pa.string()),
    ]
)  # fmt: skip


def write_all(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    import csv
    import gzip
    import json

    pq.write_table(pa.Table.from_pylist(rows, TYPES), folder / "x.parquet")
    with (folder / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NOTNULL if hasattr(csv, "QUOTE_NOTNULL") else csv.QUOTE_MINIMAL)
        writer.writerow(TYPES.names)
        writer.writerows([["" if row[key] is None else row[key] for key in TYPES.names] for row in rows])
    text = "".join(json.dumps(row, default=lambda value: value.isoformat()) + "\n" for row in rows)
    (folder / "x.jsonl").write_text(text, encoding="utf-8")
    (folder / "x.csv.gz").write_bytes(gzip.compress((folder / "x.csv").read_bytes()))
    return [folder / name for name in ("x.parquet", "x.csv", "x.jsonl", "x.csv.gz")]


@QUICK
@given(st.lists(ROW, min_size=1, max_size=30))
def test_every_format_gives_the_same_frame(rows: list[dict[str, Any]]) -> None:
    if not hasattr(__import__("csv"), "QUOTE_NOTNULL"):
        rows = [{**row, "note": row["note"] or None} for row in rows]
    with tempfile.TemporaryDirectory() as name:
        frames = [read_all(locate(str(path)), schema_of(Thing))[0] for path in write_all(rows, Path(name))]
    for frame in frames:
        assert frame.dtypes.astype(str).to_dict() == {
            "name": "str", "note": "str", "count": "int64", "maybe": "Int64", "size": "float64", "good": "bool",
            "odd": "boolean", "day": "datetime64[us]", "at": "datetime64[us]", "choice": "str",
        } or pd.__version__.startswith("2.")  # fmt: skip
        pd.testing.assert_frame_equal(frame, frames[0], check_exact=True)
    first = frames[0]
    assert first["count"].tolist() == [row["count"] for row in rows]
    assert [None if value is pd.NA else value for value in first["maybe"]] == [row["maybe"] for row in rows]
    assert first["name"].tolist() == [row["name"] for row in rows]


GROUPS = st.lists(st.integers(1, 9), min_size=1, max_size=40)
CUTS = st.lists(st.integers(1, 20), min_size=1, max_size=20)


def cut_up(table: Any, cuts: list[int]) -> Iterator[Any]:
    start = 0
    while start < len(table):
        for size in cuts:
            yield table.slice(start, size)
            start += size


@QUICK
@given(GROUPS, CUTS, st.integers(1, 30), st.booleans(), st.booleans())
def test_groups_never_straddle_batches(
    sizes: list[int], cuts: list[int], rows: int, is_sorted: bool, readable_again: bool
) -> None:
    names = range(len(sizes)) if is_sorted else [number * 7919 % 1009 for number in range(len(sizes))]
    values = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    table = pa.table({"group": values, "row": range(len(values))})
    again = (lambda: cut_up(table, cuts)) if readable_again else None
    found = list(batches(cut_up(table, cuts), rows, "group", again))
    assert pa.concat_tables(found)["row"].to_pylist() == list(range(len(values)))
    for before, after in pairwise(found):
        assert before["group"][-1] != after["group"][0]
    for batch in found:
        assert len(batch) <= rows or len(set(batch["group"].to_pylist())) == 1, "only a single group may be longer"


@QUICK
@given(GROUPS.filter(lambda sizes: len(sizes) > 2), CUTS, st.integers(1, 30), st.data())
def test_a_group_that_comes_again_is_told(sizes: list[int], cuts: list[int], rows: int, data: Any) -> None:
    names = [number * 7919 % 1009 for number in range(len(sizes))]
    again = data.draw(st.integers(0, len(sizes) - 3))
    values = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)] + [names[again]]
    table = pa.table({"group": values})
    with pytest.raises(DataError, match="do not stand together") as caught:
        list(batches(cut_up(table, cuts), rows, "group", lambda: cut_up(table, cuts)))
    assert f"row {len(values):,}" in str(caught.value.where)


@QUICK
@given(st.integers(1, 500), CUTS, st.integers(1, 60))
def test_batches_without_groups_have_one_size(count: int, cuts: list[int], rows: int) -> None:
    table = pa.table({"row": range(count)})
    found = [len(batch) for batch in batches(cut_up(table, cuts), rows)]
    assert sum(found) == count
    assert all(size == rows for size in found[:-1])


@QUICK
@given(
    st.lists(st.none() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False), min_size=1),
    st.sampled_from(sorted(ARROW)),
)
def test_converting_loses_nothing(values: list[Any], kind: str) -> None:
    numbers = [None if value is None else float(value) for value in values]
    found, refused = None, None
    try:
        found = convert(pa.chunked_array([pa.array(numbers, pa.float64())]), kind)
    except Unconvertible as error:
        refused = error
    if refused is not None:
        assert refused.value == numbers[refused.row]
        return
    assert found is not None
    assert [None if value is None else float(value) for value in found.to_pylist()] == numbers


def test_folders_and_globs_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, text in (("b.csv", "x\n3\n4\n"), ("a/2.csv", "x\n2\n"), ("a/1.csv", "x\n1\n"), ("_skip.csv", "x\n9\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.csv").write_text("x\n9\n")
    (tmp_path / "README").write_text("")
    for uri in (tmp_path, f"file://{tmp_path}", f"{tmp_path}/**/[!_]*.csv"):
        assert read_all(locate(str(uri)), schema_of(None))[0]["x"].tolist() == [1, 2, 3, 4]


def test_undeclared_columns_keep_the_types_of_training(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b,c,d,e\n1,1,x,true,2026-01-01\n2,,3,False,\n")
    frame, found = read_all(locate(str(tmp_path / "train.csv")), schema_of(None))
    assert frame.dtypes.astype(str).to_dict() == {
        "a": "int64", "b": "Int64", "c": frame["c"].dtype.name, "d": "bool", "e": frame["e"].dtype.name,
    }  # fmt: skip
    recorded = {column.name: {"kind": column.kind, "nullable": column.nullable} for column in found.columns}
    (tmp_path / "score.csv").write_text("e,a,c,b,d\n2026-01-01,3,4,5,true\n")
    again = read_all(locate(str(tmp_path / "score.csv")), schema_of(None, recorded=recorded))[0]
    assert again.dtypes.to_dict() == frame.dtypes.to_dict(), "4 is a text here too, as it was in training"
    assert list(again.columns) == list(frame.columns)
    (tmp_path / "bad.csv").write_text("a\n1.5\n")
    with pytest.raises(SchemaError, match="not a whole number"):
        read_all(locate(str(tmp_path / "bad.csv")), schema_of(None, recorded=recorded))


def test_quoted_line_breaks_and_marks(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    long = "y" * 100
    rows = "".join(f'"{number}\n{long},""q""",{number}\n' for number in range(60_000))
    file.write_text("\ufeffname,count\n" + rows, encoding="utf-8")
    frame = read_all(locate(str(file)), schema_of(None))[0]
    assert len(frame) == 60_000
    assert frame["name"].iloc[-1] == f'59999\n{long},"q"'
    assert frame["count"].sum() == sum(range(60_000))


def test_nothing_between_commas_is_an_empty_text_only_where_a_text_must_be(tmp_path: Path) -> None:
    class Row(mealkit.Row):
        must: str
        may: str | None
        number: int | None

    (tmp_path / "x.csv").write_text('must,may,number\n,,\n"","",5\nNA,NA,NA\n')
    frame = read_all(locate(str(tmp_path / "x.csv")), schema_of(Row))[0]
    assert frame["must"].tolist() == ["", "", "NA"]
    assert frame["may"].isna().tolist() == [True, False, False]
    assert frame["number"].isna().tolist() == [True, False, True]


def test_fields_with_a_default_may_be_absent(tmp_path: Path) -> None:
    class Row(mealkit.Row):
        a: int
        b: float = 0.5
        c: str | None = None

    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    frame = read_all(locate(str(tmp_path / "x.csv")), schema_of(Row))[0]
    assert frame["b"].tolist() == [0.5, 0.5]
    assert frame["c"].isna().all()


def test_rules_of_a_row_schema() -> None:
    class Row(mealkit.Row):
        a: Annotated[int, Ge(1)] | None
        b: float = mealkit.Field(gt=0, le=2, multiple_of=0.5)
        c: str = mealkit.Field(min_length=2, max_length=3, pattern="x$")
        d: dt.datetime = mealkit.Field(ge=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))

    good = {"a": [1, None], "b": [0.5, 2.0], "c": ["ax", "abx"], "d": [dt.datetime(2026, 1, 1)] * 2}
    assert conform(pa.table(good), schema_of(Row), "x").num_rows == 2
    for name, value, rule in (
        ("a", 0, "≥ 1"), ("b", 0.0, "> 0"), ("b", 2.5, "≤ 2"), ("b", 0.7, "multiple of 0.5"), ("c", "x", "at least 2"),
        ("c", "aaax", "at most 3"), ("c", "ay", "match x$"), ("d", dt.datetime(2025, 12, 31), "≥ 2026"),
    ):  # fmt: skip
        bad = {**good, name: [good[name][0], value]}
        with pytest.raises(SchemaError) as caught:
            conform(pa.table(bad), schema_of(Row), "x.parquet", first_row=11)
        assert rule in caught.value.message
        assert caught.value.where == f"x.parquet, row 12, column {name}"


def test_row_schemas_that_no_column_can_check() -> None:
    from pydantic import AfterValidator, field_validator

    class Nested(mealkit.Row):
        a: list[int]

    class Function(mealkit.Row):
        a: Annotated[int, AfterValidator(lambda value: value)]

    class Validator(mealkit.Row):
        a: int

        @field_validator("a")
        @classmethod
        def check(cls, value: int) -> int:
            return value

    class Alias(mealkit.Row):
        a: int = mealkit.Field(alias="b")

    for row in (Nested, Function, Validator, Alias):
        with pytest.raises(ProjectError) as caught:
            columns_of(row)
        assert caught.value.hint
    assert columns_of(Thing)[3] == Column("maybe", "int", nullable=True)


def test_fingerprints_tell_data_apart_whatever_their_names(tmp_path: Path) -> None:
    for name, size, last in (
        ("a.csv", 100, b"1"),
        ("b.csv", 100, b"1"),
        ("c.csv", 100, b"2"),
        ("d.csv", 20 << 20, b"1"),
    ):
        (tmp_path / name).write_bytes(b"x" * size + last)
    prints = {name: fingerprint(locate(str(tmp_path / f"{name}.csv")), whole=True) for name in "abcd"}
    assert prints["a"] == prints["b"] != prints["c"]
    assert fingerprint(locate(str(tmp_path / "d.csv")), whole=False).startswith("sampled:")


def test_readers_leave_unfinished_work_out(tmp_path: Path) -> None:
    from mealkit.context import Context
    from mealkit.hyperparameters import Hyperparameters

    def saver(run_id: str) -> ParquetBatchSaver:
        made = ParquetBatchSaver({})
        made.open(str(tmp_path), Context(run_id=run_id, hyperparameters=Hyperparameters()))
        made.write(pd.DataFrame({"x": [1, 2]}))
        return made

    done, going = saver("done"), saver("going")
    done.commit()
    assert pd.read_parquet(tmp_path)["batch_id"].unique().tolist() == ["done"]
    assert sum(len(table) for table in pieces(locate(str(tmp_path)), schema_of(None), 10)) == 2
    going.abort()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch_id=done"]
