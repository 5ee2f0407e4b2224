"""Starts runs, warm (forked from a zygote) or cold (``python -m mealkit_runtime``), and looks at what they left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import alive, everyone, gone, session, state

LONG = 120.0
"""Seconds after which anything here is taken to hang, on a busy machine too."""


@dataclass(frozen=True)
class Order:
    """A run to be started.

    Attributes:
        argv: As on the command line.
        folder: Where it runs.
        environment: All of its environment.
        path: Joins ``sys.path``: the recipe's code.
    """

    argv: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    path: tuple[str, ...]


@dataclass
class Ended:
    """How a run ended; ``code`` is negative when a signal did it."""

    code: int
    seconds: float
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The last event."""
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])["result"]
        return found


@dataclass
class Running:
    """A run that has not taken its first step yet, or is under way."""

    pid: int
    begun: float = field(default_factory=time.monotonic)

    def go(self) -> None:
        """Let it run."""
        self.begun = time.monotonic()
        os.kill(self.pid, signal.SIGCONT)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; it may be over already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Launcher:
    """One zygote, and the files in which its children's output is kept.

    Args:
        folder: Of its own.
        few: Import no more than most runs need.
    """

    def __init__(self, folder: Path, *, few: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._zygote = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("zygote.py")), *(["--few"] if few else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(folder), "MPLBACKEND": "svg"},
        )
        assert self._line() == "ready"

    def close(self) -> None:
        """End the zygote."""
        self._zygote.kill()
        self._zygote.communicate()

    @contextlib.contextmanager
    def warm(self, order: Order, *, same_names: bool = False) -> Iterator[tuple[Running, Ended]]:
        """A run that waits for :meth:`Running.go`; after the block it is over, and ``Ended`` is filled in."""
        told = {
            "argv": order.argv, "folder": str(order.folder), "environment": dict(order.environment),
            "path": order.path, "same_names": same_names,
        }  # fmt: skip
        running = Running(self._ask(told))
        ended = Ended(0, 0.0, "", "")
        _until(lambda: state(running.pid) in "Tt", "the run stops itself")
        try:
            yield running, ended
        except BaseException:
            running.kill()
            raise
        finally:
            ended.code = int(self._line())
            ended.seconds = time.monotonic() - running.begun
            ended.out, ended.err = self._texts()
        assert outlived(running.pid) == [], f"processes that outlived the run {order.argv}"

    @contextlib.contextmanager
    def cold(self, order: Order, prefix: Sequence[str] = ()) -> Iterator[tuple[Running, Ended]]:
        """The same from the very start of a Python of its own; it does not wait."""
        environment = {**order.environment, "PYTHONPATH": os.pathsep.join(order.path)}
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "mealkit_runtime", *order.argv],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=order.folder, env=environment,
                start_new_session=True,
            )  # fmt: skip
        running = Running(process.pid)
        ended = Ended(0, 0.0, "", "")
        try:
            yield running, ended
        except BaseException:
            process.kill()
            raise
        finally:
            ended.code = process.wait(LONG)
            ended.seconds = time.monotonic() - running.begun
            ended.out, ended.err = self._texts()
        assert outlived(running.pid) == [], f"processes that outlived the run {order.argv}"

    def run(self, order: Order) -> Ended:
        """A run that nobody disturbs."""
        with self.warm(order) as (running, ended):
            running.go()
        return ended

    def look(self, environment: Mapping[str, str], name: str, *given: object) -> Any:
        """What a function of :mod:`kills.reader` answers, in a process of its own."""
        told = {
            "look": name, "given": list(map(str, given)), "folder": str(self.folder),
            "environment": dict(environment), "path": (), "same_names": False,
        }  # fmt: skip
        self._ask(told)
        code = int(self._line())
        out, err = self._texts()
        assert code == 0, f"{name}{given}: {err}"
        return json.loads(out)

    def _ask(self, told: dict[str, Any]) -> int:
        assert self._zygote.stdin is not None
        told |= {name: str(self.folder / name) for name in ("out", "err")}
        self._zygote.stdin.write(json.dumps(told) + "\n")
        self._zygote.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._zygote.stdout is not None
        line = self._zygote.stdout.readline()
        assert line, "the zygote ended"
        return line.strip()

    def _texts(self) -> tuple[str, str]:
        return tuple((self.folder / name).read_text(errors="replace") for name in ("out", "err"))  # type: ignore[return-value]


def outlived(of: int) -> list[str]:
    """Processes of a run's session that are still there, although it is over; those that just end have a while."""
    left = [pid for pid in everyone() if session(pid) == of and alive(pid)]
    return [] if gone(left) else [_name(pid) for pid in left if alive(pid)]


def _until(holds: Any, what: str, seconds: float = LONG) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.002)


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()[:200]}"
    return str(pid)
