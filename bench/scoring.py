"""``python -m bench.scoring``: rows a second of ``score``, beside loops that one would write by hand.

All sides read the same Parquet file, and write the same columns (key, prediction, probability) of the same model with
the same values. Each run is a process of its own, timed from its start to its end: imports, model and all.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from .timing import Timed, run, settle

ROWS = 1_000_000
FEATURES = 8
_WHERE = Path("/var/tmp")  # a real disk: /tmp may be memory

_PROJECT = """\
[project]
name = "light"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["scikit-learn>=1.5", "pandas>=2.2"]

[tool.mealkit]
kind = "classification"
input = "light_rows:Visit"
output = "light_rows:Score"
target = "ordered"
keys = ["visitor"]
trainer = "light:LightTrainer"
"""

_ROWS = """\
import mealkit

Visit = type("Visit", (mealkit.Row,), {{"__module__": __name__, "__annotations__": {{
    "visitor": int, **{{f"f{{number}}": float for number in range({features})}}, "ordered": int,
}}}})


class Score(mealkit.Row):
    visitor: int
    prediction: int
    probability: float = mealkit.Field(ge=0, le=1)
"""

_RECIPE = """\
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mealkit


class LightTrainer(mealkit.Trainer):
    def train(self, data, context):
        return make_pipeline(StandardScaler(), LogisticRegression()).fit(data.features, data.target)
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
    writer.write_table(table, row_group_size=250_000)
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


@click.command()
@click.option("--rows", default=ROWS, show_default=True, help="Rows to score.")
@click.option("--repeats", default=3, show_default=True, help="Rounds of all sides; medians are shown.")
@click.option("--batch-rows", default=100_000, show_default=True, help="Rows at once, ours and the loop's.")
@click.option("--workers", default="1,2", show_default=True, help="Numbers of worker processes to take.")
@click.option("--mlflow/--no-mlflow", default=False, help="Also mlflow's pyfunc, in a virtual environment made for it.")
@click.option("--pandas/--no-pandas", "with_pandas", default=True, help="Also read, predict and write with pandas.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was measured to this file.")
def main(
    rows: int, repeats: int, batch_rows: int, workers: str, mlflow: bool, with_pandas: bool, json_file: Path | None
) -> None:
    """Score the same rows with mealkit, a pyarrow + scikit-learn loop, pandas, and mlflow; in turn, and compare."""
    with tempfile.TemporaryDirectory(prefix="mealkit-scoring-", dir=_WHERE) as name:
        kitchen = Kitchen(Path(name), rows, batch_rows)
        sides: dict[str, Sequence[str]] = {"loop": kitchen.loop()}
        sides |= {f"mealkit, {number} workers": kitchen.score(number) for number in workers.split(",") if number}
        if with_pandas:
            sides["pandas"] = kitchen.script(_PANDAS)
        if mlflow:
            sides["mlflow"] = kitchen.mlflow()
        found: dict[str, list[Timed]] = {side: [] for side in sides}
        imports, ready = [], []
        for number in range(repeats):
            click.secho(f"round {number + 1} of {repeats}", bold=True, err=True)
            for side, command in sides.items():
                kitchen.clear()
                settle()
                timed = kitchen.run(command)
                found[side].append(timed)
                click.echo(f"  {side:<22} {timed.seconds:7.2f} s  {timed.peak >> 20:6,} MiB", err=True)
            imports.append(kitchen.imports())
            ready.append(kitchen.first_row())
        report = {
            "rows": rows,
            "batch_rows": batch_rows,
            "repeats": repeats,
            "imports": statistics.median(imports),
            "first_row": statistics.median(ready),
            "sides": {
                side: {
                    "seconds": statistics.median(timed.seconds for timed in times),
                    "peak": statistics.median(timed.peak for timed in times),
                }
                for side, times in found.items()
            },
        }
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    click.echo(render(report))


class Kitchen:
    """Recipe, model and data in a folder, and the commands of each side."""

    def __init__(self, folder: Path, rows: int, batch_rows: int) -> None:
        self.folder = folder
        self.rows = rows
        self.batch_rows = batch_rows
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "MEALKIT_RECIPE": str(folder / "recipe.json")}
        (folder / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
        (folder / "light.py").write_text(_RECIPE, encoding="utf-8")
        (folder / "light_rows.py").write_text(_ROWS.format(features=FEATURES), encoding="utf-8")
        describe = "import sys; from mealkit.describe import describe_project as d; from mealkit.project import "
        describe += "read_project as r; from pathlib import Path; print(d(r(Path(sys.argv[1]))).to_json())"
        spec = self.run(self._python("-c", describe, str(folder))).output
        (folder / "recipe.json").write_text(spec, encoding="utf-8")
        click.secho("data and model", bold=True, err=True)
        self._data("training.parquet", 50_000, "target")
        self._data("new.parquet", rows, "none")
        self._data("tiny.parquet", 10, "none")
        self.run(self._mode("train", "--input", "training.parquet", "--model", "model"))
        saved = next((folder / "model" / "artifact").glob("*.skops"))
        self.run(self._python("-c", _MODEL, str(saved), "model.joblib"))

    def clear(self) -> None:
        """Remove what the last run wrote."""
        shutil.rmtree(self.folder / "scores", ignore_errors=True)
        (self.folder / "out.parquet").unlink(missing_ok=True)

    def run(self, command: Sequence[str]) -> Timed:
        """Run a command in the folder."""
        return run(command, self.environment, self.folder)

    def score(self, workers: str, source: str = "new.parquet") -> Sequence[str]:
        """The command that scores with mealkit."""
        return self._mode(
            "score", "--input", source, "--model", "model", "--output", "scores", "--workers", workers, "--batch-rows",
            str(self.batch_rows),
        )  # fmt: skip

    def loop(self) -> Sequence[str]:
        """The command that scores with the loop."""
        return self._python("-c", _LOOP, "new.parquet", "model.joblib", "out.parquet", str(self.batch_rows))

    def script(self, code: str, model: str = "model.joblib") -> Sequence[str]:
        """The command that scores with a script of its own."""
        return self._python("-c", code, "new.parquet", model, "out.parquet")

    def mlflow(self) -> Sequence[str]:
        """The command that scores with mlflow's pyfunc, in a virtual environment of its own."""
        click.secho("mlflow", bold=True, err=True)
        venv = self.folder / "venv"
        self.run(self._python("-m", "venv", str(venv)))
        wanted = [f"{name}=={_version(name)}" for name in ("scikit-learn", "pandas", "pyarrow", "numpy", "joblib")]
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
        output = self.run(self.score("1", "tiny.parquet")).output
        events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return next(float(event["time"]) for event in events if event["event"] == "progress") - began

    def _data(self, name: str, rows: int, what: str) -> None:
        subprocess.run([sys.executable, "-c", _DATA, self.folder / name, str(rows), str(FEATURES), what], check=True)

    def _mode(self, *arguments: str) -> Sequence[str]:
        return self._python("-m", "mealkit_runtime", *arguments)

    def _python(self, *arguments: str) -> Sequence[str]:
        return [sys.executable, *arguments]


def _version(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)


def render(report: dict) -> str:
    """The figures as text."""
    rows, sides = report["rows"], report["sides"]
    loop = sides["loop"]["seconds"]
    lines = [
        f"{rows:,} rows, {FEATURES} features, batches of {report['batch_rows']:,}; medians of {report['repeats']}",
        "",
        f"  {'':<22} {'seconds':>8} {'rows/s':>12} {'of the loop':>12} {'peak MiB':>9}",
    ]
    for side, found in sides.items():
        rate = rows / found["seconds"]
        lines.append(
            f"  {side:<22} {found['seconds']:8.2f} {rate:12,.0f} {loop / found['seconds']:11.2f}x "
            f"{found['peak'] / 2**20:9,.0f}"
        )
    ratio = report["first_row"] / report["imports"]
    start = f"libraries imported {report['imports']:.2f} s, first row scored {report['first_row']:.2f} s: {ratio:.2f}x"
    lines += ["", f"  {start}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
