"""Timing: a command from its start to its end on the wall clock, with the memory it took at most."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

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
        # wait4 and not wait: it tells the peak of this process and of those that it waited for.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode(errors="replace")
        if process.returncode:
            err.seek(0)
            said = (output + err.read().decode(errors="replace"))[-_SHOWN:]
            raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return Timed(seconds, usage.ru_maxrss * 1024, output)


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
