"""What scoring takes where it grows: memory by rows, checks of the row schema, a commit to a Delta table, a cluster."""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import click

from .kitchen import Kitchen
from .timing import settle

STEP = 1_000_000
"""Rows of the file that the growing datasets are made of."""


def median(values: Iterable[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def growth(kitchen: Kitchen, largest: int) -> list[dict]:
    """Seconds and peak memory for datasets from 10⁶ rows up to ``largest``, each ten times the one before.

    A dataset is so many names (hard links) of one file of 10⁶ rows: it is read in full, and takes no room on the disk.
    """
    kitchen.data("step.parquet", STEP)
    found = []
    rows = STEP
    while rows <= largest:
        folder = kitchen.folder / "grown"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for number in range(rows // STEP):
            os.link(kitchen.folder / "step.parquet", folder / f"part-{number:05}.parquet")
        kitchen.clear()
        settle()
        timed = kitchen.run(kitchen.score(source="grown"))
        found.append({"rows": rows, "seconds": timed.seconds, "peak": timed.peak, "loop": _loop(timed.output)})
        click.echo(f"  {rows:13,} rows {timed.seconds:8.2f} s  {timed.peak >> 20:6,} MiB", err=True)
        rows *= 10
    shutil.rmtree(kitchen.folder / "grown")
    return found


def checks(kitchen: Kitchen, bare: Kitchen, repeats: int) -> dict:
    """Seconds of scoring with the row schema (types and ranges of all columns), and without one."""
    found: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(repeats):
        for name, one in (("with", kitchen), ("without", bare)):
            one.clear()
            settle()
            found[name].append(_loop(one.run(one.score()).output))
    return {name: median(seconds) for name, seconds in found.items()}


def delta(kitchen: Kitchen, repeats: int) -> dict:
    """Seconds of scoring a tiny dataset into a folder and into a Delta table; of all, and of the commit alone."""
    found: dict[str, list[float]] = {"folder": [], "delta": [], "folder_commit": [], "delta_commit": []}
    for _ in range(repeats):
        for name, output in (("folder", "scores"), ("delta", "delta:table")):
            if name == "folder":
                kitchen.clear()  # the table stays, and grows by a batch a round
            timed = kitchen.run(kitchen.score(source="tiny.parquet", output=output))
            found[name].append(timed.seconds)
            found[f"{name}_commit"].append(_result(timed.output)["seconds"]["commit"])
    return {name: median(seconds) for name, seconds in found.items()}


def cluster(kitchen: Kitchen, repeats: int) -> dict:
    """Seconds of scoring with a heavy model on a Dask cluster of one and of two workers, and here in one process."""
    found: dict[str, list[float]] = {"here": [], "1": [], "2": []}
    for _ in range(repeats):
        kitchen.clear()
        found["here"].append(_loop(kitchen.run(kitchen.score()).output))
    for workers in (1, 2):
        with _Cluster(kitchen, workers) as engine:
            # The first run has the workers load recipe and model, which is told apart.
            kitchen.clear()
            kitchen.run(kitchen.score("--engine", engine))
            for _ in range(repeats):
                kitchen.clear()
                timed = kitchen.run(kitchen.score("--engine", engine))
                found[str(workers)].append(_loop(timed.output))
    return {"rows": kitchen.rows, **{name: median(seconds) for name, seconds in found.items()}}


class _Cluster:
    """A scheduler and a node with some workers, on this machine."""

    def __init__(self, kitchen: Kitchen, workers: int) -> None:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            port, self._http = one.getsockname()[1], two.getsockname()[1]
        self.engine = f"dask://127.0.0.1:{port}"
        ports = ("--port", str(port), "--http-port", str(self._http))
        self._log = (kitchen.folder / "cluster.log").open("ab")
        self._processes = [
            subprocess.Popen(
                kitchen.mode(*arguments),
                cwd=kitchen.folder,
                env=kitchen.environment,
                stdout=self._log,
                stderr=self._log,
            )
            for arguments in (
                ("scheduler", "--host", "127.0.0.1", *ports),
                ("worker", "--engine", self.engine, "--workers", str(workers)),
            )
        ]
        self._workers = workers

    def __enter__(self) -> str:
        deadline = time.monotonic() + 60
        log = Path(self._log.name)
        while f"{self._workers} worker" not in log.read_text() or not self._healthy():
            if time.monotonic() > deadline:
                raise click.ClickException(f"the cluster does not come up:\n{log.read_text()}")
            time.sleep(0.1)
        return self.engine

    def __exit__(self, *error: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(20)
        self._log.close()
        Path(self._log.name).unlink()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def _result(output: str) -> dict:
    events = [json.loads(line) for line in output.splitlines() if line.startswith('{"event"')]
    return next(event["result"] for event in events if event["event"] == "result")


def _loop(output: str) -> float:
    """Seconds from the start of the stage ``score`` to its end."""
    events = [json.loads(line) for line in output.splitlines() if line.startswith('{"event": "stage"')]
    times = {event["status"]: float(event["time"]) for event in events if event["stage"] == "score"}
    return times["finished"] - times["started"]
