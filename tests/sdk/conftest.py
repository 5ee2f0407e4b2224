"""Makes small recipes in temporary folders."""

from __future__ import annotations

import itertools
import sys
import textwrap
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from recipes import Make

_numbers = itertools.count()

PYPROJECT = """
[project]
name = "small"
version = "0.1.0"

[tool.mealkit]
kind = "{kind}"
trainer = "{package}.model:Small"
{more}
"""

MODEL = """
import mealkit
from sklearn.linear_model import LinearRegression, LogisticRegression
import pandas as pd

class Small(mealkit.Trainer):
    def train(self, data, context):
        kind = LogisticRegression if context.kind == "classification" else LinearRegression
        return kind().fit(data.features, data.target)
"""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(more="", kind="classification", model="", **modules)`` writes a recipe and returns its folder.

    ``more`` goes under ``[tool.mealkit]``, where ``PACKAGE`` stands for the package; ``model`` is added to its
    module ``model``, ``modules`` are further ones.
    """

    def write(more: str = "", kind: str = "classification", model: str = "", **modules: str) -> Path:
        # A new name each time: the tests must not depend on what another one imported.
        package = f"small_{next(_numbers)}"
        root = tmp_path / package
        (root / package).mkdir(parents=True)
        more = more.replace("PACKAGE", package)
        (root / "pyproject.toml").write_text(PYPROJECT.format(kind=kind, package=package, more=more))
        (root / package / "__init__.py").write_text("")
        (root / package / "model.py").write_text(MODEL + textwrap.dedent(model))
        for name, text in modules.items():
            (root / package / f"{name}.py").write_text(textwrap.dedent(text))
        return root

    return write
