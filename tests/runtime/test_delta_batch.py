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

from mealkit.errors import RecipeError, UsageError
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
        saver.write(frame.drop(columns="text"))
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
    deltalake.DeltaTable(str(tmp_path)).optimize.compact()
    record = find_batch(uri, "run")
    assert (record.rows, len(record.parts), record.provenance["shards"]) == (2, 1, 2)
    assert "rewritten" in verify_batch(uri, record)[0].problem
    assert save(uri, "run", [9]).existed
