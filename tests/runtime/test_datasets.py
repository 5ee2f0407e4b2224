"""Datasets: what is written in any format is read as it was, and a query gives the same rows of all of them."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import json
import lzma
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from churn_runs import Runner, make_events, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mealkit
from mealkit.errors import EmptyDataError, SchemaError, SettingsError, UnreadableDataError
from mealkit.spec import RecipeSpec
from mealkit_runtime.condition import Among, Both, Compare, Condition, Missing
from mealkit_runtime.dataset import locate, pieces, read_all, read_table, row_count
from mealkit_runtime.folder import expand, matcher
from mealkit_runtime.query import Query, make_query
from mealkit_runtime.schema import schema_of

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Visit(mealkit.Row):
    number: int
    id: int | None
    name: str | None
    count: int | None
    size: float | None
    good: bool | None
    day: dt.date | None
    at: dt.datetime | None


TYPES = pa.schema(
    [
        ("number", pa.int64()), ("id", pa.int64()), ("name", pa.string()), ("count", pa.int32()),
        ("size", pa.float64()), ("good", pa.bool_()), ("day", pa.date32()), ("at", pa.timestamp("ms")),
    ]
)  # fmt: skip
NAMES = ["", "a", "B", "NA", 'ä,"', "long" * 20, "1"]
DAYS = st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 6))
IDS = [2**53, 2**53 + 1, -(2**53) - 1, 1234567890123456789, 2**63 - 1, -(2**63)]
"""Whole numbers that no float tells apart from their neighbours."""

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(IDS),
    "name": st.sampled_from(NAMES[1:]),
    "count": st.integers(-2, 2),
    "size": st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 1e300]),
    "good": st.booleans(),
    "day": DAYS,
    "at": st.builds(dt.datetime.combine, DAYS, st.sampled_from([dt.time(), dt.time(12, 30), dt.time(23, 59, 59)])),
}
ROWS = st.lists(st.fixed_dictionaries({k: st.none() | v for k, v in VALUES.items()}), min_size=1, max_size=25)


def literal(name: str) -> st.SearchStrategy[Any]:
    values = VALUES[name]
    if name in ("day", "at"):
        return values.map(lambda value: value.isoformat())
    if name == "id":
        return values | st.sampled_from([1234567890123456790, 2.0**53, 0.5, -1e18, 2**63, -1e19, 1e400])
    return values | st.sampled_from([0, 1.5]) if name in ("count", "size") else values


def leaf(name: str) -> st.SearchStrategy[Condition]:
    signs = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    return st.one_of(
        st.builds(Compare, st.just(name), signs, literal(name)),
        st.builds(Among, st.just(name), st.lists(literal(name), min_size=1, max_size=3).map(tuple), st.booleans()),
        st.builds(Missing, st.just(name), st.booleans()),
    )


CONDITIONS = st.recursive(
    st.sampled_from(sorted(VALUES)).flatmap(leaf),
    lambda inner: st.builds(Both, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3).map(tuple)),
    max_leaves=4,
)


def judge(condition: Condition, row: dict[str, Any]) -> bool | None:
    if isinstance(condition, Both):
        parts = [judge(part, row) for part in condition.parts]
        sure = condition.word == "or"
        return sure if sure in parts else None if None in parts else not sure
    value = row[condition.column]
    if isinstance(condition, Missing):
        return (value is None) != condition.negated
    if value is None:
        return None

    def same_type(other: Any) -> Any:
        if not isinstance(other, str) or condition.column == "name":
            return other
        moment = dt.datetime.fromisoformat(other)
        return moment if isinstance(value, dt.datetime) else moment.date()

    if isinstance(condition, Among):
        return (value in [same_type(other) for other in condition.values]) != condition.negated
    other = same_type(condition.value)
    return {
        "=": value == other, "!=": value != other, "<": value < other, "<=": value <= other, ">": value > other,
        ">=": value >= other,
    }[condition.sign]  # fmt: skip


def csv_text(rows: list[dict[str, Any]]) -> str:
    def cell(value: Any) -> str:
        return "" if value is None else f'"{value}"'.replace('ä,""', 'ä,"""') if isinstance(value, str) else str(value)

    lines = [",".join(TYPES.names)]
    return "\n".join([*lines, *(",".join(cell(row[name]) for name in TYPES.names) for row in rows)]) + "\n"


def json_text(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, default=lambda value: value.isoformat()) + "\n" for row in rows)


def write_all(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """The same rows in every format, and in every packing at least once."""
    table = pa.Table.from_pylist(rows, TYPES)
    pq.write_table(table, folder / "x.parquet", row_group_size=3)
    with pa.ipc.new_file(folder / "x.arrow", TYPES) as writer:
        writer.write_table(table, max_chunksize=4)
    with pa.ipc.new_stream(folder / "stream.ipc", TYPES) as stream:
        stream.write_table(table, max_chunksize=4)
    import pyarrow.feather

    pyarrow.feather.write_feather(table, folder / "x.feather", compression="zstd")
    text, lines = csv_text(rows).encode(), json_text(rows).encode()
    packed: dict[str, bytes] = {
        "x.csv": text, "x.csv.gz": gzip.compress(text), "x.csv.bz2": bz2.compress(text),
        "x.csv.xz": lzma.compress(text), "x.csv.zst": _packed(text, "zstd"), "x.jsonl": lines,
        "x.jsonl.lz4": _packed(lines, "lz4"),
        "x.ndjson.zst": _packed(lines, "zstd"), "x.json.xz": lzma.compress(lines), "x.jsonl.bz2": bz2.compress(lines),
    }  # fmt: skip
    for name, data in packed.items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


def _packed(data: bytes, kind: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, kind) as stream:
        stream.write(data)
    return bytes(sink.getvalue())


@QUICK
@given(ROWS, CONDITIONS, st.sampled_from([None, 3, 0.5]), st.none() | st.integers(1, 9), st.booleans())
def test_a_query_gives_the_same_rows_of_every_format(
    rows: list[dict[str, Any]], where: Condition, sample: float | None, limit: int | None, window: bool
) -> None:
    rows = [{"number": number, **row} for number, row in enumerate(rows)]
    since = dt.datetime(2026, 1, 2, 12) if window else None
    query = Query(where=where, time="at", since=since, sample=sample, limit=limit)
    chosen = [row for row in rows if judge(where, row) and (since is None or (row["at"] and row["at"] >= since))]
    found: list[list[int]] = []
    with tempfile.TemporaryDirectory() as name:
        for path in write_all(rows, Path(name)):
            source = locate(str(path), query)
            parts = [part["number"].to_pylist() for part in pieces(source, schema_of(Visit), 7)]
            found.append([number for part in parts for number in part])
            if sample is None and limit is None:
                assert found[-1] == [row["number"] for row in chosen], path.name
    assert all(one == found[0] for one in found)
    numbers = [row["number"] for row in chosen]
    assert found[0] == [number for number in numbers if number in found[0]], "the order is kept"
    if limit is not None:
        assert len(found[0]) <= limit
    if sample == 3:
        assert len(found[0]) == min(3, len(chosen), limit or 3)


@QUICK
@given(ROWS)
def test_every_format_gives_back_what_was_written(rows: list[dict[str, Any]]) -> None:
    rows = [{"number": number, **row} for number, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as name:
        frames = [read_all(locate(str(path)), schema_of(Visit))[0] for path in write_all(rows, Path(name))]
    for frame in frames:
        pd.testing.assert_frame_equal(frame, frames[0], check_exact=True)
    assert [None if pd.isna(value) else value for value in frames[0]["count"]] == [row["count"] for row in rows]
    assert [None if pd.isna(value) else value for value in frames[0]["name"]] == [row["name"] for row in rows]


def test_undeclared_columns_are_compared_as_what_they_are_compared_with(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c\n1,x,2026-01-01\n2.5,,2026-01-02T12:00:00Z\n,y,\n10,x,2026-01-03\n")

    def numbers(where: str, **more: Any) -> list[str]:
        source = locate(str(tmp_path / "x.csv"), make_query(where=where, **more))
        return read_table(source, schema_of(None))[0]["c"].to_pylist()

    assert numbers("a > 2") == ["2026-01-02T12:00:00Z", "2026-01-03"]
    assert numbers("a < 10 and b is not null") == ["2026-01-01"]
    assert numbers("b = 'x'", time="c", since="2026-01-02") == ["2026-01-03"]
    with pytest.raises(SchemaError, match="'x', which cannot be compared with 1") as caught:
        numbers("b > 1")
    assert caught.value.where == f"{tmp_path}/x.csv, row 1, column b"
    with pytest.raises(EmptyDataError, match="the query leaves no rows"):
        numbers("a > 99")
    (tmp_path / "x.csv").write_text("a,c\n1234567890123456789,old\n1234567890123456790,new\n,\n")
    assert numbers("a > 1234567890123456789") == ["new"], "compared as whole numbers"


def test_a_bad_value_in_a_compared_column_is_told_and_not_left_out(tmp_path: Path) -> None:
    lines = ("number,id,name,count,size,good,day,at", "1,,a,1,1,1,,", "2,,a,much,1,1,,", "3,,a,3,1,1,,", "")
    (tmp_path / "x.csv").write_text("\n".join(lines))
    source = locate(str(tmp_path / "x.csv"), make_query(where="count > 2"))
    with pytest.raises(SchemaError, match="'much', which is not a whole number") as caught:
        read_table(source, schema_of(Visit))
    assert caught.value.where == f"{tmp_path}/x.csv, row 2, column count"
    source = locate(str(tmp_path / "x.csv"), make_query(where="count > 2 and number != 2"))
    assert read_table(source, schema_of(Visit))[0]["number"].to_pylist() == [3]


@pytest.mark.parametrize(
    ("where", "error", "message", "hint"),
    [
        ("count > 'x'", SettingsError, "'count' holds whole numbers, and is compared with 'x'", "without quotes"),
        ("name > 1", SettingsError, "'name' holds texts", "quotes"),
        ("day > 'soon'", SettingsError, "'day' holds times", "2026-01-31"),
        ("good = 'yes'", SettingsError, "true and false", "true or false"),
        ("cuont > 1", SchemaError, "'cuont', which the query names, is missing", "did you mean 'count'?"),
    ],
)
def test_conditions_that_do_not_fit(tmp_path: Path, where: str, error: type, message: str, hint: str) -> None:
    values = (1, 1, "a", 1, 1.0, True, dt.date(2026, 1, 1), None)
    rows = [dict(zip(TYPES.names, values, strict=True))]
    for path in write_all(rows, tmp_path):
        with pytest.raises(error) as caught:
            read_table(locate(str(path), make_query(where=where)), schema_of(Visit))
        assert message in caught.value.message, path.name
        assert hint in caught.value.hint, path.name


def test_row_groups_that_cannot_hold_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"n": range(1000), "x": pa.array([float("nan"), None, 1.0, 2.0] * 250)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=100)
    asked: list[list[int]] = []
    real = pq.ParquetFile.iter_batches

    def spy(self: Any, **options: Any) -> Any:
        asked.append(options["row_groups"])
        return real(self, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    for where, groups in (
        ("n between 250 and 310", [[2, 3]]),
        ("n = 0 or n >= 995", [[0], [9]]),
        ("n < 0", []),
        ("x is null and n < 100", [[0]]),
    ):
        asked.clear()
        source = locate(str(tmp_path / "x.parquet"), make_query(where=where))
        rows = sum(len(part) for part in pieces(source, schema_of(None), 10))
        assert asked == groups, where
        assert rows == {"n b": 61, "n =": 6, "n <": 0, "x i": 50}[where[:3]]


SECONDS = [0, 1, 59, 60, 3600, 86_400]
STAMPS = st.sampled_from([dt.datetime(2026, 1, 1) + dt.timedelta(seconds=second) for second in SECONDS])
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-3, 3), st.integers(-3, 200) | st.sampled_from([0.5, 2.0])),
    (pa.uint32(), st.integers(0, 3), st.integers(-3, 3)),
    (pa.int64(), st.sampled_from(IDS), st.sampled_from([*IDS, 0.5, -1e18, 2**63, 1e400])),
    (pa.uint64(), st.sampled_from([1, 2**63 - 1, 2**63, 2**64 - 1]), st.sampled_from([1, 2**63 - 1, 2**64 - 1, 2**64])),
    (pa.float32(), st.sampled_from([0.0, -0.0, 0.1, float("nan"), float("inf")]), st.sampled_from([0, 0.1, 1e400])),
    (pa.decimal128(9, 2), st.decimals(-2, 2, places=2), st.sampled_from([0, 0.5, 1.1, -1])),
    (pa.large_string(), st.sampled_from(["a", "b", "é", "\U0001f600", ""]), st.sampled_from(["a", "é", "z"])),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b"]), st.sampled_from(["a", "c"])),
    (pa.timestamp("ns"), STAMPS, STAMPS.map(dt.datetime.isoformat)),
    (pa.timestamp("us", "America/New_York"), STAMPS, STAMPS.map(lambda value: value.isoformat() + "+01:00")),
    (pa.date64(), STAMPS.map(dt.datetime.date), STAMPS.map(dt.datetime.isoformat)),
    (pa.bool_(), st.booleans(), st.booleans()),
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(KINDS))
def test_statistics_leave_out_no_row(data: Any, kind: tuple[Any, Any, Any]) -> None:
    arrow, values, literals = kind
    column = data.draw(st.lists(st.none() | values, min_size=1, max_size=9))
    table = pa.table({"n": range(len(column)), "x": pa.array(column, arrow)})
    where = data.draw(
        st.one_of(
            st.builds(Compare, st.just("x"), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), literals),
            st.builds(Among, st.just("x"), st.tuples(literals, literals), st.booleans()),
            st.builds(Missing, st.just("x"), st.booleans()),
        )
    )
    found = []
    with tempfile.TemporaryDirectory() as name:
        for file, options in (("x", {"row_group_size": 2}), ("y", {"write_statistics": False})):
            pq.write_table(table, Path(name) / f"{file}.parquet", **options)
            source = locate(f"{name}/{file}.parquet", Query(where=where))
            try:
                found.append([n for part in pieces(source, schema_of(None), 10) for n in part["n"].to_pylist()])
            except SchemaError as error:
                found.append(error.message)  # a number beyond 64 bits with a sign, which cannot be compared
    assert found[0] == found[1]


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"x": range(12)})
    for year in (2025, 2026):
        for day in ("2026-01-01", "2026-01-02"):
            for shop in ("north east", "__HIVE_DEFAULT_PARTITION__"):
                path = tmp_path / "hive" / f"year={year}" / f"day={day}" / f"shop={shop.replace(' ', '%20')}"
                write(frame, path / "part.parquet")
    return tmp_path / "hive"


def test_columns_of_hive_partitions(hive: Path) -> None:
    table, found = read_table(locate(str(hive)), schema_of(None))
    assert table.schema.types == [pa.int64(), pa.int64(), pa.timestamp("us"), pa.string()]
    assert [column.kind for column in found.columns] == ["int", "int", "datetime", "str"]
    assert table["shop"].unique().to_pylist() == [None, "north east"]
    assert table["year"].unique().to_pylist() == [2025, 2026]

    class Row(mealkit.Row):
        year: str
        day: dt.date
        x: int

    frame = read_all(locate(f"{hive}/year=2026/*/*/*.parquet"), schema_of(Row))[0]
    assert frame["year"].unique().tolist() == ["2026"]
    assert list(frame) == ["year", "day", "x"]

    class Odd(mealkit.Row):
        shop: int | None

    with pytest.raises(SchemaError, match="'north east' in the path, which is not a whole number"):
        read_all(locate(str(hive)), schema_of(Odd))


def test_files_of_other_partitions_are_not_opened(hive: Path) -> None:
    for path in hive.glob("year=2025/**/*.parquet"):
        path.write_bytes(b"broken")
    query = make_query(where="year > 2025 and shop is not null", columns="x,day", limit=20)
    table = read_table(locate(str(hive), query), schema_of(None))[0]
    assert table.column_names == ["x", "day"]
    assert table["x"].to_pylist() == [*range(12), *range(8)]
    with pytest.raises(UnreadableDataError):
        read_table(locate(str(hive), make_query(where="x > 5")), schema_of(None))


NESTED = [
    {"id": 1, "who": {"name": "a", "home": {"city": "x"}}, "tags": [1, 2]},
    {"id": 2, "who": {"name": None, "home": None}, "tags": []},
    {"id": 3, "who": None, "tags": None},
]


def test_nested_columns(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(NESTED)
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in NESTED))
    for name in ("x.parquet", "x.arrow", "x.jsonl"):
        flat = read_table(locate(str(tmp_path / name), Query(flatten=True)), schema_of(None))[0]
        assert flat.column_names == ["id", "who.name", "who.home.city", "tags"], name
        assert flat["who.home.city"].to_pylist() == ["x", None, None]
        query = make_query(flatten=True, columns="id,who.home.city", where="who.name = 'a'")
        part = read_table(locate(str(tmp_path / name), query), schema_of(None))[0]
        assert part.to_pylist() == [{"id": 1, "who.home.city": "x"}], name
        with pytest.raises(SettingsError, match="cannot be compared: it holds struct"):
            read_table(locate(str(tmp_path / name), make_query(where="who > 1")), schema_of(None))


def test_columns_that_are_chosen(tmp_path: Path) -> None:
    assert make_query(columns="`a,b` , c,`d`,e f, `g`h`").columns == ("a,b", "c", "d", "e f", "`g`h`")
    write(pd.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]}), tmp_path / "x.parquet")
    source = locate(str(tmp_path / "x.parquet"), make_query(columns="c,a", where="b > 3"))
    assert read_table(source, schema_of(None))[0].to_pylist() == [{"a": 2, "c": 6}]
    with pytest.raises(SchemaError, match="'cc', which the query names") as caught:
        read_table(locate(str(tmp_path / "x.parquet"), make_query(columns="a,cc")), schema_of(None))
    assert caught.value.hint == "did you mean 'c'?"


def test_how_many_rows_are_to_be_read(tmp_path: Path) -> None:
    write(pd.DataFrame({"a": range(10)}), tmp_path / "d" / "x.parquet")
    for query, rows in (
        ({}, 10),
        ({"limit": 4}, 4),
        ({"sample": "3"}, 3),
        ({"sample": "0.5"}, None),
        ({"where": "a>1"}, None),
    ):
        assert row_count(locate(str(tmp_path / "d"), make_query(**query))) == rows


def test_samples_are_fair_and_their_seed_counts(tmp_path: Path) -> None:
    write(pd.DataFrame({"a": range(2000)}), tmp_path / "x.parquet")

    def sample(share: str, seed: int = 0) -> list[int]:
        query = make_query(sample=share, sample_seed=seed)
        return read_table(locate(str(tmp_path / "x.parquet"), query), schema_of(None))[0]["a"].to_pylist()

    assert sample("10%") == sample("0.1") != sample("0.1", 1)
    assert 140 < len(sample("0.1")) < 260
    assert len(sample("150")) == 150
    assert sample("150") != sample("150", 1)
    assert 800 < sum(sample("150")) / 150 < 1200
    assert sample("5000") == list(range(2000))


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    packed = {"gz": gzip.compress(b"a\n1\n"), "xz": lzma.compress(b"a\n1\n"), "zst": _packed(b"a\n1\n", "zstd")}
    cases: list[tuple[str, bytes, str]] = [
        ("cut.csv.xz", packed["xz"][:-9], "cut"),
        ("cut.csv.zst", packed["zst"][:-3], ""),
        ("cut.csv.bz2", bz2.compress(b"a\n1\n" * 99)[:-9], "cut"),
        ("plain.csv.zst", b"a\n1\n", ""),
        ("packed.csv", packed["gz"], ".gz"),
        ("old.feather", b"FEA1" + bytes(20), "write it again"),
        ("cut.arrow", b"ARROW1\0\0" + bytes(20), "cut"),
        ("none.arrow", b"", "cut"),
    ]
    for name, data, hint in cases:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableDataError) as caught:
            read_table(locate(str(tmp_path / name)), schema_of(None))
        assert str(tmp_path / name) in str(caught.value.where), name
        assert hint in str(caught.value.hint), name
    for name in ("x.parquet.gz", "x.arrow.zst"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UnreadableDataError, match="tells no format"):
            locate(str(tmp_path / name))


GLOBS = ["*.csv", "a/*.csv", "**/*.csv", "a*/**/x.csv", "**", "[ab]/?.csv", "[!a]/*", "a/.hid*", "*/b/*.csv"]


@pytest.mark.parametrize("pattern", GLOBS)
def test_globs_match_what_those_of_python_match(tmp_path: Path, pattern: str) -> None:
    import glob

    for name in (
        "x.csv",
        "a/x.csv",
        "a/b/x.csv",
        "ab/c/d/x.csv",
        "b/1.csv",
        "b/b/1.csv",
        "a/.hidden",
        ".h/x.csv",
        "c/y.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    found = glob.glob(pattern, root_dir=tmp_path, recursive=True)  # noqa: PTH207 - what is compared
    expected = {name for name in found if (tmp_path / name).is_file()}
    assert set(filter(matcher(pattern), files)) == expected
    assert [one.relative_to(tmp_path).as_posix() for one in expand(f"{tmp_path}/{pattern}") if one.is_file()] == sorted(
        expected, key=lambda name: name.split("/")
    )


def test_a_run_reads_a_part_and_says_so(run: Runner, common: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    arguments = ("--input", data / "events.csv", *common, "--model", tmp_path / "m", "--log-format", "json")
    outcome = run("train", *arguments, "--where", "kind in ('call', 'complaint')", "--limit", "150")
    assert outcome.code == 0, outcome.err
    events = make_events()
    assert outcome.result["input"]["query"] == {"where": "kind in ('call', 'complaint')", "limit": 150}
    assert outcome.result["rows_read"] == min(150, int((events["kind"] != "visit").sum()))
    model = json.loads((tmp_path / "m" / "model.json").read_text())
    assert model["input"]["query"] == outcome.result["input"]["query"]
    refused = run("train", *arguments, "--since", "2026-02-01")
    assert refused.code == 2
    assert "the recipe names none" in refused.error["message"]


def test_a_time_window_by_the_recipes_column(
    run: Runner, churn: RecipeSpec, common: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    spec = replace(churn, time="day")
    assert "time      day" in run("describe", spec=spec).out
    window = ("--since", "2026-03-01", "--until", "2026-06-01")
    arguments = ("--input", data / "events.csv", *common, "--log-format", "json", "--validation", data / "events.csv")
    outcome = run("train", *arguments, "--model", tmp_path / "m", *window, spec=spec)
    assert outcome.code == 0, outcome.err
    day = make_events()["day"]
    assert outcome.result["rows_read"] == int(((day >= "2026-03-01") & (day < "2026-06-01")).sum())
    query = outcome.result["input"]["query"]
    assert query == {"time": "day", "since": "2026-03-01T00:00:00", "until": "2026-06-01T00:00:00"}
    cases = next(event for event in outcome.events if event.get("stage") == "prepare" and "validation" in event)
    assert cases["validation"] > cases["cases"], "the window is not for the validation data"
    refused = run("train", *arguments, "--model", tmp_path / "n", "--since", "noon", spec=spec)
    assert (refused.code, refused.error["where"]) == (2, "since")


def test_bad_rows_of_a_part_are_told_by_their_place_in_the_file(
    run: Runner, common: tuple[str, ...], model: Path, tmp_path: Path
) -> None:
    lines = make_events(seed=1).drop(columns="left").to_csv(index=False, date_format="%Y-%m-%d").splitlines()
    column = lines[0].split(",").index("amount")
    for number, amount in ((7, "much"), (9, "-1e3"), (11, "more")):
        cells = lines[number].split(",")
        cells[column] = amount
        lines[number] = ",".join(cells)
    file = tmp_path / "x.csv"
    file.write_text("\n".join(lines) + "\n")

    def score(*more: object) -> Any:
        return run(
            "score", "--input", file, *common, "--model", model, "--output", tmp_path / "out", "--log-format", "json",
            *more,
        )  # fmt: skip

    refused = score("--where", "amount > 5")
    assert refused.error["where"] == f"{file}, row 7, column amount"
    outcome = score("--where", "amount > 5", "--on-bad-rows", "skip")
    assert outcome.code == 0, outcome.err
    whole = [line.split(",")[column] for line in lines[1:]]
    good = sum(amount not in ("", "much", "more") and float(amount) > 5 for amount in whole)
    assert outcome.result["rows_read"] == good + 2, "what cannot be judged is read, and then refused"
    assert outcome.result["rows_skipped"] == 2


def test_a_batch_tells_which_part_it_is_of(
    run: Runner, common: tuple[str, ...], data: Path, model: Path, tmp_path: Path
) -> None:
    def score(*more: object) -> Any:
        return run(
            "score", "--input", data / "new.parquet", *common, "--model", model, "--output", tmp_path / "out",
            "--run-id", "r", "--log-format", "json", *more,
        )  # fmt: skip

    outcome = score("--where", "plan = 'gold'")
    assert outcome.code == 0, outcome.err
    gold = int((make_events(seed=1)["plan"] == "gold").sum())
    assert outcome.result["rows_read"] == gold
    record = json.loads((tmp_path / "out" / "batch_id=r" / "_batch.json").read_text())
    assert record["input"]["query"] == {"where": "plan = 'gold'"}
    again = score("--where", "plan = 'basic'")
    assert again.result["batch"]["existed"]
    assert "another input" in again.result["warnings"][0]
