"""Batches in a local folder of Parquet files: one rename makes a batch visible.

.. code-block:: text

    DATASET/
      batch_id=RUN/               one batch; the name gives readers of hive partitions a column batch_id
        part-00000.parquet
        _batch.json               the commit record: run, recipe, image, model, input, rows, sha256 of each file
      .mealkit-staging/RUN-xxxx/  unfinished work, which is gone when the run is over; readers leave it out
      .mealkit-shards/RUN/        finished shards of an unfinished batch
      .mealkit-undone/RUN-TIME/   a batch that was undone

A batch is written in the staging folder and becomes visible by one rename of its folder. A folder cannot be renamed
onto one that has files, so of two runs with one id the first wins and the other finds its batch there. What killed runs
left in the staging folder is removed by the next run that writes: a lock tells the living from the dead.

A power cut harms nothing, as what a step builds on is forced to the disk before it: (1) each data file, (2) the commit
record, (3) the staging folder with their names, (4) the rename, (5) the dataset's folder with the batch's name. Folders
that are made on the way are forced into theirs. A cut before (4) leaves a staging folder, one between (4) and (5)
either that or the whole batch, never a part of it; a run that has ended well has a batch that stays. ``fsync`` is what
the file system makes of it: a disk that lies about its cache, or a file system mounted with ``nobarrier``, is not made
safe.

The shards of a run keep their files in ``.mealkit-shards/RUN/``. The last one links them into a staging folder of its
own, which the same rename makes the batch: if two of them are last at once, the first wins again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from mealkit.errors import StorageError, storage_error

from .batch_record import PARTITION, Part, Record, folder_of, in_order, parse_record
from .destination import Leftover, Stage
from .files import STAGING, make_folder, sync
from .shelf import FileSink, FolderShelf, Shelf
from .staging import is_dead, leave_stage, stage_folder, tidy_stage
from .stop import Stopper

RECORD = "_batch.json"
SHARDS = ".mealkit-shards"
UNDONE = ".mealkit-undone"


class BatchFolder:
    """A dataset in a local folder; see the module."""

    kind = "parquet"
    suffixed = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shelf: Shelf = FolderShelf(root)

    def fitting(self, schema: Any) -> Any:
        """Any batch may have any columns."""
        return schema

    def find(self, batch_id: str) -> Record | None:
        """The record of a committed batch."""
        return read_record(self.root / folder_of(batch_id))

    def records(self) -> list[Record]:
        """The records of all batches, oldest first."""
        folders = sorted(self.root.glob(f"{PARTITION}=*")) if self.root.is_dir() else []
        return in_order(record for folder in folders if (record := read_record(folder)) is not None)

    def stage(self, batch_id: str, stopper: Stopper) -> Stage:
        """Begin a batch in a staging folder of its own."""
        return StagedFolder(self.root, batch_id, stopper)

    def tidy(self) -> None:
        """Remove the staging folders of the dead."""
        tidy_stage(self.root)

    def board(self, batch_id: str) -> str:
        """Where the shards of a run tell that they are done, and keep their files."""
        return f"{SHARDS}/{batch_id}"

    def undo(self, record: Record) -> None:
        """Move a batch out of the readers' sight, by one rename; it is kept until it is cleaned."""
        root = self.root / UNDONE
        make_folder(root)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = Path(tempfile.mkdtemp(prefix=f"{record.batch_id}-{stamp}-", dir=root))
        try:
            (self.root / folder_of(record.batch_id)).rename(target)  # onto an empty folder: that is allowed
        except FileNotFoundError:
            target.rmdir()
            raise
        sync(root)
        sync(self.root)

    def forgotten(self, now: float) -> list[Leftover]:
        """Undone batches, unfinished shards, and the staging folders of the dead."""
        found: list[Leftover] = []
        kinds = ((STAGING, "unfinished work", 1), (SHARDS, "unfinished shards", 0), (UNDONE, "undone batch", 2))
        for name, what, tail in kinds:
            root = self.root / name
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                if name == STAGING and not is_dead(folder):
                    continue
                batch_id = folder.name.rsplit("-", tail)[0] if tail else folder.name
                found.append(_leftover(folder, batch_id, what, now))
        return found


def _leftover(folder: Path, batch_id: str, what: str, now: float) -> Leftover:
    size, newest = 0, 0.0
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            size += facts.st_size if path.is_file() else 0
            newest = max(newest, facts.st_mtime)

    def remove() -> None:
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()  # if nothing else is in it

    return Leftover(batch_id, what, size, max(0.0, now - newest), remove)


class StagedFolder:
    """A batch that is being written in a staging folder, which its lock tells to be alive."""

    def __init__(self, root: Path, batch_id: str, stopper: Stopper) -> None:
        self.root = root
        self.batch_id = batch_id
        self.stopper = stopper
        self._resources = contextlib.ExitStack()
        self._is_new = not root.exists()
        try:
            self._folder: Path | None = stage_folder(root, batch_id, stopper, self._resources)
        except BaseException:
            self._folder = None
            self.close()
            raise

    @property
    def folder(self) -> Path:
        """Where the files are until the commit."""
        assert self._folder is not None, "it is closed"
        return self._folder

    def sink(self, name: str) -> FileSink:
        """Begin a file of the batch."""
        return FileSink(self.folder / name)

    def keep(self, part: Part) -> None:
        """Move a shard's file to those of the other shards."""
        kept = self.root / SHARDS / self.batch_id
        while True:
            make_folder(kept)
            try:
                (self.folder / part.name).rename(kept / part.name)
                break
            except FileNotFoundError:
                if kept.exists():
                    raise
        sync(kept)

    def drop(self, part: Part) -> None:
        """Remove a shard's file from those of the other shards."""
        (self.root / SHARDS / self.batch_id / part.name).unlink(missing_ok=True)

    def commit(self, record: Record, schema: Any, *, sharded: bool) -> Record | None:
        """Make the batch visible by one rename; otherwise the record of the one that is there."""
        try:
            for part in record.parts if sharded else ():
                _link(self.root / SHARDS / self.batch_id / part.name, self.folder / part.name)
        except FileNotFoundError:
            existing = read_record(self.root / folder_of(self.batch_id))
            if existing is None:
                raise
            return existing  # another shard was last as well, and has committed and cleared
        with (self.folder / RECORD).open("w", encoding="utf-8") as file:
            file.write(record.to_text())
            file.flush()
            os.fsync(file.fileno())
        sync(self.folder)
        try:
            self.folder.rename(self.root / folder_of(self.batch_id))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            existing = read_record(self.root / folder_of(self.batch_id))  # another run with this id was faster
            if existing is None:
                raise StorageError(
                    "the batch's folder is there, but has no commit record",
                    where=str(self.root / folder_of(self.batch_id)),
                    hint="someone else made it: move it away, or give another --run-id",
                ) from None
            return existing
        sync(self.root)
        return None

    def close(self) -> None:
        """Remove what was neither committed nor kept."""
        folder, self._folder = self._folder, None
        if folder is not None:
            leave_stage(folder)
        with contextlib.suppress(OSError):
            if self._is_new:
                self.root.rmdir()  # unless a batch is in it
        self._resources.close()


def read_record(folder: Path) -> Record | None:
    """The commit record of a batch's folder; None when it is no committed batch."""
    try:
        text = (folder / RECORD).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, "reading the record of a batch") from None
    return parse_record(text, folder / RECORD)


def _link(source: Path, target: Path) -> None:
    """A second name for a file; where the file system knows none, a copy."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV):
            raise
        shutil.copyfile(source, target)
        sync(target)
