"""Batches in a Delta table: one commit each, once, also by shards; undone by a commit."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import deltalake
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from batch_runs import begin, finish, race, save

from mealkit.errors import RecipeError, StorageError, UsageError
from mealkit_runtime.batches import clean, find_batch, last_batch, list_batches, undo_batch, verify_batch


def rows(folder: Path, version: int | None = None) -> pd.DataFrame:
    """The table as a reader of Delta sees it."""
    table = pa.table(deltalake.DeltaTable(str(folder), version=version).to_pyarrow_table())
    return table.to_pandas().sort_values(["batch_id", "x"], ignore_index=True)


def test_a_batch_is_one_commit(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}/t"
    record = save(uri, "one", [1, 2])
    assert (record.rows, record.existed) == (2, False)
    save(tmp_path / "t", "two", [3])  # a folder with _delta_log needs no prefix
    assert rows(tmp_path / "t").to_dict("list") == {"x": [1, 2, 3], "batch_id": ["one", "one", "two"]}
    table = deltalake.DeltaTable(str(tmp_path / "t"))
    assert table.version() == 1
    assert table.transaction_version("mealkit:one") == 1
    told = json.loads(table.history(1)[0]["mealkit"])
    assert (told["batch_id"], told["rows"], told["model"]) == ("two", 1, {"digest": "sha256:77"})
    assert [one.batch_id for one in list_batches(uri)] == ["one", "two"]
    assert verify_batch(uri, find_batch(uri, "one")) == []
    assert find_batch(uri, "one").provenance["image"] == "host/churn@sha256:abcdef"


def test_the_same_run_again_adds_nothing(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    first, second = begin(uri, "same"), begin(uri, "same")
    assert not finish(first, [1]).existed
    assert finish(second, [2]).existed
    assert save(uri, "same", [3]).existed
    assert rows(tmp_path)["x"].tolist() == [1]
    assert len(list(tmp_path.glob("batch_id=*/*"))) == 1, "the slower one has removed its file"
    assert len(list(tmp_path.glob("_mealkit/batches/*"))) == 1
    assert deltalake.DeltaTable(str(tmp_path)).version() == 0


def test_a_batch_that_was_given_up_leaves_nothing(tmp_path: Path) -> None:
    saver = begin(f"delta:{tmp_path}/t", "one")
    saver.write(pd.DataFrame({"x": [1]}))
    saver.abort()
    assert not list((tmp_path / "t").rglob("*.parquet"))


def test_many_at_once_give_one_commit_each(tmp_path: Path) -> None:
    rounds = race(f"delta:{tmp_path}", 6, [None] * 2)
    for told in rounds:
        assert sorted(record["existed"] for record in told) == [False, True]
    assert rows(tmp_path).groupby("batch_id").size().to_dict() == {f"run-{number}": 3 for number in range(6)}
    assert deltalake.DeltaTable(str(tmp_path)).version() == 5


def test_shards_at_once_are_one_commit(tmp_path: Path) -> None:
    rounds = race(f"delta:{tmp_path}", 5, ["0/2", "1/2"])
    assert all(any(record["waiting"] == 0 for record in told) for told in rounds)
    found = rows(tmp_path).groupby("batch_id")["x"].apply(list).to_dict()
    assert found == {f"run-{number}": [0] * 3 + [1] * 3 for number in range(5)}
    assert deltalake.DeltaTable(str(tmp_path)).version() == 4


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_shards_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    uri = f"delta:{tmp_path}"
    for number, index in enumerate(order):
        assert save(uri, "run", [index], f"{index}/3").waiting == 2 - number
        assert save(uri, "run", [7], f"{index}/3").existed
    assert rows(tmp_path)["x"].tolist() == [0, 1, 2]
    assert not (tmp_path / "_mealkit" / "shards").exists()
    assert len(list(tmp_path.glob("batch_id=run/*"))) == 3
    assert find_batch(uri, "run").provenance["shards"] == 3


def test_different_batches_at_once_are_all_committed(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    savers = [begin(uri, f"run-{number}") for number in range(4)]
    for saver in savers:
        saver.write(pd.DataFrame({"x": [1]}))
    for saver in savers:
        assert not saver.commit().existed
    assert len(rows(tmp_path)) == 4


def test_undoing_is_a_commit(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    save(uri, "two", [2])
    save(uri, "three", [3])
    undo_batch(uri, find_batch(uri, "two"))
    assert rows(tmp_path)["x"].tolist() == [1, 3]
    assert rows(tmp_path, version=2)["x"].tolist() == [1, 3, 2], "an older version still has it"
    with pytest.raises(UsageError, match="gone already"):
        undo_batch(uri, find_batch(uri, "one").__class__("two", 1, ()))
    undo_batch(uri, last_batch(uri))
    assert [one.batch_id for one in list_batches(uri)] == ["one"]
    assert not save(uri, "two", [4]).existed
    assert save(uri, "two", [5]).existed
    assert rows(tmp_path)["x"].tolist() == [1, 4]
    assert [one.batch_id for one in list_batches(uri)] == ["one", "two"]


def test_what_was_forgotten_is_found(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    save(uri, "run", [1], "0/2")
    assert [(one.batch_id, one.what) for one in clean(uri, older_than=0)] == [("run", "unfinished shards")]
    assert rows(tmp_path)["x"].tolist() == [1]
    assert clean(uri, older_than=0) == []
    assert not list(tmp_path.glob("batch_id=run/*"))
    save(uri, "two", [2])
    undo_batch(uri, find_batch(uri, "two"))
    save(uri, "two", [3])
    (tmp_path / "_delta_log" / f"{9:020}.json#1").write_text("half")
    left = tmp_path / "_mealkit" / "batches" / ".mealkit-staging-run-01234567.json-abcdefgh"
    left.write_text("half")
    assert [(one.batch_id, one.what) for one in clean(uri, older_than=0)] == [
        ("-", "unfinished work"), ("run", "unfinished work"), ("two", "unfinished work"),
    ]  # fmt: skip
    assert [find_batch(uri, name).provenance["run_id"] for name in ("one", "two")] == ["one", "two"]
    assert len(list((tmp_path / "_mealkit" / "batches").iterdir())) == 2
    assert clean(uri, older_than=0) == []
    assert sorted(rows(tmp_path)["x"]) == [1, 3]


def test_types_that_delta_does_not_have_are_widened(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    frame = pd.DataFrame(
        {
            "x": np.array([1, 2], "uint32"),
            "small": np.array([1, 2], "uint8"),
            "half": np.array([1, 2], "float16"),
            "when": pd.to_datetime(["2026-01-01 00:00:00.0", "2026-01-02 03:04:05.678901"]),
            "zoned": pd.to_datetime(["2026-01-01", None], utc=True),
            "kind": pd.Categorical(["a", "b"]),
            "text": ["a", None],
            "yes": [True, False],
        }
    )
    for name in ("one", "two"):
        saver = begin(uri, name)
        saver.write(frame)
        saver.commit()
    found = rows(tmp_path)
    assert found["when"].tolist() == frame["when"].tolist() * 2
    assert found["kind"].tolist() == ["a", "b"] * 2
    assert found["zoned"].isna().tolist() == [False, True] * 2
    assert {str(found[name].dtype) for name in ("x", "small", "half")} == {"int64", "int16", "float32"}
    saver = begin(uri, "three")
    with pytest.raises(RecipeError, match="the Delta table has the columns"):
        saver.write(frame.assign(more=1))
    saver.abort()
    saver = begin(f"delta:{tmp_path}/other", "one")
    with pytest.raises(RecipeError, match="cannot hold the type"):
        saver.write_table(pa.table({"x": pa.array([1], pa.duration("s"))}))
    saver.abort()


def test_a_table_of_someone_else_is_refused(tmp_path: Path) -> None:
    deltalake.write_deltalake(str(tmp_path), pa.table({"x": [1]}))
    with pytest.raises(UsageError, match="not partitioned by batch_id"):
        begin(tmp_path, "one")
    assert deltalake.DeltaTable(str(tmp_path)).version() == 0


def test_a_table_whose_files_were_rewritten(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    for index in (0, 1):
        save(uri, "run", [index], f"{index}/2")
    save(uri, "two", [5])
    deltalake.DeltaTable(str(tmp_path)).optimize.compact()
    record = find_batch(uri, "run")
    assert (record.rows, len(record.parts), record.provenance["shards"]) == (2, 1, 2)
    assert "rewritten" in verify_batch(uri, record)[0].problem
    assert save(uri, "run", [9]).existed
    undo_batch(uri, record)
    assert rows(tmp_path)["x"].tolist() == [5]
    assert not save(uri, "run", [7]).existed
    assert rows(tmp_path)["x"].tolist() == [7, 5]
    assert verify_batch(uri, find_batch(uri, "run")) == []


def append(folder: Path, batch_id: str | None, value: int = 70) -> None:
    """What another program writes to the table."""
    added = pa.table({"x": [value], "batch_id": pa.array([batch_id], pa.string())})
    deltalake.write_deltalake(str(folder), added, mode="append")


def test_rows_that_others_write_are_left_alone(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    for name in ("spark", "a b/c%é", None):
        append(tmp_path, name)
    saver = begin(uri, "two")
    append(tmp_path, "late")
    assert not finish(saver, [2]).existed
    assert [one.batch_id for one in list_batches(uri)] == ["one", "two"]
    assert last_batch(uri).batch_id == "two"
    with pytest.raises(StorageError, match="rows of batch_id 'spark' that no run of mealkit wrote"):
        save(uri, "spark", [3])
    assert clean(uri, older_than=0) == [], "no file of the table is taken for a leftover"
    assert sorted(rows(tmp_path)["x"]) == [1, 2, 70, 70, 70, 70]


def test_what_the_log_still_knows_is_vacuums(tmp_path: Path) -> None:
    """Older versions of the table, which readers may have opened, keep their files; a killed run's go."""
    uri = f"delta:{tmp_path}"
    for index in (0, 1):
        save(uri, "run", [index], f"{index}/2")
    save(uri, "two", [2])
    undo_batch(uri, last_batch(uri))
    table = deltalake.DeltaTable(str(tmp_path))
    table.optimize.compact()
    (tmp_path / "batch_id=dead").mkdir()
    (tmp_path / "batch_id=dead" / "part-00000-77.parquet").write_bytes(b"half a file")
    assert [(one.batch_id, one.what) for one in clean(uri, older_than=0)] == [("dead", "unfinished work")]
    assert rows(tmp_path, version=1)["x"].tolist() == [0, 1, 2]
    table = deltalake.DeltaTable(str(tmp_path))
    assert len(table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)) == 3
    assert rows(tmp_path)["x"].tolist() == [0, 1]
    assert save(uri, "run", [9]).existed
    assert not save(uri, "two", [3]).existed


@pytest.mark.parametrize("shards", [None, 2])
def test_files_that_a_vacuum_took_before_the_commit(tmp_path: Path, shards: int | None) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    if shards:
        save(uri, "run", [0], "0/2")
    else:
        saver = begin(uri, "run")
        saver.write(pd.DataFrame({"x": [2]}))
    table = deltalake.DeltaTable(str(tmp_path))
    gone = table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    assert len(gone) == 1
    with pytest.raises(StorageError, match="removed before the batch was committed") as told:
        _ = save(uri, "run", [2], "1/2") if shards else saver.commit()
    assert rows(tmp_path)["x"].tolist() == [1], "the table can be read"
    if not shards:
        saver.abort()
        return
    assert "clean --run-id" in str(told.value.hint)
    clean(uri, older_than=1e9, batch_id="run")
    assert [save(uri, "run", [index], f"{index}/2").waiting for index in (0, 1)] == [1, 0]
    assert rows(tmp_path)["x"].tolist() == [1, 0, 1]


def test_a_batch_that_another_program_removed_stays_away(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    save(uri, "two", [2])
    deltalake.DeltaTable(str(tmp_path)).delete("batch_id = 'one'")
    again = save(uri, "one", [3])
    assert (again.existed, again.rows, again.files) == (True, 0, ())
    assert [one.batch_id for one in list_batches(uri)] == ["two"]
    record = find_batch(uri, "one")
    assert (record.rows, record.provenance["run_id"]) == (0, "one")
    undo_batch(uri, record)
    assert deltalake.DeltaTable(str(tmp_path)).transaction_version("mealkit:one") == 2
    with pytest.raises(UsageError, match="no batch 'one'"):
        find_batch(uri, "one")
    assert not save(uri, "one", [4]).existed
    assert sorted(rows(tmp_path)["x"]) == [2, 4]


def test_a_table_that_was_restored_to_an_older_version(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    save(uri, "two", [2])
    undo_batch(uri, last_batch(uri))
    deltalake.DeltaTable(str(tmp_path)).restore(1)
    assert save(uri, "two", [3]).existed, "it is there again, and does not come twice"
    assert rows(tmp_path)["x"].tolist() == [1, 2]
    undo_batch(uri, last_batch(uri))
    assert not save(uri, "two", [3]).existed
    assert rows(tmp_path)["x"].tolist() == [1, 3]
    assert save(uri, "two", [4]).existed


def test_a_column_that_others_added_is_null(tmp_path: Path) -> None:
    from deltalake.schema import Field, PrimitiveType

    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    saver = begin(uri, "two")
    saver.write(pd.DataFrame({"x": [2]}))
    deltalake.DeltaTable(str(tmp_path)).alter.add_columns([Field("why", PrimitiveType("string"))])
    saver.commit()
    save(uri, "three", [3])
    found = rows(tmp_path)
    assert sorted(found["x"]) == [1, 2, 3]
    assert found["why"].isna().all()


def test_columns_that_were_changed_while_a_batch_was_written(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    saver = begin(uri, "two")
    saver.write(pd.DataFrame({"x": [2]}))
    other = pa.table({"x": ["text"], "batch_id": ["one"]})
    deltalake.write_deltalake(
        str(tmp_path), other, mode="overwrite", schema_mode="overwrite", partition_by=["batch_id"]
    )
    with pytest.raises(StorageError, match="columns were changed"):
        saver.commit()
    saver.abort()
    save(uri, "two", [3])
    assert sorted(rows(tmp_path)["x"]) == ["3", "text"]


def test_what_a_table_asks_of_writers_is_not_passed_over(tmp_path: Path) -> None:
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    table = deltalake.DeltaTable(str(tmp_path))
    table.alter.set_table_properties({"delta.appendOnly": "true"})
    save(uri, "two", [2])
    with pytest.raises(UsageError, match="lets nobody remove rows"):
        undo_batch(uri, last_batch(uri))
    table = deltalake.DeltaTable(str(tmp_path))
    table.alter.add_constraint({"small": "x < 10"})
    saver = begin(uri, "three")
    with pytest.raises(UsageError, match=r"delta\.constraints\.small"):
        saver.write(pd.DataFrame({"x": [50]}))
    saver.abort()
    assert rows(tmp_path)["x"].tolist() == [1, 2]


def test_a_short_memory_of_transactions_does_not_matter(tmp_path: Path) -> None:
    """`delta.setTransactionRetentionDuration` lets the log forget them: the batch's files still tell."""
    uri = f"delta:{tmp_path}"
    save(uri, "one", [1])
    table = deltalake.DeltaTable(str(tmp_path))
    table.alter.set_table_properties({"delta.setTransactionRetentionDuration": "interval 0 seconds"})
    table.create_checkpoint()
    assert save(uri, "one", [2]).existed
    assert rows(tmp_path)["x"].tolist() == [1]
