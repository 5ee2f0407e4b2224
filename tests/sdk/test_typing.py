"""What an author's editor knows: both type parameters reach the methods."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SNIPPET = """
import mealkit
from mealkit import Field

class Mine(mealkit.Hyperparameters):
    rate: float = Field(0.1, gt=0)

class Model:
    size: int = 3

class MyTrainer(mealkit.Trainer[Mine, Model]):
    def train(self, data: mealkit.Data, context: mealkit.Context[Mine]) -> Model:
        reveal_type(context.hyperparameters.rate)
        reveal_type(data.features)
        reveal_type(data.weights)
        return Model()

class MyLoader(mealkit.DataLoader[Mine]):
    keep_together = "id"

class MyScorer(mealkit.Scorer[Model]):
    pass

class MyEvaluator(mealkit.ClassificationEvaluator[Model]):
    pass

class Bare(mealkit.Trainer):
    def train(self, data, context):  # type: ignore[no-untyped-def]
        return 1

def use(context: mealkit.Context[Mine]) -> None:
    reveal_type(MyTrainer().load)
    reveal_type(MyLoader().prepare)
    reveal_type(MyScorer().score)
    reveal_type(MyEvaluator().evaluate)
    reveal_type(Mine.decode({}))
    reveal_type(context.checkpoint_dir)
"""


def test_an_editor_completes_both_type_parameters(tmp_path: Path) -> None:
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", os.devnull, str(file)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": ""},
    )
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert "error:" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    rate, features, weights, load, prepare, score, evaluate, decoded, folder = (
        re.sub(r"\b(builtins|snippet|pathlib|pandas\.core\.\w+|mealkit\.\w+)\.", "", text) for text in revealed
    )
    assert rate == "float"
    assert features == "DataFrame"
    assert weights.startswith("Series[Any] | None")
    assert load == "def (directory: Path) -> Model"
    assert "context: Context[Mine]" in prepare
    assert "model: Model" in score
    assert "model: Model" in evaluate
    assert decoded == "Mine"
    assert folder == "Path | None"
