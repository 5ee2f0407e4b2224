"""What a run tells while it works: a readable account on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from mealkit.errors import MealkitError

FORMATS = ("auto", "text", "json")
MASK = "**********"

_TERMINAL_INTERVAL = 0.1
_LINE_INTERVAL = 2.0


@dataclass
class Reporter:
    """Writes a run's events; it is the ``listener`` of the recipe's context.

    As JSON, each event is one line on ``stdout``: ``{"event": KIND, "time": SECONDS, …}`` where KIND is one of
    ``stage``, ``progress``, ``metric``, ``log``, ``warning``, ``error``, ``result``. As text, the account goes to
    ``stderr``, so that ``stdout`` holds the result alone. Errors are also rendered on ``stderr`` in both forms.

    Attributes:
        secrets: Texts that are masked wherever they would appear.
    """

    stdout: TextIO
    stderr: TextIO
    form: str = "json"
    clock: Callable[[], float] = time.time
    secrets: Sequence[str] = ()
    _last: float = field(default=0.0, init=False, repr=False)
    _line: int = field(default=0, init=False, repr=False)

    def stage(self, name: str, status: str, **facts: object) -> None:
        """A stage of the run begins (``started``) or is over (``finished``)."""
        if self.form == "json":
            self._json("stage", stage=name, status=status, **facts)
        elif status == "finished":
            notes = ", ".join(f"{value:,} {key}" for key, value in facts.items() if isinstance(value, int))
            self._text(f"  {name:<9} {facts['seconds']:>8.2f} s  {notes}".rstrip())

    def progress(self, done: int, total: int | None, unit: str, seconds: float | None = None) -> None:
        """Tell how far the work is; calls that come too fast are left out, but never the last one.

        Args:
            done: Units that are finished.
            total: Of how many; None: unknown.
            unit: What is counted.
            seconds: What the finished ones took; then the rate and the time left are told too.
        """
        now = self.clock()
        terminal = self.form == "text" and self.stderr.isatty()
        if done != total and now - self._last < (_TERMINAL_INTERVAL if terminal else _LINE_INTERVAL):
            return
        self._last = now
        if self.form == "json":
            self._json("progress", done=done, total=total, unit=unit, **_pace(done, total, seconds))
            return
        amount = f"{done:,} {unit}s" if total is None else f"{done:,} of {total:,} {unit}s ({done / max(total, 1):.0%})"
        pace = _pace(done, total, seconds)
        if "rate" in pace:
            amount += f", {pace['rate']:,.0f} {unit}s/s"
        if pace.get("seconds_left"):
            amount += f", {_duration(pace['seconds_left'])} left"
        if terminal:
            text = f"  {amount}"
            self._write(self.stderr, f"\r{text.ljust(self._line)}")
            self._line = len(text)
        else:
            self._text(f"  {amount}")

    def metric(self, name: str, value: float, step: int | None) -> None:
        """A metric that the recipe logs while it trains."""
        if self.form == "json":
            self._json("metric", name=name, value=value if abs(value) < float("inf") else None, step=step)
        else:
            self._text(f"  {name} {value:.6g}" + ("" if step is None else f"  (step {step:,})"))

    def log(self, level: str, message: str) -> None:
        """A message of the recipe's logger."""
        if self.form == "json":
            self._json("log", level=level, message=message)
        else:
            self._text(f"  {level}: {message}")

    def warning(self, message: str, hint: str | None = None) -> None:
        """Something that the user should look at, though the run goes on."""
        if self.form == "json":
            self._json("warning", message=message, hint=hint)
        else:
            self._text(f"warning: {message}" + (f"\nhint: {hint}" if hint else ""))

    def error(self, error: MealkitError) -> None:
        """The error that ended the run."""
        if self.form == "json":
            self._json("error", **error.to_json())
        self._text(error.render())

    def result(self, value: Mapping[str, object], text: str) -> None:
        """The last event: the run's result."""
        if self.form == "json":
            self._json("result", result=_brief(value))
        else:
            self._end_line()
            self._write(self.stdout, text + "\n")

    def _json(self, event: str, **facts: object) -> None:
        line = {"event": event, "time": round(self.clock(), 3), **facts}
        self._write(self.stdout, json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def _text(self, text: str) -> None:
        self._end_line()
        self._write(self.stderr, text + "\n")

    def _end_line(self) -> None:
        if self._line:
            self._write(self.stderr, "\r" + " " * self._line + "\r")
            self._line = 0

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(self.redact(text))
            stream.flush()
        except (BrokenPipeError, ValueError):
            pass  # nobody listens any more: the work itself is not in vain

    def redact(self, text: str) -> str:
        """``text`` without the run's secrets."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
            escaped = json.dumps(secret, ensure_ascii=False)[1:-1]
            text = text.replace(escaped, MASK)
        return text


def _pace(done: int, total: int | None, seconds: float | None) -> dict[str, float]:
    """Units a second so far, and the seconds that the rest takes at this rate; what cannot be known is left out."""
    if not seconds or not done:
        return {}
    rate = done / seconds
    return (
        {"rate": round(rate, 1)}
        if total is None
        else {
            "rate": round(rate, 1),
            "seconds_left": round(max(total - done, 0) / rate, 1),
        }
    )


def _duration(seconds: float) -> str:
    """Seconds as ``45 s``, ``12:07`` or ``3:02:00``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _brief(result: Mapping[str, object]) -> dict[str, object]:
    """A result without curves, tables and the history, which belong in a file rather than in a line."""
    metrics = result.get("metrics")
    return {**result, "metrics": metrics["metrics"] if isinstance(metrics, Mapping) else None, "history": None}


class RecipeLog(logging.Handler):
    """Carries the messages of Python's loggers to a reporter."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one message."""
        try:
            self.reporter.log(record.levelname.lower(), self.format(record))
        except Exception:
            self.handleError(record)


def choose_form(form: str, stdout: TextIO, stderr: TextIO) -> str:
    """``text`` or ``json``; ``auto`` means text when both streams are terminals."""
    if form != "auto":
        return form
    return "text" if stdout.isatty() and stderr.isatty() else "json"
