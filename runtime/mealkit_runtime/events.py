"""What a run tells while it works: a readable account on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mealkit.errors import MealkitError
from mealkit.redact import Redactor

from .outlet import Stream

FORMATS = ("auto", "text", "json")

SCHEMA_VERSION = 1
"""Rises when a reader of events must change; a new kind of event or a new field does not raise it."""

SCHEMA_FILE = Path(__file__).with_name("events.schema.json")
"""The JSON Schema of the events."""

LONGEST = 16_384
"""Characters of one text in an event; the rest is left out, and how much that is is told."""

_DEEPEST = 24
_TERMINAL_INTERVAL = 0.1
_LINE_INTERVAL = 2.0
# What some readers take for the end of a line, though JSON lets it stand.
_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")

Event = Mapping[str, Any]


@dataclass
class Reporter:
    """Writes a run's events; it is the ``listener`` of the recipe's context.

    As JSON, each event is one line on ``stdout``: ``{"event": KIND, "time": SECONDS, …}`` where KIND is one of ``run``
    (the first), ``stage``, ``progress``, ``metric``, ``log``, ``warning``, ``error``, ``result`` (the last);
    :data:`SCHEMA_FILE` describes them. As text, the account goes to ``stderr``, so that ``stdout`` holds the result
    alone. Errors are also rendered on ``stderr`` in both forms. May be used from any thread.

    Attributes:
        redactor: Every text passes through it.
        head: What the event ``run`` tells; whoever makes the reporter fills it in as it becomes known.
        listeners: Told of every event, as it is written, in both forms.
        held: A block in which no signal interrupts.
    """

    stdout: Stream
    stderr: Stream
    form: str = "json"
    clock: Callable[[], float] = time.time
    redactor: Redactor = field(default_factory=Redactor)
    head: dict[str, object] = field(default_factory=dict)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    held: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    _begun: bool = field(default=False, init=False, repr=False)
    _last: float = field(default=0.0, init=False, repr=False)
    _line: int = field(default=0, init=False, repr=False)

    def begin(self) -> None:
        """Tell which run this is, before anything else; once."""
        if not self._begun:
            self._begun = True
            self._event("run", schema_version=SCHEMA_VERSION, **self.head)

    def stage(self, name: str, status: str, **facts: object) -> None:
        """A stage of the run begins (``started``) or is over (``finished``)."""
        self._event("stage", stage=name, status=status, **facts)
        if self.form == "text" and status == "finished":
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
        self._event("progress", done=done, total=total, unit=unit, **_pace(done, total, seconds))
        if self.form == "json":
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
        self._event("metric", name=name, value=value, step=step)
        if self.form == "text":
            self._text(f"  {name} {value:.6g}" + ("" if step is None else f"  (step {step:,})"))

    def log(self, level: str, message: str) -> None:
        """A message of the recipe's logger."""
        self._event("log", level=level, message=message)
        if self.form == "text":
            self._text(f"  {level}: {message}")

    def warning(self, message: str, hint: str | None = None) -> None:
        """Something that the user should look at, though the run goes on."""
        self._event("warning", message=message, hint=hint)
        if self.form == "text":
            self._text(f"warning: {message}" + (f"\nhint: {hint}" if hint else ""))

    def error(self, error: MealkitError) -> None:
        """The error that ended the run."""
        self._event("error", **error.to_json())
        self._text(error.render())

    def result(self, value: Mapping[str, object], text: str) -> None:
        """The last event: the run's result."""
        self._event("result", result=_brief(value))
        if self.form == "text":
            self._end_line()
            self._write(self.stdout, self.redactor.text(text) + "\n")

    def raw(self, text: str) -> None:
        """Lines for a person that are no event, such as a traceback."""
        self._text(text.rstrip("\n"))

    def redact(self, text: str) -> str:
        """``text`` without the run's secrets."""
        return self.redactor.text(text)

    def _event(self, event: str, **facts: object) -> None:
        if event != "run":
            self.begin()
        line = {"event": event, "time": round(self.clock(), 3)}
        line |= {name: plain(value, self.redactor.text) for name, value in facts.items()}
        for listener in self.listeners:
            listener(line)
        if self.form == "json":
            self._write(self.stdout, json_line(line))

    def _text(self, text: str) -> None:
        self._end_line()
        self._write(self.stderr, self.redactor.text(text) + "\n")

    def _end_line(self) -> None:
        if self._line:
            self._write(self.stderr, "\r" + " " * self._line + "\r")
            self._line = 0

    def _write(self, stream: Stream, text: str) -> None:
        # Nobody listens any more, or the disk that the account goes to is full: the work itself is not in vain.
        with self.held(), contextlib.suppress(OSError, ValueError):
            try:
                stream.write(text)
            except UnicodeEncodeError:  # an ordinary stream of another encoding, or a lone surrogate
                stream.write(text.encode("ascii", "backslashreplace").decode())
            stream.flush()


def plain(value: object, change: Callable[[str], str], depth: int = 0) -> Any:
    """``value`` as JSON can hold it, its texts passed through ``change`` and cut at :data:`LONGEST`.

    A number that is not finite becomes null, since JSON has none; a scalar of numpy becomes Python's, and what JSON has
    no form for becomes text.
    """
    if value is None or isinstance(value, bool | int):
        # As a subclass may print itself otherwise: IntEnum, numpy's bool.
        return value if value is None or isinstance(value, bool) else int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        # What is cut off need not be looked through; but a secret must not be cut where it begins to be one.
        return _cut(change(value[: 2 * LONGEST]), len(value))
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {plain(str(name), change): plain(item, change, depth + 1) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            ordered: Iterable[object] = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            return [plain(item, change, depth + 1) for item in ordered]
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            return plain(value.item(), change, _DEEPEST)  # type: ignore[attr-defined]
    return plain(str(value), change)


def _cut(text: str, whole: int) -> str:
    """``text`` as UTF-8 can hold it and not too long; ``whole`` is how long it once was."""
    # A lone surrogate, as in a file name that is no UTF-8, is an escape that a reader sees: strict parsers refuse it.
    text = text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text
    more = max(whole, len(text)) - LONGEST
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({more:,} characters more)"


def json_line(value: Mapping[str, object]) -> str:
    """A plain value as one line of JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


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


def choose_form(form: str, stdout: Stream | TextIO, stderr: Stream | TextIO) -> str:
    """``text`` or ``json``; ``auto`` means text when both streams are terminals."""
    if form != "auto":
        return form
    return "text" if stdout.isatty() and stderr.isatty() else "json"
