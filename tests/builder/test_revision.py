"""The source's revision: commit, changes and time, the same wherever it is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from workshop import commit

from mealkit.errors import UsageError
from mealkit_builder.revision import EPOCH, Revision, read_revision


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-02-03T04:05:06+0200")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    root = tmp_path / "recipe"
    root.mkdir()
    (root / "model.py").write_text("x = 1\n")
    (root / ".gitignore").write_text("*.log\n")
    commit(root)
    return root


def test_a_clean_folder_is_its_commit(repository: Path) -> None:
    found = read_revision(repository, {})
    head = subprocess.check_output(["git", "-C", str(repository), "rev-parse", "HEAD"], text=True)
    assert found.commit == head.strip() == found.label
    assert not found.dirty
    assert found.created == "2026-02-03T02:05:06Z"


@pytest.mark.parametrize("name", ["model.py", "new.py", "pylock.toml"])
def test_any_difference_is_told(repository: Path, name: str) -> None:
    (repository / name).write_text("x = 2\n")
    found = read_revision(repository, {})
    assert found.dirty
    assert found.label == f"{found.commit}-dirty"


@pytest.mark.parametrize("name", ["debug.log", ".mealkit/images.jsonl", ".mealkit/images/index.json"])
def test_what_git_ignores_and_what_builds_leave_is_no_difference(repository: Path, name: str) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("x")
    assert not read_revision(repository, {}).dirty


def test_a_folder_of_a_larger_repository_has_its_own_last_commit(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.py").touch()
    commit(tmp_path)
    first = read_revision(tmp_path / "one", {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.py").touch()
    assert not read_revision(tmp_path / "one", {}).dirty
    commit(tmp_path)
    assert read_revision(tmp_path / "one", {}) == first
    assert read_revision(tmp_path, {}).commit != first.commit


def test_outside_git_the_time_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert read_revision(tmp_path, {}) == Revision(None, False, EPOCH)
    assert read_revision(tmp_path, {}).created == "1980-01-01T00:00:00Z"
    assert read_revision(tmp_path, {}).label is None


def test_a_repository_without_a_commit_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, capture_output=True)
    assert read_revision(tmp_path, {}).commit is None


def test_a_machine_without_git_is_no_error(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert read_revision(repository, {}).commit is None


def test_source_date_epoch_decides(repository: Path) -> None:
    found = read_revision(repository, {"SOURCE_DATE_EPOCH": "86400"})
    assert found.created == "1970-01-02T00:00:00Z"
    assert found.commit is not None


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1.5", "١٢"])
def test_a_time_that_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH") as caught:
        read_revision(tmp_path, {"SOURCE_DATE_EPOCH": text})
    assert caught.value.where == "environment"
    assert caught.value.hint
