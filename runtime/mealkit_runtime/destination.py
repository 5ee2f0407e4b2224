"""The datasets that batches are added to: what all of them can do, and which one a URI means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mealkit.errors import SettingsError

from .batch_record import Part, Record
from .dataset import local_path
from .part import Sink
from .shelf import Shelf
from .stop import Stopper

DELTA = "delta:"
LOG = "_delta_log"


@dataclass(frozen=True)
class Leftover:
    """Something that no reader sees and no one needs.

    Attributes:
        batch_id: Whose it is.
        what: ``undone batch``, ``unfinished shards`` or ``unfinished work``.
        size: Bytes.
        age: Seconds since the last of it was written.
        remove: Removes it.
    """

    batch_id: str
    what: str
    size: int
    age: float
    remove: Callable[[], None] = field(repr=False)


class Stage(Protocol):
    """A batch, or a shard of one, that is being written; no reader sees it."""

    def sink(self, name: str) -> Sink:
        """Begin a file of the batch."""

    def keep(self, part: Part) -> None:
        """The file of a shard is whole: it is to outlive this run, and to wait for the other shards."""

    def drop(self, part: Part) -> None:
        """A file that was kept is not wanted: another process wrote the same shard before."""

    def commit(self, record: Record, schema: Any, *, sharded: bool) -> Record | None:
        """Make the batch visible; otherwise the record of the one that another run with this id committed.

        Args:
            record: What the batch is made of.
            schema: The Arrow schema of its files.
            sharded: Its files were kept by several runs.
        """

    def close(self) -> None:
        """Remove what was neither committed nor kept."""


class Destination(Protocol):
    """A dataset that batches are added to."""

    kind: str
    """``parquet`` or ``delta``."""
    shelf: Shelf
    """Its files."""
    suffixed: bool
    """Files are written where they stay, so that two attempts need different names."""

    def fitting(self, schema: Any) -> Any:
        """The Arrow schema in which rows of ``schema`` are written here.

        Raises:
            RecipeError: the dataset cannot hold them.
        """

    def find(self, batch_id: str) -> Record | None:
        """The record of a committed batch; None: there is none of this id."""

    def records(self) -> list[Record]:
        """The records of all committed batches, oldest first."""

    def stage(self, batch_id: str, stopper: Stopper) -> Stage:
        """Begin a batch."""

    def board(self, batch_id: str) -> str:
        """The folder on the shelf where the shards of a run tell that they are done."""

    def undo(self, record: Record) -> None:
        """Take a batch away from all readers at once."""

    def forgotten(self, now: float) -> list[Leftover]:
        """What runs that were killed or given up, and undone batches, left behind."""


def destination(uri: str) -> Destination:
    """The dataset that an output URI means; nothing is made yet.

    Raises:
        SettingsError: batches cannot be added to it.
    """
    delta = uri.startswith(DELTA) or uri.partition("://")[0].endswith("+delta")
    bare = uri.removeprefix(DELTA).replace("+delta://", "://", 1)
    scheme, separator, _ = bare.partition("://")
    if separator and scheme.lower() != "file":
        return _remote(uri, bare, delta=delta)
    path = local_path(bare, "output").absolute()
    if path.is_file():
        raise SettingsError(
            "the output is a file, and batches are added to a folder", where=f"output {uri}", hint="name a folder"
        )
    if delta or (path / LOG).is_dir():
        return _delta(str(path), path)
    from .batch_folder import BatchFolder

    return BatchFolder(path)


def _delta(uri: str, folder: Path) -> Destination:
    from .delta_batch import DeltaTableOfBatches
    from .shelf import FolderShelf

    return DeltaTableOfBatches(uri, FolderShelf(folder))


def _remote(uri: str, bare: str, *, delta: bool) -> Destination:
    from .cloud_shelf import CloudShelf

    shelf = CloudShelf(bare)
    if delta or shelf.names(LOG):
        from .delta_batch import DeltaTableOfBatches

        return DeltaTableOfBatches(bare, shelf)
    from .commit_log import CommitLog

    return CommitLog(shelf)
