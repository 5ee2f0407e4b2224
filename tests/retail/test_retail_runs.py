"""The retail recipe by the real runtime, from files: the same figures and forecasts as in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sales import FOLDER, MISSING, RECIPE, by_store, sales

import mealkit.testing

pytestmark = [pytest.mark.skipif(MISSING is not None, reason=MISSING or ""), pytest.mark.slow]


def run(folder: Path, mode: str, *arguments: str, status: int = 0) -> dict[str, Any]:
    """The result of ``mealkit MODE …`` in the recipe's folder."""
    result = folder / f"{mode}.json"
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mealkit")), mode, *arguments, "--result", str(result)],
        cwd=RECIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def test_files_give_what_memory_gives(tmp_path: Path) -> None:
    trial = mealkit.testing.try_recipe(RECIPE, sales(), seed=1234)
    model, scores = tmp_path / "model", tmp_path / "scores"
    published = str(FOLDER / "retail.csv")
    trained = run(tmp_path, "train", "--input", published, "--model", str(model), "--seed", "1234")
    values = {metric["name"]: metric["value"] for metric in trained["metrics"]["metrics"]}
    assert values == {metric.name: metric.value for metric in trial.metrics}

    # In batches, the weeks of a store must stand together; the published file is by date, and says so.
    options = ("--model", str(model), "--output", str(scores), "--group", "sorted")
    refused = run(tmp_path, "score", "--input", published, *options, status=3)["error"]
    assert "do not stand together" in refused["message"]
    assert "sort the dataset by store" in refused["hint"]
    assert not list(scores.rglob("*.parquet"))

    by_store(sales()).to_csv(tmp_path / "by_store.csv", index=False)
    options = ("--model", str(model), "--output", str(scores), "--batch-rows", "1000")
    run(tmp_path, "score", "--input", str(tmp_path / "by_store.csv"), *options)
    written = pd.concat(pd.read_parquet(file) for file in sorted(scores.rglob("*.parquet")))
    order = ["store", "date"]
    pd.testing.assert_frame_equal(
        written.sort_values(order, ignore_index=True)[["date", "store", "prediction"]],
        trial.scores.sort_values(order, ignore_index=True),
        check_exact=True,
    )
