"""What the log of a Delta table tells of its batches: which are there, and of which files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from .batch_record import PARTITION, Part


def application_of(batch_id: str) -> str:
    """The name of the application transaction of a batch."""
    return f"mealkit:{batch_id}"


def version_of(table: Any, batch_id: str) -> int:
    """The application transaction's version; 0: the batch was never committed."""
    return int(table.transaction_version(application_of(batch_id)) or 0)


def is_there(table: Any, batch_id: str) -> bool:
    """Whether a batch was committed, and was not undone since."""
    return bool(version_of(table, batch_id) % 2)


def files_of(table: Any, batch_id: str | None = None) -> dict[str, list[Part]]:
    """The files that the table has of each batch, or of one; rows that others wrote may have no batch at all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, list[Part]] = {}
    actions = pa.table(table.get_add_actions(flatten=True))
    keys = actions[f"partition.{PARTITION}"]
    wanted = pc.is_valid(keys) if batch_id is None else pc.equal(keys, batch_id)
    for row in actions.filter(wanted).to_pylist():
        name = PurePosixPath(unquote(row["path"])).name
        part = Part(name, int(row["size_bytes"]), "", row.get("num_records"))
        found.setdefault(row[f"partition.{PARTITION}"], []).append(part)
    return {key: sorted(parts, key=lambda part: part.name) for key, parts in sorted(found.items())}


def paths_of(table: Any) -> set[str]:
    """The names, relative to the table, of all files that its log knows: those that it has, and has removed.

    The latter belong to older versions, which readers may have opened, until they are vacuumed.
    """
    import pyarrow as pa

    there = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
    removed = table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True)
    # In the log they are quoted as in a URL; what vacuum tells may be either.
    return {name for path in (*there, *removed) for name in (path, unquote(path))}
