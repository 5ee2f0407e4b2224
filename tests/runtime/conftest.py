"""Recipes, data and ways to run them that the runtime's tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mealkit.spec import RecipeSpec
from mealkit_runtime.command import main

sys.path.insert(0, str(Path(__file__).parent))

from churn_runs import RECIPES, Outcome, Runner, make_events, spec_of, write
from event_check import check_event, check_stream


@pytest.fixture(scope="session")
def churn() -> RecipeSpec:
    return spec_of("churn")


@pytest.fixture(scope="session")
def rent() -> RecipeSpec:
    return spec_of("rent")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("churn", "rent", "steps", "noisy"):
        monkeypatch.syspath_prepend(str(RECIPES / name))


@pytest.fixture
def run(churn: RecipeSpec, capsys: pytest.CaptureFixture[str]) -> Runner:
    """Run a mode of the churn recipe (or another) in this process."""

    def runner(*argv: object, spec: RecipeSpec = churn, environment: dict[str, str] | None = None) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(item) for item in argv], spec=spec, environment=environment or {}, prog="mealkit")
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        if out.startswith('{"event"'):
            check_stream(out)
        return Outcome(code, out, err)

    return runner


class Started(subprocess.Popen[str]):
    """A run in a process of its own; every event that a test reads of it is checked against the schema."""

    def communicate(self, *arguments: Any, **options: Any) -> tuple[str, str]:
        out, err = super().communicate(*arguments, **options)
        for line in (out or "").splitlines():
            if line.startswith('{"event"') and line.endswith("}"):  # a test may have read, or cut, the first one
                check_event(line)
        return out, err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a mode of the churn recipe, or of another, as an image does, as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def starter(
        *argv: object, prefix: tuple[str, ...] = (), recipe: str = "churn", **options: Any
    ) -> subprocess.Popen[str]:
        file = tmp_path / ("recipe.json" if recipe == "churn" else f"{recipe}.json")
        file.write_text(spec_of(recipe).to_json())
        environment = {**os.environ, "MEALKIT_RECIPE": str(file), "PYTHONPATH": str(RECIPES / recipe)}
        environment.update(options.pop("environment", {}))
        process = Started(
            [*prefix, sys.executable, "-m", "mealkit_runtime", *map(str, argv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )
        started.append(process)
        return process

    yield starter
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``events.csv``, ``new.parquet`` (without the target) and ``plans.csv``."""
    folder = tmp_path_factory.mktemp("data")
    write(make_events(), folder / "events.csv")
    write(make_events(seed=1).drop(columns="left"), folder / "new.parquet")
    write(pd.DataFrame({"plan": ["basic", "gold"], "price": [10, 25.5]}), folder / "plans.csv")
    return folder


@pytest.fixture(scope="session")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model of the churn recipe; copy it before you change it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    sys.path.insert(0, str(RECIPES / "churn"))
    code = main(
        ["train", "--input", f"{data}/events.csv", "--input", f"plans={data}/plans.csv", "--model", str(folder)],
        spec=spec_of("churn"),
        environment={"MEALKIT_LOG_FORMAT": "json"},
    )
    assert code == 0
    return folder


@pytest.fixture
def common(data: Path) -> tuple[str, ...]:
    """The look-up table, which every run of the churn recipe needs."""
    return ("--input", f"plans={data}/plans.csv")
