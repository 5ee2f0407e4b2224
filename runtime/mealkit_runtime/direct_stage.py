"""A batch whose files are written where they stay: what makes it visible is a record elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mealkit.errors import MealkitError, StorageError, UnreachableError

from .batch_record import PARTITION, Part, Record, folder_of
from .destination import Leftover
from .part import Sink
from .shelf import Shelf

SHARDS = "_mealkit/shards"
"""The folder of the boards; its name keeps readers of hive partitions, and Delta's vacuum, away."""


class DirectStage:
    """Files below ``batch_id=ID/``, which are removed unless they are committed or kept.

    Args:
        shelf: The files of the dataset.
        batch_id: Whose files these are.
        commit: Makes a batch visible, or gives the record of the one that was there.
        sure: Whether a commit that failed, other than by a lost answer, is known to have made nothing visible.
    """

    def __init__(
        self, shelf: Shelf, batch_id: str, commit: Callable[[Record, Any], Record | None], *, sure: bool = True
    ) -> None:
        self.shelf = shelf
        self.sure = sure
        self.folder = folder_of(batch_id)
        self._commit = commit
        self._names: set[str] = set()

    def sink(self, name: str) -> Sink:
        """Begin a file of the batch."""
        path = f"{self.folder}/{name}"
        self._names.add(path)
        return self.shelf.sink(path)

    def keep(self, part: Part) -> None:
        """The file outlives this run."""
        self._names.discard(f"{self.folder}/{part.name}")

    def drop(self, part: Part) -> None:
        """Remove a file that was kept."""
        self.shelf.remove(f"{self.folder}/{part.name}")

    def commit(self, record: Record, schema: Any, *, sharded: bool) -> Record | None:
        """Make the batch visible; otherwise the record of the one that is there.

        The answer to a commit may get lost: what then is found there may be our own batch, and what failed may have
        been committed. In both cases the files stay.
        """
        try:
            existing = self._commit(record, schema)
        except BaseException as error:
            if isinstance(error, UnreachableError) or not self.sure:
                self._names.clear()
            raise
        if existing is None or (not sharded and is_same(existing, record)):
            self._names.clear()
            return None
        return existing

    def close(self) -> None:
        """Remove the files that were neither committed nor kept."""
        for name in sorted(self._names):
            with contextlib.suppress(OSError):
                self.shelf.remove(name)
        self._names.clear()


def is_same(existing: Record, record: Record) -> bool:
    """Whether a batch that is there is the one that was just committed: the names of its files are no one else's."""
    return {part.name for part in existing.parts} == {part.name for part in record.parts}


def strangers(shelf: Shelf, record: Record) -> list[str]:
    """The files below a batch's folder that are not the batch's: once it is committed, nobody can commit them."""
    own = {record.path(part) for part in record.parts}
    return [name for name in shelf.names(folder_of(record.batch_id)) if name not in own]


def remove_all(shelf: Shelf, names: Sequence[str]) -> None:
    """Remove files that nobody needs; what cannot be removed now stays for ``mealkit batches DATASET clean``."""
    with contextlib.suppress(OSError, MealkitError):
        for name in names:
            shelf.remove(name)


def board_of(batch_id: str) -> str:
    """Where the shards of a run tell that they are done."""
    return f"{SHARDS}/{batch_id}"


def need_files(shelf: Shelf, record: Record) -> None:
    """Check that the files of a batch are there right before it is committed: of a batch without one, no row is read.

    Raises:
        StorageError: one is gone.
    """
    there = set(shelf.names(folder_of(record.batch_id)))
    gone = [record.path(part) for part in record.parts if record.path(part) not in there]
    if gone:
        raise StorageError(
            "a file of the batch was removed before the batch was committed",
            where=gone[0],
            hint="remove what is left (mealkit batches DATASET clean --run-id ID), then run all shards again"
            if record.provenance.get("shards")
            else "run the same command again; is there a rule, or a vacuum, that removes new files?",
        )


def forgotten(
    shelf: Shelf, known: Callable[[], set[str]], now: float, idle: Mapping[str, Sequence[str]] | None = None
) -> list[Leftover]:
    """Boards, and files below ``batch_id=…`` that belong to no batch: of killed runs, or of living ones.

    Nothing tells a living run's files from a dead one's here, but their age.

    Args:
        shelf: The files of the dataset.
        known: The names of the files that the dataset knows; it is asked after the files were listed, so that what is
            committed meanwhile counts.
        now: Seconds since the epoch.
        idle: The names of further ones that nobody needs, by batch.
    """
    boards: dict[str, list[str]] = {}
    for name in shelf.names(SHARDS):
        boards.setdefault(name.removeprefix(f"{SHARDS}/").partition("/")[0], []).append(name)
    files = {batch_id: list(names) for batch_id, names in (idle or {}).items() if names}
    names = [name for name in shelf.names("") if name.startswith(f"{PARTITION}=")]
    visible = known() if names else set()
    for name in names:
        if name not in visible:
            files.setdefault(name.partition("=")[2].partition("/")[0], []).append(name)
    found = []
    for batch_id in sorted({*boards, *files}):
        names = [*files.get(batch_id, ()), *boards.get(batch_id, ())]
        what = "unfinished shards" if batch_id in boards else "unfinished work"
        found.append(_leftover(shelf, batch_id, what, names, now))
    return found


def _leftover(shelf: Shelf, batch_id: str, what: str, names: list[str], now: float) -> Leftover:
    def remove() -> None:
        for name in names:
            shelf.remove(name)

    return Leftover(batch_id, what, sum(map(shelf.size, names)), min(shelf.age(name, now) for name in names), remove)
