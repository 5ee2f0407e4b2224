"""CSV and JSON lines as people and programs write them: what is odd is read, and what is broken is told by its row."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mealkit
from mealkit.errors import EmptyDataError, MealkitError, SchemaError, UnreadableDataError
from mealkit_runtime import csv_file, json_lines
from mealkit_runtime.bad_row import BadRows
from mealkit_runtime.dataset import locate, pieces, read_table
from mealkit_runtime.query import make_query
from mealkit_runtime.schema import schema_of

QUICK = settings(max_examples=60, deadline=None)


def read(path: Path, row: type[mealkit.Row] | None = None, **query: Any) -> list[dict[str, Any]]:
    tables = pieces(locate(str(path), make_query(**query)), schema_of(row), 1000)
    return [one for table in tables for one in table.to_pylist()]


def read_text(text: str | bytes, folder: Path, name: str = "x.csv") -> list[dict[str, Any]]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return read(folder / name)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,x\n2,\n", "a,b\r\n1,x\r\n2,\r\n", "a,b\r1,x\r2,\r", "\ufeffa,b\n1,x\n2,", "\n\na,b\n\n1,x\n\n2,\n\n",
        "a;b\n1;x\n2;\n", "a\tb\n1\tx\n2\t\n", "a|b\r\n1|x\r\n2|\r\n", '"a","b"\n"1","x"\n"2",\n', "\n\na;b\n1;x\n2;\n",
    ],
)  # fmt: skip
def test_ways_to_write_csv(tmp_path: Path, text: str) -> None:
    assert read_text(text, tmp_path) == [{"a": "1", "b": "x"}, {"a": "2", "b": None}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('"a;b"\n1;2\n', [{"a;b": "1;2"}]),
        ("a;b,c\n1;2,3\n", [{"a;b": "1;2", "c": "3"}]),
        ('a,b\n1,5" pipe\n', [{"a": "1", "b": '5" pipe'}]),
        ('a,b\n1,"x\n""y"""\n', [{"a": "1", "b": 'x\n"y"'}]),
        ('"a ""q""","new\nline"\n1,2\n', [{'a "q"': "1", "new\nline": "2"}]),
        ("a\n1\n\n2\n", [{"a": "1"}, {"a": "2"}]),
        (",a\n0,1\n", [{"": "0", "a": "1"}]),
    ],
)
def test_signs_and_quotes(tmp_path: Path, text: str, rows: list[dict[str, Any]]) -> None:
    assert read_text(text, tmp_path) == rows


CELLS = st.text(st.sampled_from("ab\",;\n\r'\t é"), max_size=6)


@QUICK
@given(st.sampled_from(",;\t|"), st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=6), st.booleans())
def test_what_python_writes_is_read(sign: str, rows: list[list[str]], end: bool) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=sign, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["a", "b"], *rows])
    with tempfile.TemporaryDirectory() as name:
        found = read_text(text.getvalue() if end else text.getvalue()[:-1], Path(name))
    assert [[row["a"], row["b"]] for row in found] == rows


def test_files_without_rows_among_others(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("a\n1\n")
    for name, text in (("a.csv", ""), ("c.csv", "\n\n"), ("d.csv", "a"), ("e.csv", "a\n"), ("f.csv", "\ufeff")):
        (tmp_path / name).write_text(text)
        assert read(tmp_path) == [{"a": "1"}], name
        with pytest.raises(EmptyDataError, match="the dataset has no rows"):
            read_table(locate(str(tmp_path / name)), schema_of(None))
    (tmp_path / "g.csv").write_text("b")
    with pytest.raises(SchemaError, match="'a' is missing"):
        read(tmp_path, columns=None, row=type("Row", (mealkit.Row,), {"__annotations__": {"a": int}}))


LINES = [f"{number},x{number}" for number in range(1, 20_001)]


def broken(place: int, line: str, folder: Path) -> MealkitError:
    """What is said of a file of 20,000 rows of which one is wrong, read in blocks of 64 KiB."""
    lines = ["a,b", *LINES]
    lines[place] = line
    path = folder / "x.csv"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(UnreadableDataError) as caught:
        read(path)
    return caught.value


@pytest.mark.parametrize("place", [1, 9_000, 19_990, 20_000])
def test_the_row_that_is_wrong_is_told(tmp_path: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_BLOCK", 1 << 16)
    for line, message in (
        ("1", "the row has 1 value, and the header 2"),
        ("1,2,3", "the row has 3 values, and the header 2"),
        ("1,é", "it is not UTF-8"),
        ("1," + "x" * (1 << 18), "the row is longer than"),
        ('1,"open', "a quote is opened and not closed: all that follows it became one value"),
    ):
        if "open" in line and place == 20_000:
            continue  # there is nothing that follows
        error = broken(place, line, tmp_path)
        assert message in error.message
        assert f"x.csv, row {place:,}" in str(error.where)


def test_columns_that_are_not_asked_for_may_hold_the_open_quote(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('a,b\n1,x\n2,"open\n3,y\n')
    with pytest.raises(UnreadableDataError, match="a quote is opened"):
        read(tmp_path / "x.csv", columns="a")
    (tmp_path / "x.csv").write_text('a,b\n1,5" pipe\n2,"shut\n3,y"\n')
    assert read(tmp_path / "x.csv", columns="a") == [{"a": "1"}, {"a": "2"}]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("a,b\n1,é\n".encode("latin-1"), "it is not UTF-8", "iconv -f latin1"),
        ("a,é\n1,2\n".encode("latin-1"), "its header is not UTF-8", "iconv -f latin1"),
        ("a,b\n1,2\n".encode("utf-16"), "", "it may be UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "no text", "it may be UTF-16"),
        (b"x" * (200 << 10) + b"\0", "no text", ""),
    ],
)
def test_other_encodings(tmp_path: Path, text: bytes, message: str, hint: str) -> None:
    with pytest.raises(UnreadableDataError) as caught:
        read_text(text, tmp_path)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


class Order(mealkit.Row):
    id: int
    note: str | None
    size: float = 1.0


def lines(count: int, late: int, **fields: Any) -> str:
    return "".join(json.dumps({"id": n, **(fields if n >= late else {})}) + "\n" for n in range(count))


def test_a_key_may_come_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_ROWS", 10)
    path = tmp_path / "x.jsonl"
    path.write_text(lines(35, 33, note="late", size=2))
    expected = [{"id": n, "note": "late" if n >= 33 else None, "size": 2.0 if n >= 33 else 1.0} for n in range(35)]
    assert read(path, Order) == expected, "wherever the pieces begin"
    assert [row["id"] for row in read(path, where="note = 'late'")] == [33, 34]
    assert [row["id"] for row in read(path, columns="note,id")] == list(range(35))
    path.write_text(lines(35, 33, nota="late"))
    with pytest.raises(SchemaError, match="'note' is missing") as caught:
        read(path, Order)
    assert caught.value.hint == "the file has: id"


def test_nested_keys_may_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_ROWS", 2)
    rows: list[dict[str, Any]] = [
        {"id": 1, "at": {"x": 1}},
        {"id": 2, "at": None},
        {"id": 3, "at": None},
        {"id": 4},
        {"id": 5, "at": {"y": {"z": "deep"}}},
        {"id": 6, "at": {"x": 6, "y": None}},
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read(path, flatten=True, columns="id,at.x,at.y.z")
    assert [row["at.x"] for row in found] == [1, None, None, None, None, 6]
    assert [row["at.y.z"] for row in found] == [None, None, None, None, "deep", None]
    assert set().union(*read(path, flatten=True)) == {"id", "at.x", "at.y.z"}
    assert [row["id"] for row in read(path, flatten=True, where="at.y.z = 'deep'")] == [5]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('{"id": "\\ud800"}', UnreadableDataError, "line 2 has half of a character"),
        ('{"id": ' + "[" * 50_000 + "]" * 50_000 + "}", UnreadableDataError, "line 2 is nested too deep"),
        ('{"id": ' + "1" * 5_000 + "}", UnreadableDataError, "line 2 is not JSON"),
        ('{"id": 1', UnreadableDataError, "line 2 is not JSON"),
        ('{"id": "é"}', UnreadableDataError, "line 2 is not UTF-8"),
        ("[1]", UnreadableDataError, "line 2 is no JSON object"),
        ('{"id": {"a": "x"}}', SchemaError, "which is of another type than others"),
        ('{"a.b": 1, "a": {"b": 2}}', SchemaError, "'a.b' stands twice"),
    ],
)
def test_broken_lines(tmp_path: Path, line: str, error: type[MealkitError], message: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(('{"id": 1}\n' + line + "\n").encode("latin-1"))
    with pytest.raises(error, match=message) as caught:
        read(tmp_path / "x.jsonl", flatten="stands twice" in message)
    assert "2" in str(caught.value.where)


def test_lines_without_keys(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no object has a key"):
        read_text("{}\n{}\n", tmp_path, "x.jsonl")
    bad = BadRows("skip")
    (tmp_path / "x.jsonl").write_text('{}\n{"id": 2, "note": null}\n')
    source = locate(str(tmp_path / "x.jsonl"))
    assert [one for table in pieces(source, schema_of(Order), 9, bad) for one in table["id"].to_pylist()] == [2]
    assert (bad.rows_read, bad.rows_bad, bad.by_rule) == (2, 1, {"id": {"missing": 1}})
