"""A process that has imported everything and only forks: each child is a real run, or a look at what a run left.

Run as a program; it takes orders as lines of JSON, and answers in lines. A run stops itself (SIGSTOP) before its first
step, until whoever ordered it lets it go on: so strace can be attached, and its time be measured, from the start.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

ALL = ("optuna", "matplotlib.figure", "matplotlib.backends.backend_svg", "mealkit_runtime.report")
"""What few runs import; with ``--few`` these import it themselves."""

WARM = (
    "pandas", "pyarrow.dataset", "pyarrow.parquet", "pyarrow.csv", "pyarrow.fs", "sklearn.linear_model",
    "sklearn.ensemble", "sklearn.pipeline", "sklearn.metrics", "sklearn.model_selection", "skops.io", "joblib",
    "deltalake", "obstore.store",
    "mealkit_runtime.train", "mealkit_runtime.trials", "mealkit_runtime.trial_worker", "mealkit_runtime.evaluate",
    "mealkit_runtime.score", "mealkit_runtime.batches", "mealkit_runtime.crew", "mealkit_runtime.worker",
    "mealkit_runtime.delta_batch", "mealkit_runtime.commit_log", "mealkit_runtime.cloud_shelf",
    "mealkit_runtime.shard_source", "mealkit_runtime.grouping", "mealkit_runtime.command",
)  # fmt: skip
"""What runs import, and no recipe of ours; none of it begins a thread that a fork would lack."""


class _Same:
    """Names for temporary files that are the same in every run, so that a boundary is known by its path."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> _Same:
        return self

    def __next__(self) -> str:
        self.count += 1
        return f"{self.count:08}"


def _settle(order: dict[str, Any]) -> None:
    """Become as a process that was just started: its own session, output, environment and folder."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:0] = order["path"]
    tempfile.tempdir = order["environment"]["TMPDIR"]  # Python finds it by writing a file there, of which no one knows
    random.seed()
    if order["same_names"]:
        import secrets

        tempfile._name_sequence = _Same()  # type: ignore[assignment]
        numbers = _Same()
        secrets.token_hex = lambda size=None: next(numbers)  # type: ignore[assignment]


def _run(order: dict[str, Any]) -> None:
    _settle(order)
    # As `python -m mealkit_runtime`: what multiprocessing starts anew imports this module.
    sys.modules["__main__"] = importlib.import_module("mealkit_runtime.__main__")
    from mealkit_runtime.command import main

    os.kill(os.getpid(), signal.SIGSTOP)
    sys.exit(main(order["argv"]))


def _look(order: dict[str, Any]) -> None:
    _settle(order)
    look = importlib.import_module("kills.reader")
    answer = getattr(look, order["look"])(*order["given"])
    Path(order["out"]).write_text(json.dumps(answer, default=str))
    os._exit(0)


def _child(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if "look" in order:
            _look(order)
        _run(order)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        os._exit(99)
    os._exit(98)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    for name in WARM if "--few" in sys.argv else (*WARM, *ALL):
        importlib.import_module(name)
    importlib.import_module("kills.reader")
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    answers.write("ready\n")
    answers.flush()
    for line in orders:
        pid = _child(json.loads(line))
        answers.write(f"{pid}\n")
        answers.flush()
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


if __name__ == "__main__":
    main()
