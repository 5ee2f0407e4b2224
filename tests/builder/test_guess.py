"""A base's Python is guessed to be the last build's; a right guess saves time, a wrong one changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit_builder import preparation
from mealkit_builder.ingredient import Ingredient, recipe_ingredients


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For which Pythons the recipe's layers were named, in their order."""
    seen: list[str] = []

    def name(*arguments: object) -> tuple[Ingredient, ...]:
        seen.append(str(arguments[2]))
        return recipe_ingredients(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(preparation, "recipe_ingredients", name)
    return seen


def edit(root: Path) -> None:
    (root / "tiny" / "model.py").write_text((root / "tiny" / "model.py").read_text() + "# edited\n")


def test_a_right_guess_is_used(workshop: Workshop, named: list[str]) -> None:
    root = workshop.recipe()
    workshop.build(root)
    assert len(named) == 1
    guess = next((workshop.store.root / "guesses").iterdir())
    written = guess.stat()
    edit(root)
    named.clear()
    made = workshop.build(root)
    assert len(named) == 1
    assert (guess.stat().st_ino, guess.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    shutil.rmtree(root / ".mealkit")
    assert workshop.fresh().build(root).digest == made.digest


def test_a_wrong_guess_changes_nothing(workshop: Workshop, named: list[str]) -> None:
    root = workshop.recipe()
    first = workshop.build(root, bytecode=False)
    guess = next((workshop.store.root / "guesses").iterdir())
    told = json.loads(guess.read_bytes())
    guess.write_text(json.dumps({**told, "minor": "3.99", "version": "3.99.1"}))
    edit(root)
    named.clear()
    made = workshop.build(root, bytecode=False)
    assert named == ["3.99", told["minor"]]
    assert json.loads(guess.read_bytes()) == told
    assert made.digest != first.digest
    shutil.rmtree(root / ".mealkit")
    assert workshop.fresh().build(root, bytecode=False).digest == made.digest


def test_a_guess_at_an_interpreter_that_is_gone(workshop: Workshop, named: list[str]) -> None:
    root = workshop.recipe()
    workshop.build(root)
    guess = next((workshop.store.root / "guesses").iterdir())
    told = json.loads(guess.read_bytes())
    guess.write_text(json.dumps({**told, "minor": "3.99", "version": "3.99.1"}))
    named.clear()
    workshop.build(root)
    assert named == [told["minor"]]
