"""Batches in object storage, where nothing can be renamed: a log of commit records decides what is visible.

.. code-block:: text

    DATASET/
      batch_id=RUN/part-00000-xxxx.parquet   data; the name gives readers of hive partitions a column batch_id
      _mealkit/log.json                      says that this is such a dataset; made before the first file
      _mealkit/commits/RUN.json              the commit record: the batch is its files, and no others
      _mealkit/shards/RUN/…                  which shards of an unfinished batch are done

The record is put only if there is none (``If-None-Match: *``): of two runs with one id the first wins, and the other
removes its file, and finds the batch. mealkit reads no file below ``batch_id=…`` that no record names. Readers that
list the folders instead (pandas, pyarrow, Spark, DuckDB) see a file as soon as it is uploaded: of a batch of one
file, in the moment before its commit; of a batch of shards, each as it is done; of a run that was killed in between,
until it is cleaned. Who needs them to see whole batches only takes a Delta table.

What a store has answered it keeps: durability is the store's own, and there is nothing to be forced to a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mealkit.errors import StorageError

from .batch_record import PARTITION, Record, in_order, parse_record
from .destination import Leftover, Stage
from .direct_stage import DirectStage, board_of, forgotten, need_files, remove_all, strangers
from .shelf import Shelf
from .stop import Stopper

LOG = "_mealkit/log.json"
COMMITS = "_mealkit/commits"


class CommitLog:
    """A dataset in object storage; see the module."""

    kind = "parquet"
    suffixed = True

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def fitting(self, schema: Any) -> Any:
        """Any batch may have any columns."""
        return schema

    def find(self, batch_id: str) -> Record | None:
        """The record of a committed batch."""
        text = self.shelf.read(_name(batch_id))
        return None if text is None else parse_record(text, _name(batch_id))

    def records(self) -> list[Record]:
        """The records of all batches, oldest first."""
        found = []
        for name in self.shelf.names(COMMITS):
            text = self.shelf.read(name)
            if text is not None:  # undone just now
                found.append(parse_record(text, name))
        return in_order(found)

    def stage(self, batch_id: str, stopper: Stopper) -> Stage:
        """Begin a batch."""
        self.shelf.create(LOG, b'{"format": 1}\n')
        return DirectStage(self.shelf, batch_id, self._commit)

    def tidy(self) -> None:
        """Nothing: see :func:`~mealkit_runtime.direct_stage.forgotten`."""

    def board(self, batch_id: str) -> str:
        """Where the shards of a run tell that they are done."""
        return board_of(batch_id)

    def undo(self, record: Record) -> None:
        """Remove the record, which is what makes it a batch for mealkit; then its files, for good."""
        if self.shelf.read(_name(record.batch_id)) is None:
            raise FileNotFoundError(_name(record.batch_id))
        self.shelf.remove(_name(record.batch_id))
        for part in record.parts:
            self.shelf.remove(record.path(part))

    def forgotten(self, now: float) -> list[Leftover]:
        """Boards, and files that no record names."""

        def known() -> set[str]:
            return {record.path(part) for record in self.records() for part in record.parts}

        return forgotten(self.shelf, known, now)

    def _commit(self, record: Record, schema: Any) -> Record | None:
        try:
            need_files(self.shelf, record)
        except StorageError:
            # Another shard that was last may have committed; and what it committed may be gone by now.
            if (existing := self.find(record.batch_id)) is not None:
                return existing
            raise
        left = strangers(self.shelf, record)  # by runs of this id that were killed, or that will find this batch
        while not self.shelf.create(_name(record.batch_id), record.to_text().encode()):
            if (existing := self.find(record.batch_id)) is not None:
                return existing
            # It was undone just now.
        remove_all(self.shelf, left)
        return None


def _name(batch_id: str) -> str:
    return f"{COMMITS}/{batch_id}.json"


def visible(names: Sequence[str], read: Callable[[str], bytes]) -> Callable[[str], bool]:
    """Which of a dataset's files, by their names below it, readers of ours see.

    Args:
        names: All of them, also those that begin with ``_``.
        read: Gives the content of a small one.
    """
    if LOG not in names:
        return lambda name: True
    records = [parse_record(read(name), name) for name in names if name.startswith(f"{COMMITS}/")]
    committed = {record.path(part) for record in records for part in record.parts}
    return lambda name: name in committed or not name.startswith(f"{PARTITION}=")
