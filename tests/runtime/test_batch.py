"""Batches in a local folder: once, whole, by shards in any order, listed, verified and undone."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from batch_runs import begin, finish, race, save, tree

from mealkit.errors import EmptyDataError, MealkitError, RecipeError, SettingsError, StorageError, UsageError
from mealkit_runtime.batches import clean, find_batch, last_batch, list_batches, undo_batch, verify_batch


def test_a_batch_is_a_folder_with_a_record(tmp_path: Path) -> None:
    record = save(tmp_path / "s", "one")
    assert (record.rows, record.existed, record.waiting) == (3, False, 0)
    assert record.files == ("batch_id=one/part-00000.parquet",)
    assert tree(tmp_path / "s") == ["batch_id=one/_batch.json", "batch_id=one/part-00000.parquet"]
    told = json.loads((tmp_path / "s" / "batch_id=one" / "_batch.json").read_text())
    assert told["files"][0]["rows"] == 3
    assert told["model"] == {"digest": "sha256:77"}
    assert told["image"] == "host/churn@sha256:abcdef"
    assert told["input"]["fingerprint"] == "sha256:99"
    assert told["input"]["rows"] == 3


def test_the_same_run_again_adds_nothing(tmp_path: Path) -> None:
    save(tmp_path, "one")
    before = {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}
    assert save(tmp_path, "one", [9, 9]).existed
    assert {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)} == before


def test_of_two_that_both_wrote_the_first_wins(tmp_path: Path) -> None:
    first, second = begin(tmp_path, "same"), begin(tmp_path, "same")
    first.write(pd.DataFrame({"x": [1]}))
    assert not finish(second, [2]).existed
    assert first.commit().existed
    assert pd.read_parquet(tmp_path)["x"].tolist() == [2]
    assert not [name for name in tree(tmp_path) if "staging" in name]


def test_many_at_once_give_one_batch_each(tmp_path: Path) -> None:
    rounds = race(tmp_path / "s", 8, [None] * 3)
    for number, told in enumerate(rounds):
        assert sorted(record["existed"] for record in told) == [False, True, True]
        winner = next(me for me, record in enumerate(told) if not record["existed"])
        assert pd.read_parquet(tmp_path / "s" / f"batch_id=run-{number}")["x"].tolist() == [winner] * 3
    assert len(tree(tmp_path / "s")) == 2 * len(rounds)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_shards_in_any_order_are_one_batch(tmp_path: Path, order: tuple[int, ...]) -> None:
    for number, index in enumerate(order):
        record = save(tmp_path / "s", "run", [index] * (index + 1), f"{index}/3")
        assert record.waiting == 2 - number
        assert bool(list((tmp_path / "s").glob("batch_id=*"))) is (number == 2), (
            "a missing shard leaves nothing visible"
        )
    assert (record.rows, record.existed) == (6, False)
    assert pd.read_parquet(tmp_path / "s")["x"].tolist() == [0, 1, 1, 2, 2, 2], "in the order of the input"
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["batch_id=run"]
    told = find_batch(str(tmp_path / "s"), "run")
    assert (told.provenance["shards"], told.provenance["input"]["rows"]) == (3, 6)
    assert verify_batch(str(tmp_path / "s"), told) == []


def test_shards_that_run_again_replace_nothing(tmp_path: Path) -> None:
    save(tmp_path, "run", [0], "0/2")
    again = save(tmp_path, "run", [7], "0/2")
    assert (again.existed, again.waiting) == (True, 1)
    assert save(tmp_path, "run", [1], "1/2").waiting == 0
    for index in (0, 1):
        assert save(tmp_path, "run", [8], f"{index}/2").existed
    assert pd.read_parquet(tmp_path)["x"].tolist() == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch_id=run"]


def test_two_processes_of_one_shard_count_once(tmp_path: Path) -> None:
    one, other = begin(tmp_path, "run", "0/2"), begin(tmp_path, "run", "0/2")
    assert not finish(one, [1]).existed
    assert finish(other, [2]).existed
    late = begin(tmp_path, "run", "1/2")
    twin = begin(tmp_path, "run", "1/2")
    assert finish(late, [3]).rows == 2
    assert finish(twin, [4]).existed, "the batch was committed while it worked"
    assert pd.read_parquet(tmp_path)["x"].tolist() == [1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch_id=run"]


def test_a_shard_that_failed_leaves_room_for_itself(tmp_path: Path) -> None:
    save(tmp_path, "run", [0], "0/2")
    broken = begin(tmp_path, "run", "1/2")
    broken.write(pd.DataFrame({"x": [1]}))
    broken.abort()
    assert not list(tmp_path.glob("batch_id=*"))
    assert save(tmp_path, "run", [2], "1/2").waiting == 0
    assert pd.read_parquet(tmp_path)["x"].tolist() == [0, 2]


def test_shards_at_once_are_one_batch(tmp_path: Path) -> None:
    rounds = race(tmp_path / "s", 6, ["0/2", "1/2", "1/2"])
    for number, told in enumerate(rounds):
        assert any(record["waiting"] == 0 for record in told)
        assert pd.read_parquet(tmp_path / "s" / f"batch_id=run-{number}")["x"].tolist() == [0] * 3 + [1] * 3
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert {name for name in names if name.startswith("batch_id=")} == {f"batch_id=run-{n}" for n in range(6)}
    assert len(list_batches(str(tmp_path / "s"))) == 6


def test_shards_without_rows(tmp_path: Path) -> None:
    assert save(tmp_path, "run", [], "1/2").waiting == 1
    record = save(tmp_path, "run", [5], "0/2")
    assert (record.rows, len(record.files)) == (1, 1)
    save(tmp_path, "none", [], "0/2")
    with pytest.raises(EmptyDataError, match="no shard found a row"):
        save(tmp_path, "none", [], "1/2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch_id=run"]


def test_shards_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "run", [0], "0/2")
    with pytest.raises(UsageError, match="do not agree on their shards") as caught:
        begin(tmp_path, "run", "1/3")
    assert "clean --run-id" in str(caught.value.hint)
    with pytest.raises(UsageError, match="do not agree on their model"):
        begin(tmp_path, "run", "1/2", model={"digest": "sha256:other"})
    with pytest.raises(UsageError, match="do not agree on their input"):
        begin(tmp_path, "run", "1/2", input={"uri": "b", "fingerprint": "sha256:other"})
    with pytest.raises(RecipeError, match="same columns and types"):
        save(tmp_path, "run", ["text"], "1/2")
    assert not list(tmp_path.glob("batch_id=*"))
    assert {one.what for one in clean(str(tmp_path), older_than=1e9, batch_id="run")} == {"unfinished shards"}
    assert list(tmp_path.iterdir()) == []


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    for index in (1, 0):
        save(tmp_path, "run", [index], f"{index}/2")
    assert pd.read_parquet(tmp_path)["x"].tolist() == [0, 1]


def test_a_folder_of_someone_else_is_no_batch(tmp_path: Path) -> None:
    (tmp_path / "batch_id=x").mkdir()
    (tmp_path / "batch_id=x" / "data").write_text("mine")
    saver = begin(tmp_path, "x")
    with pytest.raises(StorageError, match="has no commit record"):
        finish(saver)
    saver.abort()
    assert (tmp_path / "batch_id=x" / "data").read_text() == "mine"
    assert not [name for name in tree(tmp_path) if "staging" in name]


def test_batches_are_listed_in_the_order_of_their_commits(tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        save(tmp_path, name)
    assert [record.batch_id for record in list_batches(str(tmp_path))] == ["b", "c", "a"]
    assert last_batch(str(tmp_path)).batch_id == "a"
    with pytest.raises(UsageError, match="no batch 'aa'") as caught:
        find_batch(str(tmp_path), "aa")
    assert caught.value.hint == "did you mean 'a'?"
    with pytest.raises(MealkitError, match="no dataset"):
        list_batches(str(tmp_path / "none"))


def test_undoing_takes_a_batch_away_and_lets_it_come_again(tmp_path: Path) -> None:
    save(tmp_path, "one", [1])
    save(tmp_path, "two", [2])
    record = last_batch(str(tmp_path))
    undo_batch(str(tmp_path), record)
    assert pd.read_parquet(tmp_path)["x"].tolist() == [1]
    with pytest.raises(UsageError, match="gone already"):
        undo_batch(str(tmp_path), record)
    assert not save(tmp_path, "two", [3]).existed
    assert pd.read_parquet(tmp_path)["x"].tolist() == [1, 3]
    undo_batch(str(tmp_path), last_batch(str(tmp_path)))
    assert len(list((tmp_path / ".mealkit-undone").iterdir())) == 2
    assert clean(str(tmp_path), older_than=3600) == [], "an undone batch is kept for a while"
    assert [(one.batch_id, one.what) for one in clean(str(tmp_path), older_than=0)] == [("two", "undone batch")] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["batch_id=one"]


def test_outputs_that_no_batch_can_be_added_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for uri, said in (
        (tmp_path / "file", "is a file"),
        (f"delta:{tmp_path}/t@v3", "newest version"),
        ("https://example.com/x", "cannot be written to"),
        ("s3://me:secret@bucket/x", "a user or a password"),
    ):
        with pytest.raises(SettingsError, match=said) as caught:
            begin(uri, "one")
        assert "secret" not in caught.value.render()
        assert caught.value.hint
    assert not save(f"file://{tmp_path}/s", "one").existed
    assert save(tmp_path / "s", "one").existed


def test_damage_is_told(tmp_path: Path) -> None:
    save(tmp_path, "one", range(1000))
    record = find_batch(str(tmp_path), "one")
    assert verify_batch(str(tmp_path), record) == []
    file = tmp_path / "batch_id=one" / "part-00000.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert "its sha256 is" in verify_batch(str(tmp_path), record)[0].problem
    file.write_bytes(whole[:-1])
    assert f"{len(whole) - 1:,} bytes" in verify_batch(str(tmp_path), record)[0].problem
    file.rename(tmp_path / "batch_id=one" / "part-9.parquet")
    assert [fault.problem for fault in verify_batch(str(tmp_path), record)] == [
        "it is missing",
        "no run of this batch wrote it",
    ]


def test_batches_of_older_versions_are_read(tmp_path: Path) -> None:
    save(tmp_path, "new")
    folder = tmp_path / "batch_id=old"
    shutil.copytree(tmp_path / "batch_id=new", folder)
    record = json.loads((folder / "_batch.json").read_text())
    del record["committed"], record["files"][0]["rows"]
    (folder / "_batch.json").write_text(json.dumps({**record, "batch_id": "old", "created": "2025-01-01T00:00:00Z"}))
    assert [one.batch_id for one in list_batches(str(tmp_path))] == ["old", "new"]
    assert save(tmp_path, "old").existed
    (folder / "_batch.json").write_text('{"format": 2}')
    with pytest.raises(StorageError, match="cannot be read"):
        save(tmp_path, "old")


def test_living_work_is_not_cleaned(tmp_path: Path) -> None:
    save(tmp_path, "done")
    living = begin(tmp_path, "living")
    living.write(pd.DataFrame({"x": [1]}))
    assert clean(str(tmp_path), older_than=0) == []
    assert not finish(living).existed
