"""A Dask cluster on this machine: a scheduler and a worker node of a recipe, each a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from churn_runs import RECIPES, spec_of

SECRET = "s3cret-of-the-node"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def children(pid: int) -> list[int]:
    """The processes that a process has started and that work for a cluster."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in command:
                found.append(int(child))
    return found


class Nodes:
    """A scheduler and one node with some workers.

    Attributes:
        engine: What ``--engine`` takes.
    """

    def __init__(self, folder: Path, recipe: str, workers: int, scheme: str = "dask") -> None:
        self.folder = folder
        self.port = free_port()
        self.http = free_port()
        self.engine = f"{scheme}://127.0.0.1:{self.port}"
        file = folder / f"{recipe}.json"
        file.write_text(spec_of(recipe).to_json())
        self.environment = {
            **os.environ, "MEALKIT_RECIPE": str(file), "PYTHONPATH": str(RECIPES / recipe),
            "GROVE_SECRET_TOKEN": SECRET,
        }  # fmt: skip
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", self.port, "--http-port", self.http)
        self.node = self.start("worker", "--engine", self.engine, "--workers", workers)
        self.told("worker", "joined")

    def start(self, mode: str, *arguments: object) -> subprocess.Popen[bytes]:
        """A node; what it tells goes to a file."""
        with (self.folder / f"{mode}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "mealkit_runtime", mode, *map(str, arguments)],
                stdout=log, stderr=log, env=self.environment,
            )  # fmt: skip

    def told(self, mode: str, text: str = "", within: float = 240) -> str:
        """What a node has told; waits until ``text`` is in it."""
        deadline = time.monotonic() + within
        while text not in (so_far := (self.folder / f"{mode}.log").read_text()):
            assert time.monotonic() < deadline, so_far
            time.sleep(0.05)
        return so_far

    def workers(self) -> list[int]:
        """The worker processes."""
        return children(self.node.pid)

    def kill_a_worker(self) -> None:
        """As the kernel does when memory is short; the node starts another."""
        os.kill(self.workers()[0], signal.SIGKILL)

    def close(self) -> None:
        """End all of them."""
        for process in (self.node, self.scheduler):
            process.terminate()
        for process in (self.node, self.scheduler):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
