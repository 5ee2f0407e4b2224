"""What the SDK promises to its users: names, docstrings, dependencies, versions."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import mealkit
import mealkit.testing

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = ("sdk", "runtime", "builder", "templates")
MODULES = [f"mealkit.{module.name}" for module in pkgutil.iter_modules(mealkit.__path__)]


def test_the_public_names() -> None:
    assert mealkit.__all__ == [
        "BatchRecord", "Bootstrap", "Checkpoint", "Checkpoints", "ClassificationEvaluator", "ClusteringEvaluator",
        "Context", "Curve", "Data", "DataLoader", "DataSaver", "EarlyStopping", "Evaluator", "Field",
        "Hyperparameters", "MealkitError", "Metric", "Metrics", "RankingEvaluator", "RecipeSpec",
        "RegressionEvaluator", "Row", "Scorer", "Slice", "Table", "Trainer", "__version__", "search",
    ]  # fmt: skip
    assert all(hasattr(mealkit, name) for name in mealkit.__all__)
    assert dir(mealkit) == sorted(mealkit.__all__)
    assert mealkit.testing.__all__ == ["Trial", "assert_no_leak", "load", "make_context", "try_recipe"]
    with pytest.raises(AttributeError, match="no attribute 'Trianer'"):
        mealkit.Trianer  # type: ignore[attr-defined]  # noqa: B018


def public(module: Any) -> list[tuple[str, Any]]:
    return [
        (f"{module.__name__}.{name}", value)
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    ]


@pytest.mark.parametrize("name", ["mealkit", *MODULES])
def test_everything_public_is_described(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith((".", ":"))
    for place, value in public(module):
        assert inspect.getdoc(value), place
        if inspect.isclass(value):
            fields = getattr(value, "__dataclass_fields__", ())  # described by the class
            for member, function in vars(value).items():
                if member not in fields and inspect.isfunction(function) and not member.startswith("_"):
                    assert inspect.getdoc(function), f"{place}.{member}"


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sdk_needs_nothing_but_pydantic() -> None:
    allowed = {
        "mealkit", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection",
    }  # fmt: skip
    code = f"""
import sys
allowed = {allowed!r} | set(sys.stdlib_module_names)
class Wall:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith("_sysconfigdata_"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Wall())
import importlib
for name in {MODULES!r}:
    importlib.import_module(name)
import mealkit
assert all(getattr(mealkit, name) for name in mealkit.__all__)
print("done")
"""
    assert python(code) == "done\n"


def test_import_mealkit_brings_nothing_in() -> None:
    found = python("import sys; import mealkit; print(*{m.partition('.')[0] for m in sys.modules})").split()
    assert not {"pydantic", "pandas", "numpy", "sklearn"} & set(found)


def test_all_distributions_have_one_version_and_pin_each_other() -> None:
    projects = {name: tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"] for name in DISTRIBUTIONS}
    assert {project["version"] for project in projects.values()} == {mealkit.__version__}
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == mealkit.__version__
    ours = {project["name"] for project in projects.values()}
    pins = {
        requirement
        for project in projects.values()
        for requirement in project.get("dependencies", [])
        if requirement.replace("=", " ").replace(">", " ").split()[0] in ours
    }
    assert pins
    assert all(requirement.partition("==")[2] == mealkit.__version__ for requirement in pins)
    assert {requirement.partition(">")[0] for requirement in projects["sdk"]["dependencies"]} == {
        "pydantic",
        "typing-extensions",
    }
    assert projects["templates"]["dependencies"] == []
    assert len({project["requires-python"] for project in projects.values()}) == 1


def test_every_distribution_is_typed() -> None:
    for name, package in zip(
        DISTRIBUTIONS, ("mealkit", "mealkit_runtime", "mealkit_builder", "mealkit_templates"), strict=True
    ):
        assert (ROOT / name / package / "py.typed").is_file()
