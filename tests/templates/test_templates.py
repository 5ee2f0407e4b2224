"""The templates: found as data, and a new recipe passes its own tests at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import jinja2
import pytest

import mealkit
from mealkit.describe import describe_project
from mealkit.project import read_project
from mealkit_templates import files, names


def render(folder: Path, kind: str) -> Path:
    """What `mealkit init` does, by the templates' contract alone."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    values = {
        "name": "customer-care",
        "package": "customer_care",
        "kind": kind,
        "mealkit_version": mealkit.__version__,
        "python_requires": ">=3.11",
    }
    for relative, text in files("recipe"):
        path = folder / environment.from_string(relative).render(values).removesuffix(".jinja")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.from_string(text).render(values))
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_templates_that_there_are() -> None:
    assert names() == ("dockerfile", "pipeline", "recipe")
    assert [path for path, _ in files("recipe")] == [
        ".gitignore.jinja",
        "README.md.jinja",
        "data/customers.csv.jinja",
        "pyproject.toml.jinja",
        "tests/test_recipe.py.jinja",
        "{{package}}/__init__.py.jinja",
        "{{package}}/model.py.jinja",
        "{{package}}/settings.py.jinja",
    ]


@pytest.mark.parametrize("name", ["nothing", "", "..", "__pycache__"])
def test_an_unknown_template_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(LookupError, match="dockerfile, pipeline, recipe"):
        list(files(name))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_new_recipe_passes_its_own_tests(tmp_path: Path, kind: str) -> None:
    folder = render(tmp_path, kind)
    done = run(folder, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_new_recipe_is_tidy(tmp_path: Path, kind: str) -> None:
    folder = render(tmp_path, kind)
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "{{" not in text
            assert "{%" not in text
            assert text.endswith("\n")
            assert not text.endswith("\n\n")
            assert all(line == line.rstrip() for line in text.splitlines()), path
    done = run(folder, "-m", "ruff", "check", "--isolated", "--select", "E,F,W,UP,B,D1,RET,SIM", "--ignore", "D103",
               "--line-length", "120", ".")  # fmt: skip
    assert done.returncode == 0, done.stdout
    done = run(folder, "-m", "ruff", "format", "--isolated", "--line-length", "120", "--check", "--diff", ".")
    assert done.returncode == 0, done.stdout


def test_a_new_recipe_types(tmp_path: Path) -> None:
    folder = render(tmp_path, "classification")
    done = run(folder, "-m", "mypy", "--strict", "--ignore-missing-imports", "--cache-dir", os.devnull, "customer_care")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_new_recipe_keeps_secrets_out_and_describes_itself(tmp_path: Path, kind: str) -> None:
    folder = render(tmp_path, kind)
    ignored = (folder / ".gitignore").read_text().splitlines()
    assert {".env", "*.pem", "*.key", "model/", ".mealkit/"} <= set(ignored)
    document = tomllib.loads((folder / "pyproject.toml").read_text())
    assert f"mealkit=={mealkit.__version__}" in document["dependency-groups"]["dev"]
    spec = describe_project(read_project(folder))
    assert (spec.name, spec.kind, spec.keys) == ("customer-care", kind, ("customer_id",))
    assert spec.input is not None
    assert spec.target not in spec.input["properties"]


def test_templates_bring_nothing_in() -> None:
    code = (
        "import sys; before = set(sys.modules); import mealkit_templates; list(mealkit_templates.files('recipe')); "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["mealkit_templates"]
