"""Being asked to stop: SIGTERM and SIGINT, also as PID 1, end a run within five seconds and leave nothing half-written.

Python as PID 1 ignores SIGTERM unless a handler is set, so :meth:`Stopper.install` comes first in a run, before the
libraries are imported. What a signal does depends on where the run is:

- in the runtime's own code: :class:`Interrupted` is raised at once;
- in the recipe's code (:meth:`Stopper.patient`): ``context.stop_requested`` becomes true, and the recipe has
  :data:`GRACE` seconds to return; after that, or at a second signal, :class:`Interrupted` is raised there;
- in a commit (:meth:`Stopper.shielded`) or a clean-up (:meth:`Stopper.cleaning`): it waits until that is over, or the
  five seconds are: a commit may be killed at any moment, and waits long for a disk or a store that does not answer;
- in a single event (:meth:`Stopper.held`): it waits until that is told, so that no line is cut;
- in a long call of a C library, where Python runs no handler, or in a clean-up that takes too long: a thread removes
  what it can of the staging folders, tells the end and ends the process. What stays is hidden from readers, and
  removed by the next run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from mealkit.errors import Stopped

from .files import STAGING

GRACE = 4.0
"""Seconds that the recipe's code has to return after the first signal."""

_LAST_RESORT = 0.4
"""Seconds after GRACE at which a process whose main thread does not react is ended."""

_LAST_COMMIT = 0.2
"""Seconds more that a commit has."""

_FAREWELL = 0.3
"""Seconds that such a process has for its last words and for its staging folders, whatever they wait for."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """The run was asked to stop; no ``except Exception`` in a recipe can swallow it."""


class Stopper:
    """Holds what was asked; one a run.

    Attributes:
        requested: The run was asked to stop.
        last_words: Called when the process is ended from outside the main thread.
    """

    def __init__(self) -> None:
        self.requested = False
        self.last_words: Callable[[], None] = lambda: None
        self._raised = False
        self._patient = 0
        self._shielded = 0
        self._cleaning = 0
        self._held = 0
        self._late: list[bool] = []
        self._staging: set[Path] = set()

    @contextlib.contextmanager
    def install(self) -> Iterator[None]:
        """Handle the signals inside the block; outside the main thread, where Python cannot, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        over = threading.Event()
        watchdog = threading.Thread(target=self._watch, args=(reader, over), name="mealkit-stop", daemon=True)
        watchdog.start()
        try:
            yield
        finally:
            over.set()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.set_wakeup_fd(old_fd)
            for number, handler in before.items():
                # A signal more must not disturb a process that is on its way out because of the first.
                signal.signal(number, signal.SIG_IGN if self.requested else handler)
            os.close(writer)  # the watchdog reads end of file, closes its end and returns
            watchdog.join(1)

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """The recipe's code runs inside: it may look at ``stop_requested`` and return by itself."""
        self.check()
        self._patient += 1
        try:
            yield
        finally:
            self._patient -= 1
        self.check()

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Nothing interrupts the block: a commit, or a clean-up."""
        self._shielded += 1
        try:
            yield
        finally:
            self._shielded -= 1

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[None]:
        """Nothing interrupts the block, but the process may be ended in it: it removes what nobody would miss."""
        self._cleaning += 1
        try:
            with self.shielded():
                yield
        finally:
            self._cleaning -= 1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Signals that come in the block take effect at its end: for blocks that take no time worth mentioning."""
        if threading.current_thread() is not threading.main_thread():
            yield  # where no handler runs
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                while self._late:
                    self._asked(self._late.pop(0))

    @contextlib.contextmanager
    def staging(self, folder: Path) -> Iterator[None]:
        """``folder`` is to be removed if the process must be ended from outside Python."""
        self._staging.add(folder)
        try:
            yield
        finally:
            self._staging.discard(folder)

    def check(self) -> None:
        """Stop here if that was asked.

        Raises:
            Interrupted: it was.
        """
        if self.requested and not self._shielded:
            self._raise()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if self._held:
            self._late.append(again)
        else:
            self._asked(again)

    def _asked(self, again: bool) -> None:
        if self._shielded:
            return
        if self._patient and not again:
            signal.setitimer(signal.ITIMER_REAL, GRACE)
            return
        self._raise()

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._held or self._shielded:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            return
        self._raise()

    def _raise(self) -> None:
        if not self._raised:  # a third signal must not break the clean-up that the second one began
            self._raised = True
            raise Interrupted

    def _watch(self, reader: int, over: threading.Event) -> None:
        try:
            while data := os.read(reader, 64):
                if not {int(number) for number in _SIGNALS} & set(data):
                    continue
                if over.wait(GRACE + _LAST_RESORT):
                    continue
                if not self._commits or not over.wait(_LAST_COMMIT):
                    self._end()
        finally:
            os.close(reader)

    @property
    def _commits(self) -> bool:
        return self._shielded > self._cleaning

    def _end(self) -> None:
        # Both may wait for what never comes: a reader, a lost network disk, ten thousand files. What is just being
        # committed is left to the next run: if it were removed meanwhile, a part of it might become visible.
        todo = [self._tell_end] if self._commits else [self._tell_end, self._remove]
        works = [threading.Thread(target=work, daemon=True) for work in todo]
        for work in works:
            work.start()
        until = time.monotonic() + _FAREWELL
        for work in works:
            work.join(max(0.0, until - time.monotonic()))
        os._exit(Stopped.exit_code)

    def _tell_end(self) -> None:
        with contextlib.suppress(Exception):
            self.last_words()

    def _remove(self) -> None:
        for folder in list(self._staging):
            shutil.rmtree(folder, ignore_errors=True)
            if folder.parent.name == STAGING:
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()  # unless another run works there


def stopped(since: float) -> Stopped:
    """The error that tells of a stop, ``since`` being when the run began (monotonic)."""
    return Stopped(
        f"the run was asked to stop, after {time.monotonic() - since:.1f} s; nothing was left half-written",
        hint="run the same command again; with the same --run-id it gives one batch, not two",
    )
