"""The check of a recipe: all that is wrong, at once, each with a place and a hint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit.errors import MealkitError
from mealkit_builder.checking import check_recipe


@pytest.fixture
def root(shop: Workshop, tmp_path: Path) -> Iterator[Path]:
    import sys

    yield shop.recipe(within=tmp_path, lock=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tiny"]:
        del sys.modules[name]


def errors(root: Path) -> dict[str, MealkitError]:
    return {finding.what: finding.error for finding in check_recipe(root) if finding.error is not None}


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def test_a_good_recipe_has_only_good_findings(root: Path) -> None:
    findings = list(check_recipe(root))
    assert [finding.what for finding in findings] == [
        "project",
        "files",
        "specification",
        "hyperparameters",
        "input",
        "output",
        "trainer",
        "image",
        "lock",
    ]
    assert errors(root) == {}
    assert findings[0].detail == "tiny 1.0.0, classification"
    assert findings[1].detail == "3 to pack"
    assert findings[2].detail.startswith("1 hyperparameters, ")
    assert findings[-1].detail == "none that fits; the build will make it"


def test_a_lock_that_fits_is_told(shop: Workshop) -> None:
    root = shop.recipe("checked")
    assert list(check_recipe(root))[-1].detail.startswith("sha256:")


def test_a_folder_without_a_recipe_ends_at_once(tmp_path: Path) -> None:
    (finding,) = check_recipe(tmp_path)
    assert finding.error is not None
    assert finding.error.hint


def test_all_mistakes_are_told_at_once(root: Path) -> None:
    (root / "tiny" / ".env").write_text("TOKEN=1")
    edit(root, "pyproject.toml", "tiny.model:Trainer", "tiny.model:Trainr")
    edit(root, "tiny/settings.py", "Field(0.1, ", "Field(")
    found = errors(root)
    assert set(found) == {"files", "specification", "trainer"}
    assert found["files"].code == "secret-found"
    assert "'rate' has no default" in found["specification"].message
    assert "did you mean tiny.model:Trainer?" in (found["trainer"].hint or "")
    assert all(error.where for error in found.values())


def test_a_key_that_is_no_column_is_told(root: Path) -> None:
    edit(root, "tiny/settings.py", "class Score(mealkit.Row):\n    visitor: str\n", "class Score(mealkit.Row):\n")
    error = errors(root)["specification"]
    assert "the key 'visitor' is no column of the output schema" in error.message
    assert error.hint == "add it to tiny.settings:Score"


def test_what_trials_could_not_use_is_told(root: Path) -> None:
    edit(
        root,
        "tiny/settings.py",
        "Field(0.1, ",
        "Field(0.1, json_schema_extra=mealkit.search(low=-5, high=9, log=True), ",
    )
    assert "hyperparameter 'rate' " in errors(root)["hyperparameters"].message
    edit(root, "pyproject.toml", "[tool.mealkit]\n", '[tool.mealkit]\nobjective = "profit"\n')
    assert "the objective 'profit' is no metric" in errors(root)["specification"].message


def test_a_class_of_another_kind_is_told(root: Path) -> None:
    edit(root, "pyproject.toml", "tiny.model:Trainer", "tiny.settings:Score")
    assert "is not a subclass of mealkit.Trainer" in errors(root)["trainer"].message


def test_a_library_that_is_not_installed_is_told(root: Path) -> None:
    edit(root, "tiny/model.py", "import mealkit", "import mealkit\nimport nosuchlibrary")
    error = errors(root)["trainer"]
    assert "nosuchlibrary" in error.message
    assert "[project] dependencies" in (error.hint or "")


def test_an_error_of_the_authors_code_comes_with_file_and_line(root: Path) -> None:
    edit(root, "tiny/model.py", "import mealkit", "import mealkit\n\n1 / 0")
    error = errors(root)["trainer"]
    assert error.code == "recipe"
    assert error.where == f"{root / 'tiny' / 'model.py'}:5"


def test_settings_that_import_heavy_libraries_are_told(root: Path) -> None:
    edit(root, "tiny/settings.py", "import mealkit", "import mealkit\nimport pandas")
    error = errors(root)["specification"]
    assert "'tiny.settings' imports 'pandas'" in error.message
    assert "move what needs 'pandas'" in (error.hint or "")


def test_a_syntax_error_comes_with_its_file(root: Path) -> None:
    edit(root, "tiny/settings.py", "class Visit(mealkit.Row):", "class Visit(mealkit.Row)")
    error = errors(root)["specification"]
    assert "SyntaxError" in error.message
    assert "settings.py" in f"{error.where}{error.message}"
