"""Which files a path means: nothing is passed over without a word, and nothing comes twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mealkit.errors import EmptyDataError, UnreadableDataError
from mealkit_runtime.dataset import locate, pieces, read_table
from mealkit_runtime.query import make_query
from mealkit_runtime.schema import schema_of

TABLE = pa.table({"n": [1, 2]})


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(TABLE, path)
    return path


def rows(uri: object, **query: object) -> int:
    return sum(map(len, pieces(locate(str(uri), make_query(**query)), schema_of(None), 10)))  # type: ignore[arg-type]


NAMES = ["a b", "a#b", "a%20b", "a?b", "a*b", "a[1]", "a&b;c'd", "ä\u0301", "a\nb", "a@v3", "-x", "{x}", "C:x"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / f"{name}.parquet")
    put(tmp_path / name / f"key={quote(name, safe='')}" / f"{name}.parquet")
    assert rows(path) == rows(f"file://{quote(str(path))}") == 2
    found = read_table(locate(str(tmp_path / name)), schema_of(None))[0]
    assert found["key"].to_pylist() == [name, name]
    assert rows(f"{tmp_path}/*.parquet") == 2


def test_links(tmp_path: Path) -> None:
    put(tmp_path / "data" / "sub" / "a.parquet")
    (tmp_path / "data" / "loop").symlink_to(".")
    (tmp_path / "data" / "b.parquet").symlink_to("sub/a.parquet")
    (tmp_path / "other").symlink_to("data")
    assert rows(tmp_path / "data") == rows(tmp_path / "other") == 4, "a linked file, and a linked folder that is named"
    assert rows(f"{tmp_path}/data/**/*.parquet") == rows(f"{tmp_path}/data/**") == 4, "no way leads in circles"
    assert rows(f"{tmp_path}/oth*/*.parquet") == 2
    assert rows(f"{tmp_path}/data/loop/loop/*.parquet") == 2


@pytest.mark.parametrize("target", ["nowhere.parquet", "broken.parquet"])
def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, target: str) -> None:
    put(tmp_path / "a.parquet")
    link = tmp_path / "broken.parquet"
    link.symlink_to(target)
    for uri in (tmp_path, link, f"{tmp_path}/*.parquet", f"{tmp_path}/**/*.parquet"):
        with pytest.raises(UnreadableDataError, match="it is a link, and what it leads to is not there") as caught:
            locate(str(uri))
        assert caught.value.where == str(link)
    (tmp_path / "note.txt").symlink_to(target)
    link.unlink()
    assert rows(tmp_path) == 2, "what is no data file does not matter"


def test_what_cannot_be_read_twice_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for uri in (tmp_path / "pipe.csv", tmp_path):
        with pytest.raises(UnreadableDataError, match="no regular file"):
            locate(str(uri))


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """Folders with two folders and one file that nobody may look into, but who may do all."""
    put(tmp_path / "a" / "open.parquet")
    for name in ("sub", "lost+found"):
        put(tmp_path / "a" / name / "x.parquet")
    put(tmp_path / "b" / "open.parquet")
    put(tmp_path / "b" / "shut.parquet")
    shut = [tmp_path / "a" / "sub", tmp_path / "a" / "lost+found", tmp_path / "b" / "shut.parquet"]
    for path in shut:
        path.chmod(0)
    yield tmp_path
    for path in shut:
        path.chmod(0o755)


_ASK = """
import sys
from mealkit.errors import MealkitError
from mealkit_runtime.dataset import locate, pieces
from mealkit_runtime.schema import schema_of
for uri in sys.argv[1:]:
    try:
        print(sum(map(len, pieces(locate(uri), schema_of(None), 10))))
    except MealkitError as error:
        print(type(error).__name__, error.message, error.where, sep="|")
"""


def test_what_this_user_may_not_read_is_told(closed: Path) -> None:
    uris = ["a", "a/**/*.parquet", "a/*/*.parquet", "b", "b/*.parquet", "a/sub", "a/sub/x.parquet", "a/open.parquet"]
    # Root without the right to read everything.
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    asked = subprocess.run(
        [*bound, sys.executable, "-c", _ASK, *(str(closed / uri) for uri in uris)], capture_output=True, text=True
    )
    assert asked.stderr == ""
    said = asked.stdout.splitlines()
    for line, where in zip(said, ["a/sub", "a/sub", "a/sub", "b/shut.parquet", "b/shut.parquet"], strict=False):
        name, message, place = line.split("|")
        assert (name, place) == ("UnreadableDataError", str(closed / where))
        assert "permission denied" in message
    assert ["permission denied" in line for line in said[5:]] == [True, True, False]
    assert said[7] == "2"


def test_folders_that_a_pattern_matches_are_named_in_the_hint(tmp_path: Path) -> None:
    put(tmp_path / "day1.parquet" / "part-0.parquet")
    with pytest.raises(EmptyDataError) as caught:
        locate(f"{tmp_path}/*.parquet")
    assert caught.value.hint == "it matches folders: end it with /* for the files in them"
    assert rows(f"{tmp_path}/*.parquet/*") == rows(tmp_path) == 2


def test_the_folders_of_a_pattern_name_columns_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "h" / "year=2026" / "month=01" / "a.parquet")
    put(tmp_path / "h" / "year=2026" / "month=10" / "a.parquet")
    monkeypatch.chdir(tmp_path)
    for pattern in ("h/*/month=10/*", "./h/*/month=10/*", "h//*/month=10/*", "h/year=2026/month=1?/*.parquet"):
        found = read_table(locate(pattern), schema_of(None))[0]
        assert found.to_pylist() == [{"n": n, "year": 2026, "month": 10} for n in (1, 2)], pattern
    assert rows("h", where="month < 5 and n = 2") == 1


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n' * 50_000)
    (tmp_path / "y.parquet").write_bytes(put(tmp_path / "z.parquet").read_bytes())

    def grow() -> None:
        with (tmp_path / "x.jsonl").open("a") as file:
            file.write('{"n": 2}\n')

    def replace() -> None:
        copy = tmp_path / "copy"
        copy.write_bytes((tmp_path / "y.parquet").read_bytes())
        copy.rename(tmp_path / "y.parquet")

    for name, change in (("x.jsonl", grow), ("y.parquet", replace)):
        tables = pieces(locate(f"{tmp_path}/{name}"), schema_of(None), 10)
        next(tables)
        change()
        with pytest.raises(UnreadableDataError, match="changed while it was read") as caught:
            list(tables)
        assert caught.value.where == f"{tmp_path}/{name}"
    source = locate(str(tmp_path / "x.jsonl"))
    grow()
    with pytest.raises(UnreadableDataError, match="changed while it was read"):
        list(pieces(source, schema_of(None), 10))
    assert rows(tmp_path / "x.jsonl", limit=3) == 3
