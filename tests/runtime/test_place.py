"""Start, memory and surroundings: what a container gives a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from churn_runs import RECIPES, spec_of, write

from mealkit_runtime.place import settled

JSON = ("--log-format", "json")


def test_describe_imports_nothing_heavy(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(spec_of("churn").to_json())
    code = (
        "import sys; from mealkit_runtime.command import main; main(['describe']);"
        "print([m for m in ('pandas', 'numpy', 'pyarrow', 'sklearn', 'churn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MEALKIT_RECIPE": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_settings_are_checked_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(spec_of("churn").to_json())
    code = (
        "import sys; from mealkit_runtime.command import main;"
        "code = main(['train', '--input', 'x.csv', '--input', 'plans=y.csv', '--model', 'm', '--set', 'c=-1']);"
        "print(code, [m for m in ('pandas', 'numpy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MEALKIT_RECIPE": str(file), "PYTHONPATH": str(RECIPES / "churn")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "2 []"


def test_a_home_for_those_who_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for environment in ({}, {"HOME": "/"}, {"HOME": "/nonexistent"}):
        surroundings = dict(environment)
        left = tmp_path / "mealkit-home-of-a-killed-run"
        left.mkdir()
        with settled(surroundings) as home, settled(dict(environment)) as another:
            assert home is not None
            assert surroundings["HOME"] == str(home)
            assert home.is_dir(), "another run does not remove the living one's"
            assert another is not None
            assert not left.exists()
        assert list(tmp_path.iterdir()) == []
    surroundings = {"HOME": str(tmp_path)}
    with settled(surroundings) as home:
        assert home is None
    assert surroundings["HOME"] == str(tmp_path)


def stream(rows: int, folder: Path) -> tuple[Path, Path]:
    """A dataset of ``rows`` rows, written in pieces, and its look-up table."""
    schema = pa.schema(
        [
            ("customer", pa.string()), ("day", pa.timestamp("us")), ("kind", pa.string()), ("amount", pa.float64()),
            ("items", pa.int64()), ("plan", pa.string()),
        ]
    )  # fmt: skip
    path = folder / f"{rows}.parquet"
    random = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 100_000):
            who = np.arange(start, start + 100_000) // 5
            frame = {
                "customer": np.char.add("c", who.astype(str)),
                "day": np.full(100_000, np.datetime64("2026-01-01", "us")),
                "kind": random.choice(["call", "visit", "complaint"], 100_000),
                "amount": random.random(100_000),
                "items": random.integers(0, 9, 100_000),
                "plan": random.choice(["basic", "gold"], 100_000),
            }
            writer.write_table(pa.table(frame, schema))
    plans = write(pd.DataFrame({"plan": ["basic", "gold"], "price": [10, 25.5]}), folder / "plans.csv")
    return path, plans


PEAK = """
import sys
from mealkit_runtime.command import main
code = main(sys.argv[1:])
# Not ru_maxrss, which begins with what the process that forked this one had.
print(code, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


@pytest.mark.slow
def test_memory_is_bounded_by_the_batch(model: Path, tmp_path: Path) -> None:
    spec = tmp_path / "recipe.json"
    spec.write_text(spec_of("churn").to_json())
    peaks = []
    for rows in (200_000, 2_000_000):
        source, plans = stream(rows, tmp_path)
        done = subprocess.run(
            [
                sys.executable, "-c", PEAK, "score", "--input", str(source), "--input", f"plans={plans}", "--model",
                str(model), "--output", str(tmp_path / f"out{rows}"), *JSON, "--batch-rows", "50000",
            ],
            env={**os.environ, "MEALKIT_RECIPE": str(spec), "PYTHONPATH": str(RECIPES / "churn")},
            capture_output=True, text=True, check=True, timeout=280,
        )  # fmt: skip
        code, peak = done.stdout.splitlines()[-1].split()
        assert code == "0", done.stderr
        assert json.loads(done.stdout.splitlines()[-2])["result"]["rows_read"] == rows
        peaks.append(int(peak) / 1024)
        source.unlink()
    print(f"peak MiB: {peaks}")
    assert peaks[1] < peaks[0] * 1.2
