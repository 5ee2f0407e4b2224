"""How far a build is: one line that changes on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

import click

from mealkit_builder.progress import Moving
from mealkit_builder.target import Moved

from ._output import color, size_text

_EVERY = 0.1  # seconds between two drawings
_FIRST_LINE, _NEXT_LINES = 10.0, 30.0  # seconds until the first plain line, and between the further ones
_WINDOW = 5.0  # seconds over which the rate is taken
_QUIET_AFTER = 3.0  # seconds without a byte after which that is told instead of the rate
_BAR = 10  # so that all but the ways fits into 80 columns


class TerminalReporter:
    """Tells on standard error what moves, and wipes its line at the end.

    Where that is no terminal, it prints a line after ten seconds and then every thirty, so that a log shows that a long
    push goes on, and a short one leaves none.

    Args:
        quiet: Say nothing at all.
        environment: ``TERM`` and ``COLUMNS``.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        quiet: bool = False,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.live = sys.stderr.isatty() and not quiet and environment.get("TERM") != "dumb"
        self.quiet = quiet
        self._clock = clock
        self._lock = threading.RLock()
        self._stage = ""
        self._count_from_zero()
        self._drawn = self._began = self._last_byte = clock()
        self._due = self._began + _FIRST_LINE
        self._stopped: threading.Event | None = None

    def _count_from_zero(self) -> None:
        self._bytes: dict[Moving, list[int]] = {"download": [0, 0], "upload": [0, 0]}
        self._layers = 0
        self._ways: dict[Moved, int] = {"reused": 0, "mounted": 0, "uploaded": 0}
        self._samples: deque[tuple[float, int]] = deque()

    def stage(self, text: str) -> None:
        """Show the stage's name."""
        with self._lock:
            self._stage = text
        self._start()
        self._draw(force=True)

    def expect(self, what: Moving, size: int) -> None:
        """More is to come."""
        with self._lock:
            self._bytes[what][1] += size

    def moved(self, what: Moving, size: int) -> None:
        """Some of it came."""
        with self._lock:
            self._bytes[what][0] += size
            self._last_byte = self._clock()
        self._draw()

    def layers(self, count: int) -> None:
        """More layers are to come to their place."""
        with self._lock:
            self._layers += count

    def layer(self, way: Moved) -> None:
        """One is there."""
        with self._lock:
            self._ways[way] += 1
        self._draw()

    def restart(self) -> None:
        """Count from zero again."""
        with self._lock:
            self._count_from_zero()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            with self._lock:
                self._wipe()
                click.echo(click.style("note:", fg="yellow") + f" {text}", err=True, color=color())

    def clear(self) -> None:
        """Wipe the line, and draw no other."""
        if self._stopped is not None:
            self._stopped.set()
        with self._lock:
            self._wipe()
            self._stage = ""

    def line(self, width: int) -> str:
        """All that is known, in at most ``width`` columns: what matters less is left out first."""
        with self._lock:
            bars, sizes = ([text for what in self._bytes if (text := self._flow(what, bar))] for bar in (True, False))
            speed, layers = self._speed(), self._places(with_ways=False)
            ways = self._places(with_ways=True)
        forms: tuple[list[str], ...] = (
            [*bars, speed, ways],
            [*bars, speed, layers],
            [*bars, layers],
            [*sizes, layers],
            sizes,
            sizes[-1:],
            [],
        )
        lines = ("  ".join(filter(None, [self._stage, *form])) for form in forms)
        return next((line for line in lines if len(line) <= width), self._stage[:width])

    def _flow(self, what: Moving, bar: bool) -> str:
        done, total = self._bytes[what]
        if total <= 0:
            return ""
        drawn = ""
        if bar:
            full = round(min(max(done / total, 0.0), 1.0) * _BAR)
            block, space = ("█", "░") if _can_print("█░") else ("#", ".")
            drawn = f"{block * full}{space * (_BAR - full)} "
        return f"{what} {drawn}{size_text(max(done, 0))} of {size_text(total)}"

    def _speed(self) -> str:
        """The rate and the time left; or how long nothing has moved."""
        now = self._clock()
        done, total = (sum(flow[part] for flow in self._bytes.values()) for part in (0, 1))
        self._samples.append((now, done))
        while now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()
        if done >= total or total <= 0:
            return ""
        if now - self._last_byte >= _QUIET_AFTER:
            return f"nothing moved for {now - self._last_byte:.0f} s"
        begin, before = self._samples[0]
        if now - begin < 0.5 or done <= before:
            return ""
        rate = (done - before) / (now - begin)
        return f"{size_text(rate)}/s, {_duration((total - done) / rate)} left"

    def _places(self, *, with_ways: bool) -> str:
        if self._layers <= 0:
            return ""
        there = sum(self._ways.values())
        ways = ", ".join(f"{count} {way}" for way, count in self._ways.items() if count)
        return f"layers {there}/{self._layers}" + (f" ({ways})" if with_ways and ways else "")

    def _draw(self, force: bool = False) -> None:
        now = self._clock()
        if self.quiet or (not self.live and now < self._due):
            return
        with self._lock:
            if not self._stage:
                return
            if not self.live:
                self._due = now + _NEXT_LINES
                click.echo(f"{self.line(1000)}  after {_duration(now - self._began)}", err=True)
            elif force or now - self._drawn >= _EVERY:
                self._drawn = now
                # The last column stays free: some terminals wrap when it is written.
                _write("\r\x1b[K" + self.line(shutil.get_terminal_size().columns - 1))

    def _wipe(self) -> None:
        if self.live:
            _write("\r\x1b[K")

    def _start(self) -> None:
        """Draw also when nothing is told: a line that stands still looks like a program that hangs."""
        if self._stopped is None and not self.quiet:
            self._stopped = threading.Event()
            threading.Thread(target=self._tick, args=(self._stopped,), name="mealkit-progress", daemon=True).start()

    def _tick(self, stopped: threading.Event) -> None:
        while not stopped.wait(0.5):
            self._draw()


def _write(text: str) -> None:
    """Past click, which would take the control characters out where colours are not wanted."""
    sys.stderr.write(text)
    sys.stderr.flush()


def _can_print(text: str) -> bool:
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.0f} h"
