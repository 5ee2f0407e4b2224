"""The way out of a run: texts to a descriptor that nobody else writes to, and no reader who can hold a run up.

The events have standard output for themselves. Python's ``print`` is the least of those who would write there too: C
libraries, and programs that a recipe starts, know only descriptor 1. So the descriptor is put aside for the events, and
what stands as 1 while the recipe runs is standard error.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TextIO

_PATIENCE = 0.3
"""Seconds that a reader has once the run was asked to stop."""

_LOOK = 0.1
"""Seconds between two looks whether the run was asked to stop, while a reader is waited for."""


class Stream(Protocol):
    """What events and errors are written to: an ordinary text stream, or a :class:`Outlet`."""

    def write(self, text: str, /) -> Any:
        """Write a text."""

    def flush(self) -> None:
        """Write what is still held back."""

    def isatty(self) -> bool:
        """Whether a person looks at it."""


class Outlet:
    """Writes text as UTF-8 to a descriptor, from any thread, each text whole before the next.

    A reader that is slow is waited for, unless the run was asked to stop: then what it has not taken after
    :data:`_PATIENCE` is left out. A reader that is gone, or a disk that is full, ends the telling and not the run.

    Args:
        descriptor: Open for as long as the outlet is used.
        hurry: Whether the run was asked to stop.
    """

    def __init__(self, descriptor: int, hurry: Callable[[], bool]) -> None:
        self.descriptor = descriptor
        self.hurry = hurry
        self.lost: OSError | None = None
        self._lock = threading.Lock()

    def write(self, text: str, /) -> None:
        """Write a text; what UTF-8 cannot hold is written as an escape."""
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        with self._lock:
            while rest and self.lost is None and self._ready():
                try:
                    # A pipe that can be written takes this much without making us wait.
                    rest = rest[os.write(self.descriptor, rest[: select.PIPE_BUF]) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    self.lost = error

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return os.isatty(self.descriptor)

    def _ready(self) -> bool:
        look = select.poll()
        look.register(self.descriptor, select.POLLOUT)
        hurried: float | None = None
        while not look.poll(_LOOK * 1000):
            if self.hurry():
                hurried = hurried or time.monotonic()
                if time.monotonic() - hurried > _PATIENCE:
                    self.lost = TimeoutError("the reader does not read")
                    return False
        return True


@contextlib.contextmanager
def outlets(hurry: Callable[[], bool]) -> Iterator[tuple[Stream, Stream]]:
    """Standard output, which inside the block only we have, and standard error; as they were where they are no files.

    Whoever else writes to descriptor 1 in the block writes to standard error.
    """
    out, err = _descriptor(sys.stdout), _descriptor(sys.stderr)
    stderr: Stream = sys.stderr if err is None else Outlet(err, hurry)
    if out != 1 or err is None:
        yield sys.stdout, stderr
        return
    sys.stdout.flush()
    aside = os.dup(out)  # not inherited by the programs that a recipe starts
    try:
        os.dup2(err, out)
        yield Outlet(aside, hurry), stderr
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(aside, out)
        os.close(aside)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


class Screened:
    """A text stream whose texts pass through ``change`` on their way; otherwise it is ``stream``.

    What a recipe prints passes at once and piece by piece, so that progress bars move.
    """

    def __init__(self, stream: Any, change: Callable[[str], str]) -> None:
        self._stream = stream
        self._change = change

    def write(self, text: str) -> int:
        """Write the changed text; where nobody reads it any more, that is no fault of the recipe's."""
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(self._change(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each changed line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def screened(change: Callable[[str], str]) -> Iterator[None]:
    """In the block what Python code prints goes to standard error, through ``change``."""
    stderr = Screened(sys.stderr, change)
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stderr):
        yield
