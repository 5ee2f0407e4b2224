"""The outline of a run's result, for a place of few bytes: the termination message of a Kubernetes pod."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from .events import json_line, plain
from .result import RunResult

MOST = 4096
"""Bytes that Kubernetes keeps of a message; half of a JSON object would tell nothing."""


def outline(result: RunResult, change: Callable[[str], str] = str) -> str:
    """A result as one line of JSON of at most :data:`MOST` bytes; what does not fit is left out, the metrics first.

    Args:
        result: Of a run that ended, however it did.
        change: Every text passes through it.
    """
    error, batch, metrics = result.error or {}, result.batch or {}, result.metrics or {}
    facts = {
        "status": result.status,
        "exit_code": result.exit_code,
        "mode": result.mode,
        "run_id": result.run_id,
        "error": {name: error.get(name) for name in ("code", "message", "where", "hint")} if error else None,
        "batch": {name: batch.get(name) for name in ("dataset", "rows", "existed", "waiting")} if batch else None,
        "rows_read": result.rows_read,
        "rows_skipped": result.rows_skipped,
        "rows_quarantined": result.rows_quarantined,
        "seconds": result.seconds.get("total"),
        "model": result.model,
        "metrics": {one["name"]: one["value"] for one in metrics.get("metrics", ())},
    }
    kept = {name: plain(value, change) for name, value in facts.items() if value is not None and value != {}}
    while len((text := json_line(kept)).encode()) > MOST:
        kept.popitem()
    return text


def write_outline(file: str, result: RunResult, change: Callable[[str], str]) -> None:
    """Write the outline over what the file holds; a run is no worse for a message that nobody gets."""
    with contextlib.suppress(OSError):
        # Not by a rename, as results are: Kubernetes mounts this very file.
        Path(file).write_text(outline(result, change), encoding="utf-8")
