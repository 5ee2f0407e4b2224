"""Which part of a dataset a run reads: columns, rows by a condition or a time window, a sample, the first rows."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace

from mealkit.errors import SettingsError

from .condition import Compare, Condition, both, leaves, parse


@dataclass(frozen=True)
class Query:
    """A part of a dataset; with the dataset's fingerprint it identifies what was read.

    The order in which it works: ``where`` and the time window choose rows, of which ``sample`` takes some, of which
    ``limit`` takes the first. Rows keep their order.

    Attributes:
        columns: The only columns that are read; None: all that the recipe wants.
        where: What rows must fulfil; None: nothing.
        time: The column of the time window.
        since: The window's begin, which belongs to it; UTC without a zone.
        until: The window's end, which does not.
        flatten: Nested columns become columns with dotted names.
        sample: A number below 1: each row is taken with this probability. A whole number: exactly so many rows, each
            choice of them equally likely; the dataset is then read twice.
        sample_seed: The same seed takes the same rows, whatever the format and the size of batches.
        limit: At most so many rows.
    """

    columns: tuple[str, ...] | None = None
    where: Condition | None = None
    time: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    flatten: bool = False
    sample: float | int | None = None
    sample_seed: int = 0
    limit: int | None = None

    @property
    def condition(self) -> Condition | None:
        """What rows must fulfil: ``where`` and the time window."""
        assert self.time is not None or (self.since is None and self.until is None)
        since = None if self.since is None else Compare(str(self.time), ">=", self.since)
        until = None if self.until is None else Compare(str(self.time), "<", self.until)
        return both(self.where, since, until)

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns that the condition needs."""
        return tuple(dict.fromkeys(leaf.column for leaf in leaves(self.condition)))

    @property
    def every_row(self) -> bool:
        """Whether no row is left out."""
        return self.condition is None and self.sample is None and self.limit is None

    def of_all_rows(self) -> Query:
        """The same columns of every row: for a further dataset that goes the same way through the recipe."""
        return Query(columns=self.columns, flatten=self.flatten)

    def unsampled(self) -> Query:
        """The rows among which ``sample`` chooses."""
        return replace(self, sample=None, limit=None)

    def to_json(self) -> dict[str, object]:
        """What is asked, for records; the condition in its canonical form. Empty: the whole dataset."""
        facts: dict[str, object] = {
            "columns": None if self.columns is None else list(self.columns),
            "where": None if self.where is None else str(self.where),
            "time": self.time if self.since or self.until else None,
            "since": None if self.since is None else self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "flatten": self.flatten or None,
            "sample": self.sample,
            "sample_seed": self.sample_seed if self.sample is not None else None,
            "limit": self.limit,
        }
        return {name: value for name, value in facts.items() if value is not None}


EVERYTHING = Query()


def make_query(
    *,
    columns: str | None = None,
    where: str | None = None,
    time: str | None = None,
    since: str | None = None,
    until: str | None = None,
    flatten: bool = False,
    sample: str | float | None = None,
    sample_seed: int = 0,
    limit: int | None = None,
) -> Query:
    """A query from texts, as settings and commands give them.

    Args:
        columns: Names with commas between them; one that holds a comma stands between backticks.
        where: A condition; see :mod:`mealkit_runtime.condition`.
        time: The column of the time window; None: the recipe names none.
        since: ISO 8601; a zone is converted to UTC.
        until: As ``since``.
        flatten: As in :class:`Query`.
        sample: A fraction, such as ``0.1`` or ``10%``, or a number of rows.
        sample_seed: As in :class:`Query`.
        limit: As in :class:`Query`.

    Raises:
        SettingsError: one of them cannot be understood.
    """
    if (since or until) and time is None:
        raise SettingsError(
            "a time window needs a column, and the recipe names none",
            where="since" if since else "until",
            hint='write time = "COLUMN" under [tool.mealkit], or use --where "COLUMN >= \'2026-01-01\'"',
        )
    begin, end = _moment(since, "since"), _moment(until, "until")
    if begin is not None and end is not None and begin >= end:
        raise SettingsError("the time window is empty: it ends before it begins", where="until", hint="swap the two")
    return Query(
        columns=_columns(columns),
        where=None if where is None else parse(where),
        time=time if since or until else None,
        since=begin,
        until=end,
        flatten=flatten,
        sample=_sample(sample),
        sample_seed=sample_seed if sample is not None else 0,
        limit=limit,
    )


def moment(text: str) -> dt.datetime | None:
    """A time in ISO 8601 as UTC without a zone; None: it is none."""
    try:
        found = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found if found.tzinfo is None else found.astimezone(dt.UTC).replace(tzinfo=None)


def _moment(text: str | None, setting: str) -> dt.datetime | None:
    if text is None:
        return None
    found = moment(text)
    if found is None:
        raise SettingsError(
            f"not a time: {text!r}", where=setting, hint="write ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z"
        )
    return found


_NAME = re.compile(r"\s*(?:`([^`]+)`\s*(?=,|\Z)|([^,]*))(?:,|\Z)")
"""One of several names: between backticks it may hold a comma."""


def _columns(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    found = (quoted or plain.strip() for quoted, plain in _NAME.findall(text))
    names = tuple(dict.fromkeys(name for name in found if name))
    if not names:
        raise SettingsError("no column is named", where="columns", hint="write names with commas between them: a,b,c")
    return names


def _sample(value: str | float | None) -> float | int | None:
    if value is None:
        return None
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if 0 < number < 1:
        return number
    # 1 is a row, 100% and 1.0 are all of them, of which there is nothing to choose.
    if number.is_integer() and number >= 1 and "%" not in text and "." not in text:
        return int(number)
    raise SettingsError(
        f"not a sample: {value!r}",
        where="sample",
        hint="write a fraction below 1, such as 0.1 or 10%, or a whole number of rows",
    )
