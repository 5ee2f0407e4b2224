"""The scaffold: a new recipe that can be read at once, or nothing at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from mealkit.errors import StorageError, UsageError
from mealkit.project import read_project
from mealkit_builder.checking import check_recipe
from mealkit_builder.scaffold import make_recipe


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_new_recipe_is_right_at_once(tmp_path: Path, kind: str) -> None:
    made = make_recipe(tmp_path / "deep" / "shop", "my-shop", kind)
    project = read_project(tmp_path / "deep" / "shop")
    assert (project.name, project.kind, project.packages) == ("my-shop", kind, ("my_shop",))
    assert [finding for finding in check_recipe(project.root) if finding.error is not None] == []
    files = [path for path in project.root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert made.files == len(files)
    assert not [path for path in files if "{{" in path.read_text() or "{{" in str(path) or path.suffix == ".jinja"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["shop"]


def test_the_next_steps_name_files_that_are_there(tmp_path: Path) -> None:
    made = make_recipe(tmp_path / "shop", "shop", "classification")
    train = next(step for step in made.next_steps if step.startswith("mealkit train"))
    assert (tmp_path / "shop" / train.split("--input ")[1].split()[0]).is_file()


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    before = folder.stat().st_ino
    monkeypatch.chdir(folder)
    make_recipe(Path(), "shop", "regression")
    assert folder.stat().st_ino == before
    assert (Path.cwd() / "pyproject.toml").is_file()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="the folder is not empty") as caught:
        make_recipe(tmp_path, "shop", "classification")
    assert caught.value.where == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(UsageError):
        make_recipe(tmp_path / "precious.txt", "shop", "classification")


@pytest.mark.parametrize(
    "name", ["", "Shop", "1shop", "my_shop", "shop-", "-shop", "my shop", "shöp", "class", "a/b", "a--b", "../shop"]
)
def test_a_name_that_cannot_be_a_packages_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not a recipe's name") as caught:
        make_recipe(tmp_path / "x", name, "classification")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "mealkit", "mealkit-runtime", "pandas", "tests", "data"])
def test_a_name_that_would_hide_another_module_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="would hide") as caught:
        make_recipe(tmp_path / "x", name, "classification")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        if self.name == "pyproject.toml":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        make_recipe(tmp_path / "shop", "shop", "classification")
    assert caught.value.where == str(tmp_path / "shop")
    assert list(tmp_path.iterdir()) == []
