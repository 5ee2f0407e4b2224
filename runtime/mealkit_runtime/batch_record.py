"""The commit record of a batch: what it is made of, and what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from mealkit.errors import StorageError
from mealkit.saver import BatchRecord

PARTITION = "batch_id"
"""The column that readers of hive partitions, and of Delta tables, get."""

_FORMAT = 1


@dataclass(frozen=True)
class Part:
    """One file of a batch.

    Attributes:
        name: Relative to the batch's folder ``batch_id=ID``.
        size: Bytes.
        sha256: Of its bytes, in hex; empty where it is not known.
        rows: How many rows it has; None where it is not known.
    """

    name: str
    size: int
    sha256: str = ""
    rows: int | None = None


@dataclass(frozen=True)
class Record:
    """What a committed batch is, and what it was made from.

    Attributes:
        batch_id: Its name; the id of the run.
        rows: How many rows it has.
        parts: Its files, in the order of the input.
        committed: When it was committed: UTC in ISO 8601 with microseconds; empty in batches of older versions.
        provenance: Run, recipe, image, model and input, by these names.
    """

    batch_id: str
    rows: int
    parts: tuple[Part, ...]
    committed: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> str:
        """When the batch was committed, or else when its run began."""
        return self.committed or str(self.provenance.get("created") or "")

    def path(self, part: Part) -> str:
        """Where a file is, relative to the dataset."""
        return f"{folder_of(self.batch_id)}/{part.name}"

    def batch(self, dataset: str, *, existed: bool) -> BatchRecord:
        """The record as the SDK gives it to callers."""
        return BatchRecord(self.batch_id, dataset, self.rows, tuple(map(self.path, self.parts)), existed=existed)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        files = []
        for part in self.parts:
            facts = {"name": part.name, "size": part.size, "sha256": part.sha256 or None, "rows": part.rows}
            files.append({key: value for key, value in facts.items() if value is not None})
        return {
            "format": _FORMAT,
            "batch_id": self.batch_id,
            "rows": self.rows,
            "files": files,
            "committed": self.committed,
            **self.provenance,
        }

    def to_text(self) -> str:
        """The record as it is written."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


def folder_of(batch_id: str) -> str:
    """The folder of a batch, relative to the dataset."""
    return f"{PARTITION}={batch_id}"


def parse_record(text: bytes | str, where: object) -> Record:
    """The record that ``text`` holds.

    Raises:
        StorageError: it is not one, or of a newer format.
    """
    try:
        value = json.loads(text)
        if value["format"] != _FORMAT:
            raise ValueError
        parts = tuple(
            Part(str(file["name"]), int(file["size"]), str(file.get("sha256") or ""), file.get("rows"))
            for file in value["files"]
        )
        known = ("format", "batch_id", "rows", "files", "committed")
        provenance = {key: facts for key, facts in value.items() if key not in known}
        return Record(str(value["batch_id"]), int(value["rows"]), parts, str(value.get("committed") or ""), provenance)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StorageError(
            "the record of a batch cannot be read", where=str(where), hint="was it written by a newer mealkit?"
        ) from None


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records by the time of their commit, oldest first."""
    return sorted(records, key=lambda record: (record.time, record.batch_id))


def digest_of(file: BinaryIO) -> tuple[int, str]:
    """Size and sha256 of an open file, read in pieces."""
    size, digest = 0, hashlib.sha256()
    while piece := file.read(1 << 20):
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


def merged_input(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a batch of several shards was made from: as each of them says, but for the rows, which add up."""
    counts = {name: sum(int(facts.get(name) or 0) for facts in inputs) for name in ("rows", "rows_used")}
    return {**inputs[0], **counts}
