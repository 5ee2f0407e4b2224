"""Describing a recipe: settings only, the same whatever is loaded already, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from recipes import Make

from mealkit.describe import describe_project, importable
from mealkit.errors import ProjectError, RecipeError
from mealkit.project import read_project
from mealkit.spec import RecipeSpec

SETTINGS = """
    import mealkit
    from mealkit import Field

    class Hyperparameters(mealkit.Hyperparameters):
        rate: float = Field(0.1, gt=0, le=1)

    class In(mealkit.Row):
        id: int
        x: float | None = Field(None, ge=0, description="a number")

    class Out(mealkit.Row):
        id: int
        prediction: float

    class Product(mealkit.Row):
        name: str
"""
MORE = """
hyperparameters = "PACKAGE.settings:Hyperparameters"
input = "PACKAGE.settings:In"
output = "PACKAGE.settings:Out"
target = "y"
keys = ["id"]
inputs = { products = "PACKAGE.settings:Product" }
metrics = { own = "minimize" }
resources = { cpu = 1 }
"""


def describe(root: Path) -> RecipeSpec:
    return describe_project(read_project(root))


def refused(root: Path) -> ProjectError:
    with pytest.raises(ProjectError) as caught:
        describe(root)
    return caught.value


def test_the_specification_tells_all(make: Make) -> None:
    spec = describe(make(MORE, settings=SETTINGS))
    rate = spec.hyperparameters["properties"]["rate"]
    assert (rate["default"], rate["exclusiveMinimum"], rate["maximum"]) == (0.1, 0, 1)
    assert spec.input is not None
    assert spec.output is not None
    assert spec.input["properties"]["x"]["description"] == "a number"
    assert spec.input["required"] == ["id"]
    assert list(spec.output["properties"]) == ["id", "prediction"]
    assert spec.input_schemas["products"]["properties"]["name"] == {"title": "Name", "type": "string"}
    assert spec.metrics["own"] == "minimize"
    assert spec.metrics["roc_auc"] == "maximize"
    assert spec.modes == ("train", "evaluate", "score", "describe")
    assert RecipeSpec.from_json(spec.to_json()) == spec


def test_nothing_is_imported_but_settings(make: Make) -> None:
    root = make(MORE, settings=SETTINGS, model="raise RuntimeError('never imported')")
    assert describe(root).target == "y"


@pytest.mark.parametrize("line", ["import pandas", "from pandas import DataFrame", "import sklearn.pipeline"])
def test_heavy_settings_are_refused_though_the_library_is_loaded(make: Make, line: str) -> None:
    assert "pandas" in sys.modules
    error = refused(make(MORE, settings=f"{line}\n" + SETTINGS.replace("\n    ", "\n")))
    name = line.split()[1].partition(".")[0]
    assert name in error.message
    assert "tool.mealkit.hyperparameters" in str(error.where)
    assert f"move what needs {name!r} to another module" in str(error.hint)
    assert "__init__.py" in str(error.hint)
    assert sys.modules["pandas"] is pd


def test_a_heavy_package_is_refused_too(make: Make) -> None:
    root = make(MORE, settings=SETTINGS)
    next(root.glob("small_*/__init__.py")).write_text("import numpy")
    assert "numpy" in refused(root).message


def test_a_settings_module_may_import_its_own_package_and_the_standard_library(make: Make) -> None:
    root = make(
        MORE, settings="import decimal, sysconfig\nsysconfig.get_config_vars()\nfrom .names import *", names=SETTINGS
    )
    assert describe(root).keys == ("id",)


@pytest.mark.parametrize("fails", [False, True])
def test_the_loaded_modules_are_as_before(make: Make, fails: bool) -> None:
    before, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    root = make(MORE, settings=("import pandas\n" if fails else "") + SETTINGS.replace("\n    ", "\n"))
    if fails:
        refused(root)
    else:
        describe(root)
    assert {name for name in before if sys.modules.get(name) is not before[name]} == set()
    assert not [name for name in sys.modules if name.startswith(root.name)]
    assert (sys.path, sys.meta_path) == (path, finders)


def test_the_answer_is_that_of_a_process_that_has_nothing_loaded(make: Make) -> None:
    root = make(MORE, settings=SETTINGS)
    code = (
        "import sys; from pathlib import Path; from mealkit.project import read_project; "
        "from mealkit.describe import describe_project; "
        f"print(describe_project(read_project(Path({str(root)!r}))).to_json()); "
        "assert not {'pandas', 'numpy', 'sklearn'} & set(sys.modules)"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert fresh.stdout.strip() == describe(root).to_json()


def test_what_settings_raise_is_told_with_file_and_line(make: Make) -> None:
    root = make(MORE, settings="x = 1\nraise ValueError('broken')\n")
    with pytest.raises(RecipeError, match="broken") as caught:
        describe(root)
    assert str(caught.value.where).endswith("settings.py:2")


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ("", "has no class 'Hyperparameters'", "write it in"),
        ("class Hyperparametres: pass", "has no class 'Hyperparameters'", "Hyperparametres?"),
        ("class Hyperparameters: pass", "is not a subclass of mealkit.Hyperparameters", "derive it"),
        ("Hyperparameters = 3", "is not a subclass of mealkit.Hyperparameters", "derive it"),
    ],
)
def test_a_wrong_class_is_told(make: Make, settings: str, message: str, hint: str) -> None:
    error = refused(make('hyperparameters = "PACKAGE.settings:Hyperparameters"', settings=settings))
    assert message in error.message
    assert error.where == "tool.mealkit.hyperparameters"
    assert hint in str(error.hint)


def test_a_missing_module_is_told(make: Make) -> None:
    error = refused(make('input = "PACKAGE.nowhere:In"'))
    assert ".nowhere" in error.message
    assert error.where == "tool.mealkit.input"


def test_another_recipe_of_the_same_package_name_is_no_trouble(tmp_path: Path, make: Make) -> None:
    first = make(MORE, settings=SETTINGS)
    second = tmp_path / "second"
    second.mkdir()
    for path in first.rglob("*"):
        if path.is_file() and path.suffix in (".py", ".toml"):
            target = second / path.relative_to(first)
            target.parent.mkdir(exist_ok=True)
            target.write_text(path.read_text().replace("a number", "another number"))
    for root, text in ((first, "a number"), (second, "another number"), (first, "a number")):
        with importable(read_project(root)):
            spec = describe(root)
        assert spec.input is not None
        assert spec.input["properties"]["x"]["description"] == text
