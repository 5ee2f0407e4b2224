"""The project file: what it says, and what is wrong with it."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mealkit.errors import ProjectError
from mealkit.project import ImageSettings, read_project

GOOD = """
[project]
name = "shop"
version = "1.0"
description = "A shop."
requires-python = ">=3.12"
dependencies = ["pandas>=2"]

[tool.mealkit]
kind = "ranking"
trainer = "shop.model:T"
input = "shop.settings:Row"
target = "y"
keys = ["id"]

[tool.mealkit.inputs]
products = "shop.settings:Product"

[tool.mealkit.metrics]
ndcg = "maximize"

[tool.mealkit.resources]
cpu = 2

[tool.mealkit.image]
base = "python:3.12-slim"
repository = "registry.test/shop"
platforms = ["linux/arm64"]
user = "root"
env = { TZ = "UTC", N = 1 }
"""


def write(folder: Path, text: str, package: str = "shop") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(text)
    (folder / package).mkdir(parents=True, exist_ok=True)
    return folder


def refused(root: Path) -> ProjectError:
    with pytest.raises(ProjectError) as caught:
        read_project(root)
    assert caught.value.hint
    return caught.value


def test_everything_is_read(tmp_path: Path) -> None:
    project = read_project(write(tmp_path, GOOD))
    assert (project.name, project.version, project.summary) == ("shop", "1.0", "A shop.")
    assert (project.kind, project.target, project.keys) == ("ranking", "y", ("id",))
    assert project.components == {"trainer": "shop.model:T", "input": "shop.settings:Row"}
    assert project.inputs == {"products": "shop.settings:Product"}
    assert project.metrics == {"ndcg": "maximize"}
    assert project.resources == {"cpu": 2}
    assert (project.packages, project.source) == (("shop",), tmp_path)
    assert project.file == tmp_path / "pyproject.toml"
    assert project.dependencies == ("pandas>=2",)
    assert project.image == ImageSettings(
        base="python:3.12-slim",
        repository="registry.test/shop",
        platforms=("linux/arm64",),
        user="root",
        env={"TZ": "UTC", "N": "1"},
    )


def test_little_is_needed(tmp_path: Path) -> None:
    text = '[project]\nname = "s"\nversion = "1"\n[tool.mealkit]\ntrainer = "shop:T"\n'
    project = read_project(write(tmp_path, text))
    assert (project.kind, project.requires_python, project.image) == ("custom", ">=3.11", ImageSettings())


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert read_project(Path()).root == tmp_path


def test_a_source_folder_and_a_single_module_are_found(tmp_path: Path) -> None:
    root = write(tmp_path / "a", GOOD, "src/shop")
    assert read_project(root).source == root / "src"
    root = write(tmp_path / "b", GOOD, "other")
    (root / "shop.py").write_text("")
    assert read_project(root).source == root


def test_no_pyproject(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.where == str(tmp_path)
    assert "mealkit init" in str(error.hint)


@pytest.mark.parametrize("content", [b"[project", b"\xff\xfe", b"a = 1\na = 2"])
def test_no_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    assert "cannot read pyproject.toml" in refused(tmp_path).message


@pytest.mark.parametrize("rest", ["", "[tool.other]\nx = 1", "tool = 3", "[tool]\nmealkit = 3"])
def test_a_project_that_is_no_recipe(tmp_path: Path, rest: str) -> None:
    error = refused(write(tmp_path, f"{rest}\n"))
    assert error.message == "pyproject.toml has no [tool.mealkit] table"
    assert "mealkit init" in str(error.hint)


@pytest.mark.parametrize(
    ("old", "new", "where", "hint"),
    [
        ('trainer = "shop.model:T"', "", "tool.mealkit.trainer", 'trainer = "package.module:Class"'),
        ('trainer = "shop.model:T"', 'trianer = "shop.model:T"', "tool.mealkit.trianer", "did you mean 'trainer'?"),
        ('keys = ["id"]', "zzz = 1", "tool.mealkit.zzz", "known keys: hyperparameters"),
        ('user = "root"', 'uesr = "root"', "tool.mealkit.image.uesr", "did you mean 'user'?"),
        ('user = "root"', 'user = "www-data"', "tool.mealkit.image.user", '"UID:GID"'),
        ('"shop.model:T"', '"shop.model.T"', "tool.mealkit.trainer", "package.module:Class"),
        ('"shop.model:T"', '"shop.model:T()"', "tool.mealkit.trainer", "package.module:Class"),
        ('"shop.model:T"', '"../x:T"', "tool.mealkit.trainer", "package.module:Class"),
        ('"shop.model:T"', "3", "tool.mealkit.trainer", "package.module:Class"),
        ('"shop.settings:Product"', '"Product"', "tool.mealkit.inputs.products", "package.module:Class"),
        ('"shop.model:T"', '"stop.model:T"', "tool.mealkit", "make the folder stop/"),
        ('"ranking"', '"rankin"', "tool.mealkit.kind", "classification, regression"),
        ('"ranking"', "[]", "tool.mealkit.kind", "classification, regression"),
        ('keys = ["id"]', 'keys = "id"', "tool.mealkit.keys", 'keys = ["…"]'),
        ('"maximize"', '"up"', "tool.mealkit.metrics.ndcg", "maximize or minimize"),
        ('name = "shop"', "", "project.name", 'name = "…"'),
        ('version = "1.0"', 'dynamic = ["version"]', "project.version", 'version = "…"'),
        ('["pandas>=2"]', '"pandas"', "project.dependencies", "…"),
        ('target = "y"', "target = 3", "tool.mealkit.target", "target ="),
        ('keys = ["id"]', 'packages = ["../shop"]', "tool.mealkit.packages", "my_recipe"),
        ("env = { TZ =", "env = 3 # {", "tool.mealkit.image.env", "[tool.mealkit.image.env]"),
        ('base = "python:3.12-slim"', "base = 3", "tool.mealkit.image.base", "base ="),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, old: str, new: str, where: str, hint: str) -> None:
    assert GOOD.count(old) == 1
    error = refused(write(tmp_path, GOOD.replace(old, new)))
    assert str(tmp_path / "pyproject.toml") in str(error.where)
    assert str(error.where).endswith(where)
    assert hint in str(error.hint)


values = st.sampled_from(["", "x", 'a"b', "é", 0, 1.5, True, [], [1], ["x"], {}, {"a": 1}, [{}]])
places = st.sampled_from(
    ["project", "project.name", "project.version", "project.description", "project.requires-python",
     "project.dependencies", "tool", "tool.mealkit", *(f"tool.mealkit.{key}" for key in
     ("kind", "trainer", "input", "target", "keys", "inputs", "inputs.p", "metrics", "metrics.m", "resources",
      "packages", "image", "image.base", "image.repository", "image.platforms", "image.python", "image.user",
      "image.env", "image.env.A"))]
)  # fmt: skip


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.dictionaries(places, values, max_size=3))
def test_whatever_it_says_it_is_read_or_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    document: dict[str, Any] = {
        "project": {"name": "s", "version": "1"},
        "tool": {"mealkit": {"trainer": "shop:T"}},
    }
    for place, value in changes.items():
        table: Any = document
        *path, last = place.split(".")
        for key in path:
            table = table.setdefault(key, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[last] = copy.deepcopy(value)
    root = write(tmp_path, "\n".join(f"{key} = {toml(value)}" for key, value in document.items()))
    with contextlib.suppress(ProjectError):  # any other exception fails the test
        read_project(root)
