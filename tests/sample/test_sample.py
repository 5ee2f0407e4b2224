"""The sample recipe as the workspace sees it: its own tests, its specification, its simulator's speed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mealkit.describe import describe_project
from mealkit.project import read_project

RECIPE = Path(__file__).parents[2] / "sample_recipe"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=RECIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_its_own_tests_pass_where_its_author_runs_them() -> None:
    done = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_its_specification_tells_a_platform_all_it_needs() -> None:
    spec = describe_project(read_project(RECIPE))
    assert (spec.name, spec.kind, spec.target) == ("purchase-propensity", "classification", "ordered")
    assert spec.keys == ("visitor_id", "session_id")
    rate = spec.hyperparameters["properties"]["learning_rate"]
    assert rate["default"] == 0.05
    assert rate["exclusiveMinimum"] == 0
    assert spec.metrics["log_loss"] == "minimize"
    assert spec.metrics["lift_at_10"] == "maximize"
    assert spec.input is not None
    assert spec.output is not None
    # The target is made from the events; no row of the input holds it.
    assert "ordered" not in spec.input["properties"]
    assert list(spec.output["properties"]) == ["visitor_id", "session_id", "probability"]


def test_its_simulator_needs_neither_scikit_learn_nor_mealkits_runtime(tmp_path: Path) -> None:
    code = (
        "import sys; [sys.modules.__setitem__(name, None) for name in ('sklearn', 'scipy', 'mealkit_runtime')]\n"
        f"from propensity.simulate import main; main(['--visitors', '20', '--output', {str(tmp_path / 'e.csv')!r}])"
    )
    done = run("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "e.csv").read_text().count("\n") > 100


def test_its_demo_has_about_ten_thousand_rows(tmp_path: Path) -> None:
    done = run("-m", "propensity.simulate", "--output", str(tmp_path / "events.csv"))
    assert done.returncode == 0, done.stderr
    assert 9_000 < (tmp_path / "events.csv").read_text().count("\n") < 12_000


@pytest.mark.slow
def test_its_simulator_makes_hundreds_of_thousands_of_rows_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPE))
    from propensity.simulate import simulate

    began = time.process_time()
    rows = len(simulate(50_000, seed=0).events)
    # A million on an idle machine; the bound leaves room for a busy one.
    assert rows / (time.process_time() - began) > 200_000
