"""``mealkit data`` as its users see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from profiles import RETAIL, Mealkit, cut, mixed

from mealkit_builder.cli._cell import cell, plain, spark
from mealkit_builder.cli._preview_screen import fold
from mealkit_runtime.preview import preview


def test_the_first_rows_are_shown(mealkit: Mealkit, tmp_path: Path) -> None:
    mixed(500).to_parquet(tmp_path / "x.parquet")
    code, out, err = mealkit("data", "preview", tmp_path / "x.parquet", "--rows", 3)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path}/x.parquet: the first 3 of 500 rows, 7 columns, 1 file"
    assert lines[1].split() == ["x", "y", "heavy", "big", "color", "flag", "at"]
    assert [line.split()[0] for line in lines[4:7]] == ["1", "2", "3"]
    assert all(len(line) <= 100 for line in lines[1:])


def test_wide_tables_are_folded(mealkit: Mealkit, tmp_path: Path) -> None:
    pd.DataFrame({f"column_{number:02}": ["some text"] for number in range(20)}).to_csv(tmp_path / "x.csv", index=False)
    code, out, _ = mealkit("data", "preview", tmp_path / "x.csv", columns=60)
    assert code == 0
    assert "columns 1–5 of 20" in out
    assert "columns 16–20 of 20" in out
    assert max(map(len, out.splitlines()[1:])) <= 60
    assert all(f"column_{number:02}" in out for number in range(20))
    assert fold([10, 10, 100, 10], 30) == [(0, 2), (2, 3), (3, 4)]
    assert fold([], 30) == []


def test_a_preview_as_json(mealkit: Mealkit, tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": [1, None],
            "f": [1.5, float("nan")],
            "when": pa.array([0, 1], pa.timestamp("ms")),
            "list": [[1, 2], None],
            "raw": [b"\x00\xff", b""],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    code, out, _ = mealkit("data", "preview", tmp_path / "x.parquet", "--json")
    found = json.loads(out)
    assert (code, found["total"], found["files"]) == (0, 2, 1)
    assert found["rows"][0] == {"n": 1, "f": 1.5, "when": "1970-01-01T00:00:00", "list": [1, 2], "raw": "00ff"}
    assert found["rows"][1]["f"] is None
    assert [(one["name"], one["missing"]) for one in found["columns"]] == [
        ("n", 1), ("f", 1), ("when", 0), ("list", 1), ("raw", 0)
    ]  # fmt: skip


def test_a_preview_of_csv_tells_what_texts_can_be_read_as(mealkit: Mealkit) -> None:
    _, out, _ = mealkit("data", "preview", RETAIL, "--json", "--rows", 2, "--columns", "date, store,isHoliday")
    found = json.loads(out)
    assert {one["name"]: one["type"] for one in found["columns"]} == {
        "date": "str",
        "store": "int",
        "isHoliday": "bool",
    }
    assert found["rows"][0] == {"date": "2/5/10", "store": 1, "isHoliday": False}


def test_no_more_is_read_than_the_rows_take() -> None:
    asked = []

    def tables() -> object:
        for place, table in enumerate(cut(pa.table({"a": range(100)}), 10)):
            asked.append(place)
            yield table

    found = preview(tables(), uri="x", files=1, total=None, text=False, rows=15)
    assert [row[0] for row in found.rows] == list(range(15))
    assert asked == [0, 1]


def test_cells_do_no_harm() -> None:
    assert plain("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
    assert cell("[red]x[/red]" * 5, 20).plain == "[red]x[/red][red]x[…"
    assert [cell(value, 20).plain for value in (None, True, 1.0, 0.1, 1643690.9)] == [
        "·",
        "true",
        "1",
        "0.1",
        "1643690.9",
    ]
    assert cell({"a": [1, 2]}, 30).plain == '{"a": [1, 2]}'
    assert spark((0, 1, 8)) == " ▂█"


def test_errors_do_no_harm(mealkit: Mealkit, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\x1b[31m,b\n1,2\n")
    code, out, err = mealkit("data", "preview", tmp_path / "x.csv", "--columns", "zzzzz\x9b")
    assert (code, out) == (3, "")
    assert "\\x9b" in err
    assert "the file has: a\\x1b[31m, b" in err
    assert not any(char in err for char in "\x1b\x9b")


def test_a_profile_on_a_terminal(mealkit: Mealkit) -> None:
    code, out, err = mealkit("data", "profile", RETAIL, "--target", "weeklySales")
    assert (code, err) == (0, "")
    assert out.startswith(f"{RETAIL}: 6,435 rows, 11 columns, 1 file\n")
    for text in (
        "look out",
        "! date looks like dates",
        "columns",
        "numbers",
        "what goes with weeklySales",
        "storeSize",
    ):
        assert text in out
    assert max(map(len, out.splitlines()[1:])) <= 100
    assert max(map(len, mealkit("data", "profile", RETAIL, columns=80)[1].splitlines()[1:])) <= 80


def test_a_profile_as_json(mealkit: Mealkit) -> None:
    code, out, err = mealkit("data", "profile", RETAIL, "--json", "--columns", "store,cpi", "--sample", 100)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["rows"], found["sample"], found["query"]) == (6_435, 100, {"columns": ["store", "cpi"]})
    assert [column["name"] for column in found["columns"]] == ["store", "cpi"]


def test_a_schema_to_start_from(mealkit: Mealkit) -> None:
    code, out, _ = mealkit("data", "profile", RETAIL, "--target", "weeklySales", "--schema")
    assert code == 0
    compile(out, "settings.py", "exec")
    assert "class Row(mealkit.Row):" in out
    assert '# target = "weeklySales"' in out
    both = json.loads(mealkit("data", "profile", RETAIL, "--schema", "--json")[1])
    assert both["project"].startswith("[tool.mealkit]\n")


def test_a_part_is_looked_at(mealkit: Mealkit) -> None:
    frame = pd.read_csv(RETAIL)
    chosen = frame[(frame["storeType"] == "C") & (frame["markDown"] > 0)]
    where = ("--where", "storeType = 'C' and markDown > 0")
    found = json.loads(mealkit("data", "profile", RETAIL, *where, "--columns", "store,markDown", "--json")[1])
    assert found["rows"] == len(chosen)
    assert found["query"] == {"columns": ["store", "markDown"], "where": "(storeType = 'C' and markDown > 0)"}
    assert [one["distinct"] for one in found["columns"]] == [chosen["store"].nunique(), chosen["markDown"].nunique()]
    found = json.loads(mealkit("data", "preview", RETAIL, *where, "--rows", 4, "--json")[1])
    assert [row["markDown"] for row in found["rows"]] == chosen["markDown"].head(4).tolist()
    assert json.loads(mealkit("data", "profile", RETAIL, "--limit", 50, "--json")[1])["rows"] == 50


def test_folders_with_partitions_and_nested_columns(mealkit: Mealkit, tmp_path: Path) -> None:
    for year in (2025, 2026):
        folder = tmp_path / "sales" / f"year={year}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"a": [{"b": year, "c": "x"}] * 3}), folder / "1.parquet")
    _, out, _ = mealkit("data", "preview", tmp_path / "sales", "--rows", 4, "--flatten")
    assert "the first 4 of 6 rows, 3 columns, 2 files" in out
    for name in ("a.b", "a.c", "year"):
        assert name in out
    found = json.loads(mealkit("data", "profile", tmp_path / "sales", "--flatten", "--json")[1])
    assert {one["name"]: (one["kind"], one["distinct"]) for one in found["columns"]} == {
        "a.b": ("int", 2), "a.c": ("str", 1), "year": ("int", 2)
    }  # fmt: skip
    found = json.loads(mealkit("data", "profile", tmp_path / "sales", "--where", "year > 2025", "--json")[1])
    assert (found["rows"], found["columns"][0]["kind"]) == (3, "other")
    csv = tmp_path / "text" / "day=2026-01-02"
    csv.mkdir(parents=True)
    (csv / "1.csv").write_text("n\n1\nNA\n")
    found = json.loads(mealkit("data", "profile", tmp_path / "text", "--json")[1])
    assert {one["name"]: (one["kind"], one["missing"]) for one in found["columns"]} == {
        "n": ("int", 1),
        "day": ("date", 0),
    }
    shown = json.loads(mealkit("data", "preview", tmp_path / "text", "--json")[1])
    assert [row["n"] for row in shown["rows"]] == [1, None]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("preview", "{}/none.csv"), 3, "error[unreadable-data]: there is no such file"),
        (("profile", "{}/none.csv"), 3, "error[unreadable-data]: there is no such file"),
        (("preview", "{}/head.csv"), 3, "error[empty-data]: the dataset has no rows"),
        (("profile", "{}/head.csv"), 3, "error[empty-data]: the dataset has no rows"),
        (("profile", "{}/two.csv", "--target", "aa"), 2, "error[settings]: the dataset has no column 'aa'"),
        (
            ("preview", "{}/two.csv", "--columns", "bb"),
            3,
            "error[schema]: the column 'bb', which the query names, is missing",
        ),
        (("profile", "{}/broken.parquet"), 3, "error[unreadable-data]"),
        (("preview", "{}/two.csv", "--rows", "0"), 2, "error[usage]"),
    ],
)
def test_mistakes_are_told(mealkit: Mealkit, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    (tmp_path / "head.csv").write_text("a,b\n")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    found, out, err = mealkit("data", *(one.format(tmp_path) for one in arguments))
    assert found == code
    assert said in err
    assert "hint: " in err
    assert out == ""
    assert "Traceback" not in err


PEAK = """
import sys
from mealkit_builder.cli import main
try:
    main(["data", "profile", sys.argv[1], "--json"])
finally:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")), file=sys.stderr)
"""


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_rows(tmp_path: Path) -> None:
    peaks = []
    for rows in (200_000, 2_000_000):
        path = tmp_path / f"{rows}.parquet"
        random = np.random.default_rng(0)
        with pq.ParquetWriter(path, pa.schema([("id", pa.int64()), ("x", pa.float64())])) as writer:
            for start in range(0, rows, 100_000):
                ids = np.arange(start, start + 100_000)
                writer.write_table(pa.table({"id": ids, "x": random.normal(size=100_000)}))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path)],
            env={**os.environ}, capture_output=True, text=True, check=True, timeout=250,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert found["rows"] == rows
        distinct = found["columns"][0]["distinct"]
        assert not found["columns"][0]["distinct_exact"]
        assert abs(distinct / rows - 1) < 0.04
        peaks.append(int(done.stderr.splitlines()[-1]) / 1024)
    print(f"peak MiB: {peaks}")
    assert peaks[1] < peaks[0] * 1.3
