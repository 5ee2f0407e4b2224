"""How far a build is, on a terminal: a line for what moves; elsewhere only notes."""

from __future__ import annotations

import sys
import threading
import time

import click

from mealkit_builder.progress import Moving

from ._output import size_text

_EVERY = 0.1  # seconds between two drawings


class TerminalReporter:
    """Draws one line on standard error and wipes it at the end; says nothing where that is not a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self.live = sys.stderr.isatty() and not quiet
        self.quiet = quiet
        self._lock = threading.Lock()
        self._stage = ""
        self._bytes: dict[str, list[int]] = {"download": [0, 0], "upload": [0, 0]}
        self._drawn = 0.0

    def stage(self, text: str) -> None:
        """Show the stage's name."""
        self._stage = text
        self._draw(force=True)

    def expect(self, what: Moving, size: int) -> None:
        """More is to come."""
        with self._lock:
            self._bytes[what][1] += size

    def moved(self, what: Moving, size: int) -> None:
        """Some of it came."""
        with self._lock:
            self._bytes[what][0] += size
        self._draw()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            self.clear()
            click.echo(click.style("note:", fg="yellow") + f" {text}", err=True)

    def clear(self) -> None:
        """Wipe the line."""
        if self.live:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _draw(self, force: bool = False) -> None:
        now = time.monotonic()
        if not self.live or (now - self._drawn < _EVERY and not force):
            return
        self._drawn = now
        parts = [self._stage]
        for what, (done, total) in self._bytes.items():
            if total > 0:
                share = min(done / total, 1.0)
                bar = "█" * round(share * 16)
                parts.append(f"{what} {bar:░<16} {size_text(done)} of {size_text(total)}")
        click.echo("\r\x1b[K" + "  ".join(parts), nl=False, err=True)
