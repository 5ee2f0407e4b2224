"""The datasets that batches are added to: what all of them can do, and which one a URI means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mealkit.errors import SettingsError

from .batch_record import Part, Record
from .delta import LOG, is_table, split_uri, storage_options
from .file_system import AZURE, GOOGLE, S3, Location, resolve
from .part import Sink
from .shelf import FolderShelf, Shelf
from .stop import Stopper


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

    def tidy(self) -> None:
        """Remove what killed runs left, where the living can be told from the dead."""

    def board(self, batch_id: str) -> str:
        """The folder on the shelf where the shards of a run tell that they are done."""

    def undo(self, record: Record) -> None:
        """Take a batch away from all readers at once."""

    def forgotten(self, now: float) -> list[Leftover]:
        """What runs that were killed or given up, and undone batches, left behind."""


def destination(uri: str) -> Destination:
    """The dataset that an output URI means; nothing is made yet.

    Args:
        uri: A folder, ``s3://…``, ``gs://…``, ``az://…``. As for inputs, ``delta:URI`` or ``delta+SCHEME://…`` is a
            Delta table, and so is a folder that has a log.

    Raises:
        SettingsError: batches cannot be added to it.
        UsageError: a package that it needs is missing.
    """
    plain, version, delta = split_uri(uri)
    location = resolve(plain, "output")
    if version is not None:
        if delta or is_table(location):
            raise SettingsError(
                "a batch is added to the newest version of a table", where=f"output {uri}", hint="leave the version out"
            )
        location = resolve(uri, "output")  # a name that only looks like it
    if location.local is None:
        return _far(location, delta)
    path = location.local.absolute()
    if path.is_file():
        raise SettingsError(
            "the output is a file, and batches are added to a folder", where=f"output {uri}", hint="name a folder"
        )
    if delta or is_table(location):
        from .delta_batch import DeltaTableOfBatches

        return DeltaTableOfBatches(str(path), FolderShelf(path))
    from .batch_folder import BatchFolder

    return BatchFolder(path)


def _far(location: Location, delta: bool) -> Destination:
    if location.kind not in (S3, GOOGLE, AZURE):
        raise SettingsError(
            f"{location.kind}:// cannot be written to",
            where=f"output {location.uri}",
            hint="use a local path, s3://, gs:// or az://",
        )
    from .cloud_shelf import CloudShelf

    shelf = CloudShelf(location.uri)
    if delta or shelf.names(LOG):
        from .delta_batch import DeltaTableOfBatches

        return DeltaTableOfBatches(location.uri, shelf, storage_options(location))
    from .commit_log import CommitLog

    return CommitLog(shelf)
