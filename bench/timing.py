"""Timing: a command from its start to its end on the wall clock, with the memory it took at most."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

_WATCH_SECONDS = 0.05
_SHOWN = 3000  # characters of a failed command's output


@dataclass(frozen=True)
class Timed:
    """A command that has run.

    Attributes:
        seconds: From before its process was started until it was gone.
        peak: Resident bytes of its largest process.
        output: What it wrote to standard output.
    """

    seconds: float
    peak: int
    output: str

    def __add__(self, other: Timed) -> Timed:
        """One after the other."""
        return Timed(self.seconds + other.seconds, max(self.peak, other.peak), self.output + other.output)


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Timed:
    """Run a command; output goes to files, so that nobody has to read while it runs.

    Raises:
        ClickException: it failed; the message ends with what it said.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        ours = _most(os.getpid())
        watched = _Watched(process.pid)
        # wait4 and not wait: it tells the peak of this process and of those that it waited for.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        # Linux counts what the process was before it became another program: a copy of this one.
        peak = usage.ru_maxrss * 1024
        watched.end()
        peak = peak if peak > ours else watched.peak
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode(errors="replace")
        if process.returncode:
            err.seek(0)
            said = (output + err.read().decode(errors="replace"))[-_SHOWN:]
            raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return Timed(seconds, peak, output)


class _Watched:
    """The peak of a process, asked for some times a second."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop asking."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            self.peak = max(self.peak, _most(self._pid))


def _most(pid: int) -> int:
    """The most resident bytes that a running process has had since it began its program; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def median(values: Sequence[float]) -> float:
    """The middle of the values."""
    return statistics.median(values)


def settle() -> float:
    """Write out what earlier commands left in the page cache, for the next one shall not pay for it.

    Returns:
        The load average of the last minute.
    """
    os.sync()
    return os.getloadavg()[0]
