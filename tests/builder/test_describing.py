"""The remembered specification: read again only when what it came from has changed."""

from __future__ import annotations

import json
import os
import py_compile
import sys
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit.errors import ProjectError
from mealkit.project import read_project
from mealkit.spec import LABEL, RecipeSpec
from mealkit_builder.describing import SOURCE_LABEL, Described, describe_project, read_spec
from mealkit_builder.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def root(shop: Workshop, tmp_path: Path) -> Path:
    return shop.recipe(within=tmp_path, lock=False)


def spec(root: Path, store: Store) -> str:
    return read_spec(read_project(root), store)


def test_it_is_the_specification(root: Path, store: Store) -> None:
    found = RecipeSpec.from_json(spec(root, store))
    assert (found.name, found.version, found.kind) == ("tiny", "1.0.0", "classification")
    assert found.to_json() == spec(root, store)
    assert found.hyperparameters["properties"]["rate"]["exclusiveMinimum"] == 0


def test_unchanged_files_are_not_imported_again(root: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec(root, store)

    def forbidden(*args: object) -> None:
        raise AssertionError("described again")

    monkeypatch.setattr("mealkit.describe.describe_with_sources", forbidden)
    assert spec(root, store) == before
    (root / "tiny" / "model.py").write_text("# the model is no part of the specification\n")
    assert spec(root, store) == before
    (root / "tiny" / "data.csv").write_text("1")
    assert spec(root, store) == before


def test_changed_settings_are_seen(root: Path, store: Store) -> None:
    before = spec(root, store)
    file = root / "tiny" / "settings.py"
    file.write_text(file.read_text().replace("le=1", "le=2"))
    assert json.loads(spec(root, store))["hyperparameters"]["properties"]["rate"]["maximum"] == 2
    file.write_text(file.read_text().replace("le=2", "le=1"))
    assert spec(root, store) == before


def test_stale_bytecode_beside_the_sources_is_not_believed(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "tiny" / "settings.py"
    py_compile.compile(str(file))
    state = file.stat()
    file.write_text(file.read_text().replace("le=1", "le=2"))  # as long as before …
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # … and as old, as after a checkout with fixed times
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    before = sorted(root.rglob("*.pyc"))
    assert '"maximum":2' in spec(root, store)
    assert sorted(root.rglob("*.pyc")) == before
    assert sys.pycache_prefix is None


def test_what_settings_import_is_watched_too(root: Path, store: Store) -> None:
    limits, settings = root / "tiny" / "limits.py", root / "tiny" / "settings.py"
    limits.write_text("MOST = 3\n")
    settings.write_text("from .limits import MOST\n" + settings.read_text().replace("le=1", "le=MOST"))
    assert json.loads(spec(root, store))["hyperparameters"]["properties"]["rate"]["maximum"] == 3
    limits.write_text("MOST = 4\n")
    assert json.loads(spec(root, store))["hyperparameters"]["properties"]["rate"]["maximum"] == 4


def test_a_new_module_and_a_new_setting_are_seen(root: Path, store: Store) -> None:
    spec(root, store)
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace('version = "1.0.0"', 'version = "1.1.0"'))
    assert RecipeSpec.from_json(spec(root, store)).version == "1.1.0"
    (root / "tiny" / "settings").mkdir()
    (root / "tiny" / "settings" / "__init__.py").write_text("# shadows settings.py\n")
    with pytest.raises(ProjectError, match="Hyperparameters"):
        spec(root, store)


def test_a_damaged_memory_is_passed_over(root: Path, store: Store) -> None:
    before = spec(root, store)
    for content in (b"", b"[1]", b'"text"', b"\xff"):
        for path in (store.root / "specs").iterdir():
            path.write_bytes(content)
        assert spec(root, store) == before


def test_two_recipes_of_one_name_do_not_mix(shop: Workshop, store: Store, tmp_path: Path) -> None:
    one = shop.recipe(within=tmp_path / "a", lock=False)
    other = shop.recipe(within=tmp_path / "b", lock=False)
    file = other / "tiny" / "settings.py"
    file.write_text(file.read_text().replace("le=1", "le=7"))
    assert '"maximum":1' in spec(one, store)
    assert '"maximum":7' in spec(other, store)
    assert '"maximum":1' in spec(one, store)


def test_a_specification_that_is_none_is_refused() -> None:
    for text in ("", "[]", "{}", '{"spec_version": 99}'):
        with pytest.raises(ProjectError) as caught:
            RecipeSpec.from_json(text)
        assert caught.value.hint


def test_an_earlier_image_tells_what_this_machine_never_described(root: Path, store: Store, tmp_path: Path) -> None:
    project = read_project(root)
    told = describe_project(project, store)
    labels = {LABEL: told.spec.replace("tiny", "from-afar"), SOURCE_LABEL: told.source}
    assert labels[LABEL] != told.spec
    fresh = Store(tmp_path / "fresh")
    assert describe_project(project, fresh, lambda: [{}, labels]) == Described(labels[LABEL], told.source)
    # And it is remembered.
    assert describe_project(project, fresh).spec == labels[LABEL]


@pytest.mark.parametrize(
    "source", ["", "one two", "{key} {files}", "{key} {files} ../pyproject.toml", "{key} {files} /etc/passwd"]
)
def test_a_label_that_does_not_fit_is_passed_over(root: Path, store: Store, tmp_path: Path, source: str) -> None:
    project = read_project(root)
    told = describe_project(project, store)
    key, files, *_ = told.source.split()
    labels = {LABEL: "{}", SOURCE_LABEL: source.format(key=key, files=files)}
    assert describe_project(project, Store(tmp_path / "fresh"), lambda: [labels]) == told


def test_a_label_does_not_fit_once_the_settings_change(root: Path, store: Store, tmp_path: Path) -> None:
    told = describe_project(read_project(root), store)
    labels = {LABEL: "{}", SOURCE_LABEL: told.source}
    for file in ("settings.py", "other.py"):
        with (root / "tiny" / file).open("a") as settings:
            settings.write("# changed\n")
        assert describe_project(read_project(root), Store(tmp_path / file), lambda: [labels]).spec == told.spec
