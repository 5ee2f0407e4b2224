"""Files that are there as a whole or not at all, and what killed runs left of them."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from mealkit_runtime import atomic, staging
from mealkit_runtime.atomic import create_atomic, write_atomic
from mealkit_runtime.journal import journal

LEFT = ".mealkit-staging-result.json-dead"


@pytest.mark.parametrize("write", [lambda path: write_atomic(path, "new"), lambda path: create_atomic(path, b"new")])
def test_what_a_killed_run_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path, write: object) -> None:
    living = tmp_path / ".mealkit-staging-result.json-living"
    for path in (tmp_path / LEFT, living, tmp_path / ".mealkit-staging-another.json-dead"):
        path.write_text("half")
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(tmp_path / "result.json")  # type: ignore[operator]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".mealkit-staging-another.json-dead", living.name, "result.json",
    ]  # fmt: skip
    assert (tmp_path / "result.json").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == 0o666 & ~staging.umask()


def test_a_file_that_is_taken_for_a_dead_ones_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []

    def lock(handle: int, path: Path) -> bool:
        if len(taken) < 2:
            taken.append(path)
            staging.remove_dead([path])
        return staging.lock(handle, path)

    monkeypatch.setattr(atomic, "lock", lock)
    write_atomic(tmp_path / "result.json", "whole")
    assert len({*taken}) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "result.json"
    write_atomic(file, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: write_atomic(file, "new"), lambda: create_atomic(tmp_path / "more", b"new")):
        with pytest.raises(OSError, match="No space"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert file.read_text() == "old"


def test_of_two_who_create_a_file_the_first_wins(tmp_path: Path) -> None:
    assert create_atomic(tmp_path / "record", b"first")
    assert not create_atomic(tmp_path / "record", b"second")
    assert (tmp_path / "record").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_lock_of_a_journal_dies_with_its_process(tmp_path: Path) -> None:
    """Optuna's own lock would hold the next one up for half a minute."""
    file = tmp_path / "trials.journal"
    process = os.fork()
    if process == 0:
        storage = journal(str(file))
        storage._backend._lock.acquire()
        os.kill(os.getpid(), 9)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == 9
    optuna = pytest.importorskip("optuna")
    optuna.create_study(study_name="s", storage=journal(str(file)))
    assert [path.name for path in tmp_path.iterdir()] == ["trials.journal"]


def test_half_a_line_of_a_journal_is_taken_away(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    file = tmp_path / "trials.journal"
    optuna.create_study(study_name="one", storage=journal(str(file)))
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code": 0, "wor')  # a full disk took the rest
    optuna.create_study(study_name="two", storage=journal(str(file)))
    assert file.read_bytes().startswith(whole)
    found = journal(str(file)).get_all_studies()
    assert [one.study_name for one in found] == ["one", "two"]
