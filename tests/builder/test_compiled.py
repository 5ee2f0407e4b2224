"""The bytecode of small wheels is kept: a wheel more compiles that wheel alone, and gives the bytes it would anyway."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from wheels_for_tests import MINOR, make_wheel

from mealkit_builder import compiler
from mealkit_builder.bytecode import build_bytecode_layer
from mealkit_builder.compiled import FOLDER
from mealkit_builder.compiler import Source
from mealkit_builder.interpreter import Interpreter, find_interpreter
from mealkit_builder.inventory import list_items
from mealkit_builder.layer import Layer
from mealkit_builder.layering import Group
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

ALIKE = "SAME = 1\n"


@pytest.fixture(scope="module")
def here() -> Interpreter:
    found = find_interpreter(MINOR, os.environ)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[WheelFile, ...]:
    """Three; the first two bring one file alike, and the third has one that cannot be compiled."""
    folder = tmp_path_factory.mktemp("wheels")
    return tuple(
        make_wheel(folder, name, files=files)
        for name, files in {
            "one": {"one/__init__.py": "x = 1\n", "shared/__init__.py": ALIKE},
            "other": {"other/__init__.py": "def f():\n    return 2\n", "shared/__init__.py": ALIKE},
            "third": {"third.py": "y = 'three'\n", "third_template.py": "{{ no python }}\n"},
        }.items()
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that a compiler got."""
    paths: list[str] = []
    real = compiler.compile_each

    def noted(sources: Sequence[Source], *args: object, **options: object) -> None:
        paths.extend(sorted(source.path.rpartition("site-packages/")[2] for source in sources))
        real(sources, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "compile_each", noted)
    return paths


def build(wheels: Sequence[WheelFile], here: Interpreter, root: Path, *, anew: bool = False) -> Layer:
    layer = build_bytecode_layer(Group(tuple(wheels)), MINOR, here, Store(root), anew=anew)
    assert layer is not None
    return layer


def test_a_wheel_more_compiles_that_wheel_alone(
    tmp_path: Path, here: Interpreter, wheels: tuple[WheelFile, ...], asked: list[str]
) -> None:
    build(wheels[:2], here, tmp_path / "store")
    assert asked == ["one/__init__.py", "other/__init__.py", "shared/__init__.py"]
    asked.clear()
    more = build(wheels, here, tmp_path / "store")
    assert asked == ["third.py", "third_template.py"]
    assert more == build(wheels, here, tmp_path / "fresh")


@pytest.mark.parametrize("first", [(0, 2), (1, 2), (2, 1)])
def test_what_two_bring_alike_is_there_once_whichever_was_kept(
    tmp_path: Path, here: Interpreter, wheels: tuple[WheelFile, ...], first: tuple[int, int]
) -> None:
    build([wheels[number] for number in first], here, tmp_path / "store")
    assert build(wheels, here, tmp_path / "store") == build(wheels, here, tmp_path / "fresh")


def test_another_compiler_or_what_is_left_out_asks_for_other_bytecode(
    tmp_path: Path, here: Interpreter, wheels: tuple[WheelFile, ...], asked: list[str]
) -> None:
    build(wheels, here, tmp_path)
    asked.clear()
    fewer = (replace(wheels[0], left_out=("shared/*",)), *wheels[1:])
    build(fewer, here, tmp_path)
    assert asked == ["one/__init__.py"]
    asked.clear()
    # The same program under the name of another version: only what the keys are made of differs.
    with pytest.raises(Exception, match="wrong answer"):
        build(wheels, replace(here, version="3.99.0"), tmp_path)
    assert len(asked) == 5


def test_anew_compiles_all(tmp_path: Path, here: Interpreter, wheels: tuple[WheelFile, ...], asked: list[str]) -> None:
    build(wheels, here, tmp_path)
    asked.clear()
    build(wheels, here, tmp_path, anew=True)
    assert len(asked) == 5


def test_a_wheel_of_its_own_layer_is_not_kept_twice(
    tmp_path: Path, here: Interpreter, wheels: tuple[WheelFile, ...]
) -> None:
    build(wheels[:1], here, tmp_path)
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"",
        lambda data: b"[]\n" + data,
        lambda data: b"{}\n",
        lambda data: data.replace(b'": ', b'": "x', 1),
        lambda data: b"\xff" + data,
    ],
)
def test_what_is_damaged_is_compiled_again(
    tmp_path: Path, here: Interpreter, wheels: tuple[WheelFile, ...], damage: object
) -> None:
    sound = build(wheels, here, tmp_path)
    kept = sorted((tmp_path / FOLDER).iterdir())
    assert len(kept) == 3
    before = [path.read_bytes() for path in kept]
    for path in kept:
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert build(wheels, here, tmp_path) == sound
    assert [path.read_bytes() for path in kept] == before


def test_the_inventory_tells_it_apart(tmp_path: Path, here: Interpreter, wheels: tuple[WheelFile, ...]) -> None:
    build(wheels, here, tmp_path)
    items = [item for item in list_items(Store(tmp_path)) if item.kind == "bytecode"]
    assert len(items) == 3
    assert all(item.size > 100 for item in items)
