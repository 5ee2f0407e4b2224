"""The ledger of a dataset's bad rows: what becomes of them, how many by column and rule, and whether all add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mealkit.errors import BadRowsError, RowsLostError, SchemaError

from .check import Broken

SHOWN = 40
"""So many characters of a bad value are told."""

_TOLD = 5
"""So many bad rows are told one by one."""


@dataclass(frozen=True)
class BadRow:
    """One row that the schema refuses.

    Attributes:
        file: The file's name.
        row: Its number in the file, from 1.
        broken: The rule that it breaks first, in the order of the schema.
        value: What broke it.
    """

    file: str
    row: int
    broken: Broken
    value: object

    @property
    def message(self) -> str:
        """What is wrong, in a sentence."""
        what = self.broken.says if self.broken.rule == "missing" else f"is {show(self.value)}, {self.broken.says}"
        return f"the column {self.broken.column!r} {what}"

    @property
    def where(self) -> str:
        """File, row and column."""
        return f"{self.file}, row {self.row:,}, column {self.broken.column}"

    def error(self) -> SchemaError:
        """The error that ends a run which takes no bad row."""
        return SchemaError(self.message, where=self.where, hint=self.broken.hint)


@dataclass(frozen=True)
class Found:
    """The bad rows of one table.

    Attributes:
        file: The file's name.
        table: The rows as they were read.
        rows: Their numbers in the file (numpy).
        rules: All rules that the table's rows break.
        cause: Which of them each row breaks first (numpy).
        places: Where the rows stand in the rules' values (numpy).
    """

    file: str
    table: Any
    rows: Any
    rules: Sequence[Broken]
    cause: Any
    places: Any

    def __getitem__(self, position: int) -> BadRow:
        rule = self.rules[self.cause[position]]
        return BadRow(self.file, int(self.rows[position]), rule, rule.value(int(self.places[position])))

    def __len__(self) -> int:
        return len(self.rows)


class Keeper(Protocol):
    """Who keeps bad rows."""

    rows: int

    def add(self, found: Found) -> None:
        """Keep some."""


class BadRows:
    """Counts the rows of one dataset, and decides what becomes of the bad ones.

    Args:
        policy: ``fail``, ``skip`` or ``quarantine``.
        limit: A whole number of bad rows, or their fraction of all rows, beyond which the run fails; None: no limit.
        warn: Called with a message and a hint.
        keeper: Keeps the rows under ``quarantine``.
        found: Gets the counts whenever they change, by the names of :class:`~mealkit_runtime.result.RunResult`, so that
            the result of a run that fails has them too.

    Attributes:
        rows_read: Rows that were sifted.
        rows_bad: How many were bad.
        by_rule: How many, by column and rule.
    """

    def __init__(
        self,
        policy: str = "fail",
        limit: int | float | None = None,
        warn: Callable[[str, str | None], None] = lambda message, hint: None,
        keeper: Keeper | None = None,
        found: dict[str, Any] | None = None,
    ) -> None:
        self.policy = policy
        self.limit = limit
        self.rows_read = 0
        self.rows_bad = 0
        self.by_rule: dict[str, dict[str, int]] = {}
        self._warn = warn
        self._keeper = keeper
        self._found = {} if found is None else found

    def again(self) -> BadRows:
        """A ledger that drops the same rows without a word: for reading the dataset once more."""
        return BadRows("fail" if self.policy == "fail" else "skip")

    def add(self, found: Found) -> None:
        """Bad rows of one table.

        Raises:
            SchemaError: the policy is to fail.
            BadRowsError: there are now more of them than the run allows.
        """
        if self.policy == "fail":
            raise found[0].error()
        for position in range(min(len(found), _TOLD - self.rows_bad)):
            row = found[position]
            did = "skipped" if self.policy == "skip" else "put into quarantine"
            self._warn(f"{row.where}: {row.message}; the row is {did}", row.broken.hint)
        self.rows_bad += len(found)
        for index, count in enumerate(np.bincount(found.cause, minlength=len(found.rules)).tolist()):
            if count:
                rule = found.rules[index]
                counts = self.by_rule.setdefault(rule.column, {})
                counts[rule.rule] = counts.get(rule.rule, 0) + count
        if self._keeper is not None:
            self._keeper.add(found)
        self._found.update(self.facts())
        if isinstance(self.limit, int) and self.rows_bad > self.limit:
            raise self._too_many(f"{self.limit:,}")

    def take_over(self, by_rule: Mapping[str, Mapping[str, int]], rows_read: int) -> None:
        """Rows that others sifted, each of them for a part of the dataset; they have told which ones were bad."""
        self.rows_read += rows_read
        for column, rules in by_rule.items():
            for rule, count in rules.items():
                counts = self.by_rule.setdefault(column, {})
                counts[rule] = counts.get(rule, 0) + count
                self.rows_bad += count
        if isinstance(self.limit, int) and self.rows_bad > self.limit:
            raise self._too_many(f"{self.limit:,}")

    def facts(self) -> dict[str, object]:
        """The counts by the names of :class:`~mealkit_runtime.result.RunResult`."""
        kept = self.policy == "quarantine"
        return {
            "rows_skipped": 0 if kept else self.rows_bad,
            "rows_quarantined": self.rows_bad if kept else 0,
            "bad_rows": {column: dict(rules) for column, rules in self.by_rule.items()},
        }

    def settle(self, used: int, where: str, *, part: bool = False) -> None:
        """Every row was read: compare the counts, and tell what became of bad rows.

        Args:
            used: Rows that the recipe got, as whoever handed them over counted.
            where: The dataset's name.
            part: The rows are one of several parts, which may have no good row.

        Raises:
            RowsLostError: a row that was read is nowhere, or one is there twice.
            BadRowsError: a greater part of the rows is bad than the run allows, or all of them are.
        """
        self._found.update({"rows_read": self.rows_read, "rows_used": used, **self.facts()})
        if self.rows_read != used + self.rows_bad:
            raise RowsLostError(
                f"{self.rows_read:,} rows were read, but {used:,} were used and {self.rows_bad:,} were bad",
                where=where,
                hint="this is a fault of mealkit: nothing was written; please report it",
            )
        if isinstance(self.limit, float) and self.rows_bad > self.limit * self.rows_read:
            raise self._too_many(f"{self.limit:g} of all")
        if self.rows_read and not used and not part:
            raise BadRowsError(
                f"all {self.rows_read:,} rows are bad: {self.told}",
                where=where,
                hint="mend the data, or the row schema",
            )
        if self.rows_bad:
            did = "skipped" if self.policy == "skip" else "put into quarantine"
            self._warn(f"{self.rows_bad:,} of {self.rows_read:,} rows were bad and {did}: {self.told}", None)

    @property
    def told(self) -> str:
        """The counts by column and rule, most first."""
        counts = [(count, column, rule) for column, rules in self.by_rule.items() for rule, count in rules.items()]
        return ", ".join(f"{column} {rule} {count:,}" for count, column, rule in sorted(counts, key=lambda c: -c[0]))

    def _too_many(self, limit: str) -> BadRowsError:
        return BadRowsError(
            f"{self.rows_bad:,} of {self.rows_read:,} rows are bad, more than {limit}: {self.told}",
            where="max_bad_rows",
            hint="mend the data or the row schema, or allow more with --max-bad-rows",
        )


def show(value: object) -> str:
    """A value for a message, shortened."""
    text = value if isinstance(value, str) else repr(value)
    text = f"{text[:SHOWN]}…" if len(text) > SHOWN else text
    return repr(text) if isinstance(value, str) else str(value) if hasattr(value, "isoformat") else text
