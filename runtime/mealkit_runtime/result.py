"""The result of a run, as a value, as JSON and as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .events import plain

RESULT_VERSION = 1


@dataclass(frozen=True)
class RunResult:
    """What a run did, also when it failed.

    Attributes:
        mode: ``train``, ``evaluate`` or ``score``.
        run_id: The run's name; empty when it failed before it had one.
        status: ``succeeded``, ``failed`` or ``stopped``.
        exit_code: The process exit status.
        error: Code, message, where, hint of what ended it; None when it succeeded.
        recipe: Name, version and spec digest.
        image: The image's URL, where the run knows it (``MEALKIT_IMAGE``).
        started: When it began, UTC in ISO 8601.
        seconds: Durations by stage, and their ``total``.
        input: URI, number of files and fingerprint of the main dataset.
        rows_read: Rows of the main dataset that were read: those that were used, skipped and put into quarantine.
        rows_used: Rows that the recipe got; it may drop some, or make one case of several.
        rows_skipped: Bad rows that were left out.
        rows_quarantined: Bad rows that were left out and kept.
        bad_rows: How many were bad, by column and rule.
        quarantine: The folder in which bad rows are kept.
        rows_scored: Rows that the batch got.
        metrics: As :meth:`mealkit.Metrics.to_json` gives them.
        judged: What tells the judged cases from others: ``cases``, their number, ``keys``, ``target``, ``digest``.
        model: Directory and digest of the model that was written or used; ``artifact``: the digest of its files alone.
        history: What the training logged, ``{metric: [[step, value], …]}``, thinned to 500 values a metric.
        training: Where the training began (``resumed``, ``warm_start``), how many checkpoints it saved, and what its
            rules for early stopping saw.
        trials: The study's name, objective, counts of trials, and the best; None without ``--trials``.
        batch: The record of the batch; ``existed`` tells that an earlier run had committed it.
        hyperparameters: As they were used; secrets are left out.
        seed: The seed that was used.
        warnings: What the user should look at.
        versions: Of Python, mealkit and the libraries that matter.
    """

    mode: str
    run_id: str
    status: str
    exit_code: int
    recipe: Mapping[str, str]
    error: Mapping[str, object] | None = None
    image: str | None = None
    started: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    input: Mapping[str, object] | None = None
    rows_read: int | None = None
    rows_used: int | None = None
    rows_skipped: int | None = None
    rows_quarantined: int | None = None
    bad_rows: Mapping[str, Mapping[str, int]] | None = None
    quarantine: str | None = None
    rows_scored: int | None = None
    metrics: Mapping[str, Any] | None = None
    judged: Mapping[str, object] | None = None
    model: Mapping[str, str] | None = None
    history: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    trials: Mapping[str, Any] | None = None
    batch: Mapping[str, object] | None = None
    hyperparameters: Mapping[str, object] | None = None
    seed: int | None = None
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    result_version: int = RESULT_VERSION

    def to_json(self, change: Callable[[str], str] = str) -> str:
        """The result as JSON text; every text in it passes through ``change``."""
        return json.dumps(plain(asdict(self), change), ensure_ascii=False, allow_nan=False, indent=2) + "\n"

    def to_text(self) -> str:
        """The result as lines for a terminal."""
        name = f"{self.recipe.get('name', '')} {self.recipe.get('version', '')}".strip()
        took = f" in {self.seconds['total']:.1f} s" if "total" in self.seconds else ""
        lines = [f"{self.mode} {name}: {self.status}{took}, run {self.run_id or '-'}"]
        lines += _metric_lines(self.metrics or {})
        if self.trials is not None:
            counts, best = self.trials["counts"], self.trials["best"] or {}
            told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
            shown = ", ".join(f"{name} {value}" for name, value in (best.get("hyperparameters") or {}).items())
            lines.append(f"  trials       {told}" + (f"; best: {best['number']} with {shown}" if best else ""))
        bad = (self.rows_skipped or 0) + (self.rows_quarantined or 0)
        if bad:
            where = f"kept in {self.quarantine}" if self.quarantine else "skipped"
            lines.append(f"  bad rows     {bad:,} of {self.rows_read or 0:,}, {where}")
        if self.model is not None:
            lines.append(f"  model        {self.model['directory']}  {self.model['digest'][:19]}")
        if self.batch is not None:
            note = " (committed by an earlier run with this id; nothing was added)" if self.batch["existed"] else ""
            if waiting := self.batch.get("waiting"):
                note = f" of this shard; the batch waits for {waiting} more"
            lines.append(f"  batch        {self.batch['dataset']}  {self.batch['rows']:,} rows{note}")
        return "\n".join(lines)


_TERMINAL = 80
"""Columns that every terminal has."""


def _metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics with their intervals, then those of each slice in a table."""
    values = metrics.get("metrics", ())
    width = max((len(metric["name"]) for metric in values), default=0)
    lines = []
    for metric in values:
        between = f"   {metric['low']:.6g} – {metric['high']:.6g}" if metric.get("low") is not None else ""
        lines.append(f"  {metric['name']:<{width}}  {_number(metric['value']):>12}{between}")
    slices = metrics.get("slices", ())
    if slices:
        lines += _slice_lines(slices, [metric["name"] for metric in values])
    return lines


def _slice_lines(slices: Sequence[Mapping[str, Any]], columns: list[str]) -> list[str]:
    """A row a slice; where the metrics are too many for a terminal, several tables."""
    names = [_short(f"{one['column']} {one['value']}") for one in slices]
    width = max(map(len, names))
    room = _TERMINAL - 2 - width - 2 - 9
    lines = []
    while columns:
        many = 1
        while many < len(columns) and sum(_wide(name) + 2 for name in columns[: many + 1]) <= room:
            many += 1
        shown, columns = columns[:many], columns[many:]
        lines.append(
            "  " + "  ".join(["".ljust(width), f"{'cases':>9}", *(f"{name:>{_wide(name)}}" for name in shown)])
        )
        for name, one in zip(names, slices, strict=True):
            by_name = {metric["name"]: metric["value"] for metric in one["metrics"]}
            cells = [f"{_number(by_name.get(column), 4):>{_wide(column)}}" for column in shown]
            lines.append("  " + "  ".join([name.ljust(width), f"{one['cases']:>9,}", *cells]))
    return lines


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"


def _wide(name: str) -> int:
    return max(len(name), 9)


def _number(value: float | None, digits: int = 6) -> str:
    return "undefined" if value is None else f"{value:.{digits}g}"
