"""Delta tables as datasets: versions, partitions, added columns, deleted rows, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import os
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mealkit.errors import EmptyDataError, SchemaError, SettingsError, UnreadableDataError
from mealkit_runtime.dataset import fingerprint, locate, pieces, read_table, row_count
from mealkit_runtime.query import make_query
from mealkit_runtime.schema import schema_of
from mealkit_runtime.shard import Shard
from mealkit_runtime.shard_source import part_of

DAY = dt.datetime(2026, 1, 1, 12)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 0 has two partitions; version 1 brings a column; version 2 has no rows of shop ``a b``."""
    folder = tmp_path_factory.mktemp("delta") / "sales"
    first = pa.table({"n": range(6), "shop": ["a b", "c", None] * 2, "at": [DAY + dt.timedelta(n) for n in range(6)]})
    write_deltalake(folder, first, partition_by=["shop"])
    more = pa.table({"n": range(6, 9), "shop": ["c"] * 3, "at": [DAY + dt.timedelta(9)] * 3, "price": [1.5, 2.5, 3.5]})
    write_deltalake(folder, more, mode="append", schema_mode="merge")
    DeltaTable(folder).delete("shop = 'a b'")
    for version in range(3):  # a version's time is that of its file in the log
        day = dt.datetime(2026, 1, 1 + version, tzinfo=dt.UTC).timestamp()
        os.utime(folder / "_delta_log" / f"{version:020}.json", (day, day))
    return folder


def rows(uri: object, **query: Any) -> list[dict[str, Any]]:
    found = read_table(locate(str(uri), make_query(**query)), schema_of(None))[0].to_pylist()
    return sorted(found, key=lambda row: row["n"])


def test_versions(table: Path) -> None:
    assert [row["n"] for row in rows(f"{table}@v0")] == [0, 1, 2, 3, 4, 5]
    assert "price" not in rows(f"{table}@v0")[0]
    assert [row["n"] for row in rows(f"delta:{table}@v1")] == list(range(9))
    last = rows(f"file://{table}")
    assert [row["n"] for row in last] == [1, 2, 4, 5, 6, 7, 8]
    assert last == rows(f"{table}@v2") == rows(f"delta:{table}")
    assert [row["price"] for row in last] == [None, None, None, None, 1.5, 2.5, 3.5]
    assert [row["shop"] for row in last] == ["c", None, "c", None, "c", "c", "c"]
    source = locate(str(table))
    assert source.facts["version"] == 2
    assert source.partitions == ("shop",)
    assert row_count(source) == 7
    for time, version in (("2026-01-01T12:00:00Z", 0), ("2026-01-02T12:00:00+01:00", 1), ("2026-01-03", 2)):
        assert locate(f"{table}@{time}").facts["version"] == version


def test_the_fingerprint_is_of_the_version(table: Path) -> None:
    prints = [fingerprint(locate(f"{table}@v{number}"), whole=True) for number in range(3)]
    assert all(one.startswith("delta:") for one in prints)
    assert len(set(prints)) == 3
    assert fingerprint(locate(str(table)), whole=False) == prints[2]


def test_files_that_cannot_hold_are_not_opened(table: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "sales"
    shutil.copytree(table, copy)
    for path in copy.glob("shop=c/*.parquet"):
        path.write_bytes(b"broken")
    assert [row["n"] for row in rows(copy, where="shop is null")] == [2, 5]
    for path in table.glob("shop=c/*.parquet"):
        shutil.copy(path, copy / "shop=c" / path.name)
    for path in copy.glob("shop=__*/*.parquet"):
        path.write_bytes(b"broken")
    assert [row["n"] for row in rows(copy, where="at >= '2026-01-07'")] == [6, 7, 8], "by the log's statistics"
    with pytest.raises(UnreadableDataError):
        rows(copy)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_query_gives_what_filtering_gives(tmp_path: Path, data: Any) -> None:
    values = data.draw(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "b/c", None, "%41"])), min_size=1))
    folder = tmp_path / f"t{len(list(tmp_path.iterdir()))}"
    whole = pa.table({"n": [v[0] for v in values], "k": pa.array([v[1] for v in values], pa.string())})
    write_deltalake(folder, whole, partition_by=["k"] if data.draw(st.booleans()) else None)
    low, key = data.draw(st.integers(0, 9)), data.draw(st.sampled_from(["a", "b/c", "%41"]))
    mask = pc.and_kleene(pc.greater_equal(whole["n"], low), pc.not_equal(whole["k"], key))
    expected = sorted(whole.filter(mask)["n"].to_pylist())
    try:
        found = [row["n"] for row in rows(folder, where=f"n >= {low} and k != '{key}'")]
    except EmptyDataError:
        found = []
    assert found == expected


def deletion_vector(positions: list[int]) -> dict[str, Any]:
    """An inline deletion vector, as the protocol describes it: a roaring bitmap in Z85."""
    keys = struct.pack("<II", 12346, 1) + struct.pack("<HHI", 0, len(positions) - 1, 16)
    bitmap = keys + b"".join(struct.pack("<H", position) for position in positions)
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    signs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    padded, text = data + bytes(-len(data) % 4), ""
    for start in range(0, len(padded), 4):
        number, five = int.from_bytes(padded[start : start + 4], "big"), ""
        for _ in range(5):
            number, digit = divmod(number, 85)
            five = signs[digit] + five
        text += five
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": len(positions)}


def test_rows_that_are_marked_as_deleted_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    write_deltalake(folder, pa.table({"n": range(10)}), configuration={"delta.enableDeletionVectors": "true"})
    assert [row["n"] for row in rows(folder)] == list(range(10)), "the feature alone deletes nothing"
    log = folder / "_delta_log"
    add = next(json.loads(line)["add"] for line in (log / f"{0:020}.json").read_text().splitlines() if '"add"' in line)
    actions = (
        {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**add, "deletionVector": deletion_vector([0, 3, 9])}},
    )
    (log / f"{1:020}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))
    assert [row["n"] for row in rows(folder)] == [1, 2, 4, 5, 6, 7, 8]
    assert [row["n"] for row in rows(folder, where="n > 2", limit=2)] == [4, 5]
    assert row_count(locate(str(folder))) == 7
    assert [row["n"] for row in rows(folder, sample="7")] == [1, 2, 4, 5, 6, 7, 8]
    assert [row["n"] for row in rows(f"{folder}@v0")] == list(range(10))


def test_what_is_refused(table: Path, tmp_path: Path) -> None:
    for uri, error, message in (
        (f"{table}@v9", UnreadableDataError, "cannot be read"),
        (f"delta:{tmp_path}", UnreadableDataError, "no Delta table"),
        (f"{table}@2026-99-99", SettingsError, "not a version"),
        (f"{table}@2025-12-31", UnreadableDataError, "not there yet: its first version is of 2026-01-01T00:00:00Z"),
        (f"{tmp_path}/x.csv@v1", UnreadableDataError, "no such file"),
    ):
        with pytest.raises(error, match=message) as caught:
            locate(uri)
        assert caught.value.hint
    for mode, nested in (("id", "where"), ("name", "col-5")):
        with pytest.raises(UnreadableDataError, match="columnMapping"):
            locate(str(mapped(tmp_path / mode, mode, nested)))


def mapped(folder: Path, mode: str = "name", nested: str = "where") -> Path:
    """A table of which columns were renamed and dropped, as Spark writes it: the file keeps the first names."""
    (folder / "col-4=7").mkdir(parents=True)
    file = folder / "col-4=7" / "part.parquet"
    where = pa.array([{nested: "x"}, None, {nested: "z"}])
    # What is called n in the file was dropped, and what is n now is col-1 there.
    pq.write_table(pa.table({"n": [9, 9, 9], "col-1": [1, 2, 3], "shop": ["a", "b", None], "at": where}), file)

    def column(name: str, kind: Any, stored: str, number: int) -> dict[str, Any]:
        about = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": stored}
        return {"name": name, "type": kind, "nullable": True, "metadata": about}

    inner = {"type": "struct", "fields": [column("where", "string", nested, 5)]}
    columns = [("n", "long", "col-1"), ("the shop", "string", "shop"), ("at", inner, "at"), ("year", "long", "col-4")]
    schema = {"type": "struct", "fields": [column(*one, number) for number, one in enumerate(columns, 1)]}
    stats = {"numRecords": 3, "minValues": {"col-1": 1}, "maxValues": {"col-1": 3}, "nullCount": {"col-1": 0}}
    actions: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}},
        {"metaData": {
            "id": "0", "format": {"provider": "parquet", "options": {}}, "schemaString": json.dumps(schema),
            "partitionColumns": ["year"], "createdTime": 1,
            "configuration": {"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "5"},
        }},
        {"add": {
            "path": "col-4=7/part.parquet", "partitionValues": {"col-4": "7"}, "size": file.stat().st_size,
            "modificationTime": 1, "dataChange": True, "stats": json.dumps(stats),
        }},
    ]  # fmt: skip
    (folder / "_delta_log").mkdir()
    (folder / "_delta_log" / f"{0:020}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))
    return folder


def test_columns_that_were_renamed_and_dropped(tmp_path: Path) -> None:
    folder = mapped(tmp_path / "t")
    first = {"n": 1, "the shop": "a", "at": {"where": "x"}, "year": 7}
    assert rows(folder)[0] == first
    assert [row["n"] for row in rows(folder)] == [1, 2, 3]
    assert rows(folder, where="n < 2 and year = 7") == [first]
    assert rows(folder, where="`the shop` is null", columns="n") == [{"n": 3}]
    assert rows(folder, flatten=True, where="at.where = 'z'", columns="n,at.where") == [{"n": 3, "at.where": "z"}]
    assert sum(map(len, pieces(locate(str(folder), make_query(where="n > 3")), schema_of(None), 10))) == 0
    with pytest.raises(SchemaError, match="'col-1', which the query names, is missing"):
        rows(folder, columns="col-1")
    source = part_of(locate(str(folder)), Shard(0, 1), "n")
    assert [file.groups for file in source.files] == [(0,)]


def test_files_that_vacuum_removed(tmp_path: Path) -> None:
    for n in (1, 2):
        write_deltalake(tmp_path / "t", pa.table({"n": [n]}), mode="overwrite")
    DeltaTable(tmp_path / "t").vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert rows(tmp_path / "t") == [{"n": 2}]
    with pytest.raises(UnreadableDataError, match="no such file") as caught:
        rows(f"{tmp_path}/t@v0")
    assert "VACUUM" in str(caught.value.hint)


def test_names_that_only_look_like_a_version(tmp_path: Path) -> None:
    (tmp_path / "x@v1").mkdir()
    (tmp_path / "x@v1" / "x.csv").write_text("n\n1\n")
    assert rows(tmp_path / "x@v1") == [{"n": 1}]
