"""Ingredients: their keys say all that their layers depend on, and their layers hold what they should."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from wheels_for_tests import wheel_file
from workshop import MINOR, Workshop

from mealkit.project import read_project
from mealkit_builder.bytecode import compile_tree
from mealkit_builder.inflate import Buffer
from mealkit_builder.ingredient import Ingredient, own_ingredient, recipe_ingredients, wheel_ingredients
from mealkit_builder.interpreter import Interpreter, find_interpreter
from mealkit_builder.store import Store

SITE = f"opt/mealkit/venv/lib/python{MINOR}/site-packages"
SPEC = '{"name":"tiny"}'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    found = find_interpreter(MINOR, {})
    assert found is not None
    return found


@pytest.fixture
def root(shop: Workshop, tmp_path: Path) -> Path:
    return shop.recipe(within=tmp_path, lock=False)


def opened(one: Ingredient, store: Store) -> dict[str, tarfile.TarInfo]:
    layer = one.make(())
    assert layer.key == one.key
    assert layer.title == one.title
    with tarfile.open(fileobj=io.BytesIO(store.blob_path(layer.digest).read_bytes())) as tar:
        return {member.name: member for member in tar}


def recipe(root: Path, store: Store, interpreter: Interpreter | None = None, spec: str = SPEC) -> Ingredient:
    *large, rest = recipe_ingredients(read_project(root), spec, MINOR, interpreter, store)
    assert not large
    return rest


def test_the_recipe_is_packed_as_it_would_be_installed(root: Path, store: Store, interpreter: Interpreter) -> None:
    names = set(opened(recipe(root, store, interpreter), store))
    assert {
        f"{SITE}/tiny/model.py",
        f"{SITE}/tiny-1.0.0.dist-info/METADATA",
        f"{SITE}/tiny-1.0.0.dist-info/RECORD",
        "opt/mealkit/recipe.json",
    } <= names
    tag = "cpython-" + MINOR.replace(".", "")
    assert f"{SITE}/tiny/__pycache__/model.{tag}.pyc" in names


def test_what_is_large_is_a_layer_of_its_own(root: Path, store: Store, interpreter: Interpreter) -> None:
    """So an edit moves the file that was edited and the small ones, and never the data beside them."""

    def made() -> dict[str, Ingredient]:
        parts = recipe_ingredients(read_project(root), SPEC, MINOR, interpreter, store)
        assert [one.title for one in parts] == [*sorted(one.title for one in parts[:-1]), "tiny 1.0.0"]
        return {one.title: one for one in parts}

    (root / "tiny" / "words.txt").write_text("word " * 1000)
    (root / "tiny" / "large.py").write_text("A = 1  # so that it is large\n" * 100)
    before = made()
    assert set(before) == {"tiny/large.py", "tiny/words.txt", "tiny 1.0.0"}
    tag = "cpython-" + MINOR.replace(".", "")
    large, words, rest = (set(opened(one, store)) for one in before.values())
    assert {f"{SITE}/tiny/large.py", f"{SITE}/tiny/__pycache__/large.{tag}.pyc"} <= large
    assert f"{SITE}/tiny/words.txt" in words
    assert not [name for name in words | rest if "large" in name]
    assert {f"{SITE}/tiny/__pycache__/model.{tag}.pyc", "opt/mealkit/recipe.json"} <= rest
    with (root / "tiny" / "large.py").open("a") as file:
        file.write("B = 2\n")
    after = made()
    assert {name for name in after if after[name].key != before[name].key} == {"tiny/large.py", "tiny 1.0.0"}  # RECORD


def test_only_what_changed_is_compiled(
    root: Path, store: Store, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []

    def compile_some(files: Mapping[str, Buffer], interpreter: Interpreter) -> dict[str, bytes]:
        compiled.extend(path.rpartition("/")[2] for path in files)
        return compile_tree(files, interpreter)

    monkeypatch.setattr("mealkit_builder.bytecode.compile_tree", compile_some)

    def make() -> list[str]:
        """The digests of all layers; what was compiled for them is in ``compiled``."""
        compiled.clear()
        parts = recipe_ingredients(read_project(root), SPEC, MINOR, interpreter, store)
        return [store.layer(one.key, lambda one=one: one.make(())).digest for one in parts]  # type: ignore[misc]

    for name in ("large", "larger"):
        (root / "tiny" / f"{name}.py").write_text("A = 1  # so that it is large\n" * 100)
    make()
    assert sorted(compiled) == ["__init__.py", "large.py", "larger.py", "model.py", "settings.py"]
    (root / "tiny" / "larger.py").write_text("A = 2  # so that it is large\n" * 100)
    after = make()
    assert sorted(compiled) == ["__init__.py", "larger.py", "model.py", "settings.py"]
    parts = recipe_ingredients(read_project(root), SPEC, MINOR, interpreter, store)
    compiled.clear()
    assert [one.make(()).digest for one in parts] == after  # asked for all the same, they are compiled then
    assert len(compiled) == len(set(compiled)) == 5


def test_only_so_many_files_have_layers_of_their_own(root: Path, store: Store) -> None:
    for number in range(9):
        (root / "tiny" / f"data{number}.txt").write_text("x" * (3000 + number))
    parts = recipe_ingredients(read_project(root), SPEC, MINOR, None, store)
    assert [one.title for one in parts] == [*(f"tiny/data{number}.txt" for number in range(3, 9)), "tiny 1.0.0"]


def test_without_an_interpreter_there_is_no_bytecode(root: Path, store: Store) -> None:
    assert not [name for name in opened(recipe(root, store), store) if name.endswith(".pyc")]


def test_every_user_can_read_the_recipe_and_nobody_write_it(root: Path, store: Store) -> None:
    for path in root.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    for member in opened(recipe(root, store), store).values():
        assert member.mode == (0o755 if member.isdir() else 0o644)
        assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 315532800, "")


def test_the_key_depends_on_all_that_the_layer_does(root: Path, store: Store, interpreter: Interpreter) -> None:
    keys = [recipe(root, store, interpreter).key, recipe(root, store).key, recipe(root, store, spec="{}").key]
    with (root / "tiny" / "model.py").open("a") as file:
        file.write("# another\n")
    keys.append(recipe(root, store).key)
    (root / "tiny" / "__init__.py").rename(root / "tiny" / "other.py")
    keys.append(recipe(root, store).key)
    (root / "pyproject.toml").write_text((root / "pyproject.toml").read_text().replace("1.0.0", "1.0.1"))
    keys.append(recipe(root, store).key)
    assert len(set(keys)) == len(keys)


def test_the_key_depends_on_nothing_else(root: Path, shop: Workshop, store: Store, tmp_path: Path) -> None:
    other = shop.recipe(within=tmp_path / "elsewhere", lock=False)
    (other / "notes.txt").write_text("not packed")
    (other / "tiny" / "model.py").chmod(0o600)
    assert recipe(other, store).key == recipe(root, store).key
    first = recipe(root, store).make(())
    assert recipe(other, Store(tmp_path / "other-cache")).make(()) == first


def test_the_environment_is_one_that_python_knows(store: Store, interpreter: Interpreter) -> None:
    one = own_ingredient(MINOR, "/usr/local/bin/python3", "3.99.1", interpreter, store)
    members = opened(one, store)
    assert {f"{SITE}/mealkit/__init__.py", f"{SITE}/mealkit_runtime/__main__.py"} <= set(members)
    assert members["opt/mealkit/venv/bin/python"].linkname == "/usr/local/bin/python3"
    assert members["opt/mealkit/venv/lib64"].linkname == "lib"
    layer = one.make(())
    with tarfile.open(fileobj=io.BytesIO(store.blob_path(layer.digest).read_bytes())) as tar:
        settings = tar.extractfile("opt/mealkit/venv/pyvenv.cfg")
        assert settings is not None
        assert settings.read().decode().splitlines() == [
            "home = /usr/local/bin",
            "include-system-site-packages = false",
            "version = 3.99.1",
        ]
    other = own_ingredient(MINOR, "/usr/bin/python3", "3.99.1", interpreter, store)
    assert other.key != one.key


def test_each_group_of_wheels_has_a_layer_and_its_bytecode(workshop: Workshop, interpreter: Interpreter) -> None:
    wheels = [wheel_file(path) for path in sorted(workshop.pantry.glob("*.whl"))]
    several = wheel_ingredients(wheels, MINOR, interpreter, workshop.store)
    assert [one.compiles for one in several] == [False, True]
    assert several[1].title == f"bytecode of {several[0].title}"
    assert several[0].wheels == several[1].wheels == tuple(wheels)
    assert len(wheel_ingredients(wheels, MINOR, None, workshop.store)) == 1
    assert wheel_ingredients([], MINOR, interpreter, workshop.store) == ()


def test_wheels_without_python_have_an_empty_layer_of_bytecode(workshop: Workshop, interpreter: Interpreter) -> None:
    wheel = wheel_file(workshop.wheel("data_only", files={"data_only/table.csv": "1,2\n"}))
    packages, bytecode = wheel_ingredients([wheel], MINOR, interpreter, workshop.store)
    assert packages.make([wheel]).size > 0
    layer = bytecode.make([wheel])
    assert layer.key == bytecode.key
    workshop.store.remember(layer)
    assert workshop.store.known_layer(bytecode.key) == layer
