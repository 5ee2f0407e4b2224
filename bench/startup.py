"""What the runtime costs in a container: scoring a tiny dataset beside merely importing the recipe's libraries."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .engine import Engine
from .timing import median, settle

_PYTHON = "/opt/mealkit/venv/bin/python"
_SAFE = ("--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
_SIMULATE = "from propensity.simulate import main; main(['--visitors', '{count}', '--seed', '1', '--output', '{file}'])"


@dataclass(frozen=True)
class Startup:
    """Median seconds of ``docker run``, container and all.

    Attributes:
        nothing: ``python -c pass``.
        imports: Importing the recipe's modules, and so its libraries.
        describe: ``describe``.
        score: ``score`` of a few rows: start, model, rows, and the batch on disk.
        repeats: How many runs of each.
        imported: From the start of ``docker run`` to the moment in which the recipe's modules are imported.
        ready: From the start of ``docker run score`` to the moment in which it begins to read and score.
    """

    nothing: float
    imports: float
    describe: float
    score: float
    repeats: int
    imported: float
    ready: float


def _score_started(output: str) -> float:
    """When the stage ``score`` began, by the run's own events: seconds since 1970."""
    events = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    return next(
        float(event["time"])
        for event in events
        if event["event"] == "stage" and event["stage"] == "score" and event["status"] == "started"
    )


def measure(engine: Engine, url: str, folder: Path, repeats: int) -> Startup:
    """Train a model in the image (not timed), then start containers in turn."""
    folder.mkdir()
    folder.chmod(0o777)  # the image's user is not ours
    mount = ("-v", f"{folder}:/data")
    python = ("--entrypoint", _PYTHON, url, "-I", "-c")
    for name, count in (("training.csv", 300), ("tiny.csv", 3)):
        code = _SIMULATE.format(count=count, file=f"/data/{name}")
        engine.docker("run", *_SAFE, *mount, *python, code)
    engine.docker("run", *_SAFE, *mount, url, "train", "--input", "/data/training.csv", "--model", "/data/model")
    score = (url, "score", "--input", "/data/tiny.csv", "--model", "/data/model", "--output")
    times: dict[str, list[float]] = {
        name: [] for name in ("nothing", "imports", "describe", "score", "imported", "ready")
    }
    settle()
    for number in range(repeats + 1):  # the first round fills the page cache
        commands: dict[str, Sequence[str]] = {
            "nothing": (*python, "pass"),
            "imports": (*python, "import propensity.model, propensity.data, time; print(time.time())"),
            "describe": (url, "describe"),
            "score": (*score, f"/data/scores-{number}"),
        }
        for name, command in commands.items():
            began = time.time()
            done = engine.timed(folder, True, "run", *_SAFE, *mount, *command)
            if number:
                times[name].append(done.seconds)
                if name == "imports":
                    times["imported"].append(float(done.output) - began)
                if name == "score":
                    times["ready"].append(_score_started(done.output) - began)
    engine.docker(
        "run", *_SAFE, *mount, *python, "import shutil; [shutil.rmtree(p) for p in __import__('glob').glob('/data/*/')]"
    )
    return Startup(**{name: median(values) for name, values in times.items()}, repeats=repeats)
