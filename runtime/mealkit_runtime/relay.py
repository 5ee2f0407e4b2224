"""A reporter where a run's helper works: what the recipe says there is told by the run itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .events import Reporter

Send = Callable[[str, tuple[Any, ...]], None]
"""Takes the name of one of the reporter's methods, and its arguments."""


class Relay(Reporter):
    """Passes on what a recipe tells; the run tells its stages itself."""

    def __init__(self, send: Send) -> None:
        super().__init__(sys.stderr, sys.stderr)
        self.send = send

    def stage(self, name: str, status: str, **facts: object) -> None:
        """The run tells its stages itself."""

    def progress(self, done: int, total: int | None, unit: str, *more: object, **facts: object) -> None:
        """Pass on."""
        self.send("progress", (done, total, unit))

    def metric(self, name: str, value: float, step: int | None) -> None:
        """Pass on."""
        self.send("metric", (name, value, step))

    def log(self, level: str, message: str) -> None:
        """Pass on."""
        self.send("log", (level, message))

    def warning(self, message: str, hint: str | None = None) -> None:
        """Pass on."""
        self.send("warning", (message, hint))
