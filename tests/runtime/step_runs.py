"""Runs of the recipe ``steps``, which trains in steps."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from churn_runs import RECIPES, spec_of

STEPS = spec_of("steps")
JSON = ("--log-format", "json")


def make_cases(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    """Cases of two classes that four features tell apart, more or less."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(random.normal(size=(rows, 4)), columns=list("abcd"))
    frame["y"] = (frame["a"] - frame["b"] + random.normal(size=rows) > 0).astype(int)
    return frame.assign(id=range(rows))


def artifact(model: Path) -> dict[str, Any]:
    """The files of a model with their digests."""
    found: dict[str, Any] = json.loads((model / "model.json").read_text())["files"]
    return found


def facts(model: Path) -> dict[str, Any]:
    """The content of ``model.json``."""
    found: dict[str, Any] = json.loads((model / "model.json").read_text())
    return found


@contextlib.contextmanager
def begun(folder: Path, *argv: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A run of the recipe in a process of its own, as an image does; it is killed after the block."""
    file = folder / "recipe.json"
    file.write_text(STEPS.to_json())
    path = {"MEALKIT_RECIPE": str(file), "PYTHONPATH": str(RECIPES / "steps")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mealkit_runtime", *map(str, argv), *JSON],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **path, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read events until one has ``text``."""
    assert process.stdout is not None
    assert any(text in line for line in process.stdout), f"the run ended before {text!r}"
