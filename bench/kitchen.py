"""What the benchmarks of scoring work with: a recipe, its data and model, and the commands of all sides.

All sides read the same Parquet file, and write the same columns (key, prediction, probability) of the same model with
the same values. Each run is a process of its own, timed from its start to its end: imports, model and all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from .timing import Timed, run

FEATURES = 8
_PROJECT = """\
[project]
name = "light"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["scikit-learn>=1.5", "pandas>=2.2"]

[tool.mealkit]
kind = "classification"
hyperparameters = "light_rows:Hyperparameters"
{input}
output = "light_rows:Score"
target = "ordered"
keys = ["visitor"]
trainer = "light:LightTrainer"
"""

_ROWS = """\
import mealkit


class Hyperparameters(mealkit.Hyperparameters):
    trees: int = 0


Visit = type("Visit", (mealkit.Row,), {{
    "__module__": __name__,
    "__annotations__": {{
        "visitor": int, **{{f"f{{number}}": float for number in range({features})}}, "ordered": int,
    }},
    "visitor": mealkit.Field(ge=0),
    **{{f"f{{number}}": mealkit.Field(ge=-1000, le=1000) for number in range({features})}},
}})


class Score(mealkit.Row):
    visitor: int
    prediction: int
    probability: float = mealkit.Field(ge=0, le=1)
"""

_RECIPE = """\
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mealkit


class LightTrainer(mealkit.Trainer):
    def train(self, data, context):
        trees = context.hyperparameters.trees
        model = RandomForestClassifier(trees, random_state=context.seed, n_jobs=1) if trees else LogisticRegression()
        return make_pipeline(StandardScaler(), model).fit(data.features, data.target)
"""

_DATA = """\
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
file, rows, features, target = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "target"
random, step, start = np.random.default_rng(1), 1_000_000, 0
writer = None
while start < rows:
    count = min(step, rows - start)
    values = {f"f{number}": random.normal(number, 1 + number, count).round(4) for number in range(features)}
    columns = {"visitor": np.arange(start, start + count), **values}
    if target:
        chance = 1 / (1 + np.exp(-sum((value - number) / (1 + number) for number, value in enumerate(values.values()))))
        columns["ordered"] = (random.random(count) < chance).astype(int)
    table = pa.table(columns)
    writer = writer or pq.ParquetWriter(file, table.schema)
    writer.write_table(table, row_group_size=int(sys.argv[5]))
    start += count
writer.close()
"""

_MODEL = """\
import sys, skops.io, joblib
names = skops.io.get_untrusted_types(file=sys.argv[1])
joblib.dump(skops.io.load(sys.argv[1], trusted=names), sys.argv[2])
"""

_LOOP = """\
import sys
import joblib, pyarrow as pa, pyarrow.parquet as pq
source, model_file, target, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
model = joblib.load(model_file)
schema = pa.schema([("visitor", pa.int64()), ("prediction", pa.int64()), ("probability", pa.float64())])
with pq.ParquetFile(source) as file, pq.ParquetWriter(target, schema) as writer:
    for batch in file.iter_batches(batch_size=rows):
        frame = batch.to_pandas()
        features = frame.drop(columns="visitor")
        predicted, probability = model.predict(features), model.predict_proba(features)[:, 1]
        writer.write_table(pa.table({"visitor": batch["visitor"], "prediction": predicted, "probability": probability}))
"""

_PANDAS = """\
import sys
import joblib, pandas as pd
source, model_file, target = sys.argv[1:4]
model = joblib.load(model_file)
frame = pd.read_parquet(source)
features = frame.drop(columns="visitor")
frame = frame[["visitor"]].assign(prediction=model.predict(features), probability=model.predict_proba(features)[:, 1])
frame.to_parquet(target, index=False)
"""

_MLFLOW_SAVE = """\
import sys, joblib, mlflow.sklearn
mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], pyfunc_predict_fn="predict_proba")
"""

_MLFLOW = """\
import sys
import mlflow.pyfunc, pandas as pd
source, model_file, target = sys.argv[1:4]
model = mlflow.pyfunc.load_model(model_file)
frame = pd.read_parquet(source)
probability = model.predict(frame.drop(columns="visitor"))[:, 1]
frame = frame[["visitor"]].assign(prediction=(probability > 0.5).astype(int), probability=probability)
frame.to_parquet(target, index=False)
"""

_IMPORTS = "import light, light_rows, pandas, pyarrow.parquet, time; print(time.time())"


class Kitchen:
    """Recipe, model and data in a folder, and the commands of each side."""

    def __init__(
        self, folder: Path, rows: int, batch_rows: int, *, schema: bool = True, trees: int = 0, group: int = 250_000
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.rows = rows
        self.group = group
        self.batch_rows = batch_rows
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "MEALKIT_RECIPE": str(folder / "recipe.json")}
        declared = 'input = "light_rows:Visit"' if schema else ""
        (folder / "pyproject.toml").write_text(_PROJECT.format(input=declared), encoding="utf-8")
        (folder / "light.py").write_text(_RECIPE, encoding="utf-8")
        (folder / "light_rows.py").write_text(_ROWS.format(features=FEATURES), encoding="utf-8")
        describe = "import sys; from mealkit.describe import describe_project as d; from mealkit.project import "
        describe += "read_project as r; from pathlib import Path; print(d(r(Path(sys.argv[1]))).to_json())"
        spec = self.run(self._python("-c", describe, str(folder))).output
        (folder / "recipe.json").write_text(spec, encoding="utf-8")
        click.secho(f"data and model, {rows:,} rows", bold=True, err=True)
        self.data("training.parquet", 50_000, "target")
        self.data("new.parquet", rows)
        self.data("tiny.parquet", 10)
        self.run(self.mode("train", "--input", "training.parquet", "--model", "model", "--set", f"trees={trees}"))
        saved = next((folder / "model" / "artifact").glob("*.skops"))
        self.run(self._python("-c", _MODEL, str(saved), "model.joblib"))

    def clear(self) -> None:
        """Remove what the last run wrote."""
        shutil.rmtree(self.folder / "scores", ignore_errors=True)
        shutil.rmtree(self.folder / "table", ignore_errors=True)
        (self.folder / "out.parquet").unlink(missing_ok=True)

    def run(self, command: Sequence[str]) -> Timed:
        """Run a command in the folder."""
        return run(command, self.environment, self.folder)

    def score(self, *more: str, source: str = "new.parquet", output: str = "scores") -> Sequence[str]:
        """The command that scores with mealkit."""
        return self.mode(
            "score",
            "--input",
            source,
            "--model",
            "model",
            "--output",
            output,
            "--batch-rows",
            str(self.batch_rows),
            *more,
        )

    def loop(self) -> Sequence[str]:
        """The command that scores with the loop."""
        return self._python("-c", _LOOP, "new.parquet", "model.joblib", "out.parquet", str(self.batch_rows))

    def pandas(self) -> Sequence[str]:
        """The command that reads, predicts and writes with pandas."""
        return self._python("-c", _PANDAS, "new.parquet", "model.joblib", "out.parquet")

    def mlflow(self) -> Sequence[str]:
        """The command that scores with mlflow's pyfunc, in a virtual environment of its own."""
        click.secho("mlflow", bold=True, err=True)
        venv = self.folder / "venv"
        self.run(self._python("-m", "venv", str(venv)))
        wanted = [
            f"{name}=={_version(name)}" for name in ("scikit-learn", "pandas", "pyarrow", "numpy", "joblib", "skops")
        ]
        python = str(venv / "bin/python")
        self.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "mlflow-skinny", *wanted])
        self.run([python, "-c", _MLFLOW_SAVE, "model.joblib", "mlflow-model"])
        return [python, "-c", _MLFLOW, "new.parquet", "mlflow-model", "out.parquet"]

    def imports(self) -> float:
        """Seconds from the start of a process to the moment in which the recipe's libraries are imported."""
        import time

        began = time.time()
        return float(self.run(self._python("-c", _IMPORTS)).output) - began

    def first_row(self) -> float:
        """Seconds from the start of ``score`` to the moment in which the first batch is scored."""
        import time

        self.clear()
        began = time.time()
        output = self.run(self.score(source="tiny.parquet")).output
        events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return next(float(event["time"]) for event in events if event["event"] == "progress") - began

    def data(self, name: str, rows: int, what: str = "none") -> None:
        """Make a Parquet file of so many rows, with the target or without."""
        command = self._python("-c", _DATA, name, str(rows), str(FEATURES), what, str(self.group))
        subprocess.run(command, cwd=self.folder, check=True)

    def mode(self, *arguments: str) -> Sequence[str]:
        """The command that runs a mode of mealkit."""
        return self._python("-m", "mealkit_runtime", *arguments)

    def _python(self, *arguments: str) -> Sequence[str]:
        return [sys.executable, *arguments]


def _version(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)
