"""The default saver: adds a batch to a dataset of Parquet files, all or nothing, and once for a run id.

.. code-block:: text

    DATASET/
      batch_id=RUN/               one batch; the name gives readers of hive partitions a column batch_id
        part-00000.parquet
        _batch.json               the commit record: run, recipe, image, model, input, rows, sha256 of each file
      .mealkit-staging/RUN-xxxx/  unfinished work, which is gone when the run is over; readers leave it out

A batch is written in the staging folder, forced to the disk, and becomes visible by one rename of its folder. A folder
cannot be renamed onto one that has files, so of two runs with one id the first wins and the other finds its batch
there. What killed runs left in the staging folder is removed by the next run that writes: a lock tells the living from
the dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.context import Context
from mealkit.errors import MealkitError, RecipeError, StorageError, storage_error
from mealkit.saver import BatchRecord, DataSaver

from .dataset import local_path
from .files import STAGING, sync, umask
from .stop import Stopper

if TYPE_CHECKING:
    import pandas as pd

RECORD = "_batch.json"
PARTITION = "batch_id"
_PART = "part-00000.parquet"
_FORMAT = 1


class ParquetBatchSaver(DataSaver):
    """Writes a batch as one Parquet file; see the module.

    Args:
        provenance: What the commit record tells beside the batch: recipe, image, model, input.
        schema: The Arrow schema of the output; None: that of the first rows.
        stopper: Keeps signals away from the commit.
    """

    def __init__(self, provenance: Mapping[str, object], schema: Any = None, stopper: Stopper | None = None) -> None:
        self.provenance = provenance
        self.schema = schema
        self.stopper = stopper or Stopper()
        self._resources = contextlib.ExitStack()
        self._dataset = Path()
        self._name = ""
        self._batch_id = ""
        self._folder: Path | None = None
        self._is_new = False
        self._writer: Any = None
        self._rows = 0

    def open(self, dataset: str, context: Context[Any]) -> BatchRecord | None:
        """Begin a batch; the record of the one that this run id committed before, if it did.

        Raises:
            StorageError: the dataset's folder cannot be written.
        """
        self._name, self._batch_id = dataset, context.run_id
        self._dataset = local_path(dataset, "output").absolute()
        existing = self._existing()
        if existing is not None:
            return existing
        with _disk("making the batch's folder", self._dataset):
            self._is_new = not self._dataset.exists()
            self._folder = self._stage()
        return None

    def write(self, rows: pd.DataFrame) -> None:
        """Add output rows."""
        import pyarrow as pa

        self.write_table(pa.Table.from_pandas(rows, preserve_index=False))

    def write_table(self, table: Any) -> None:
        """Add output rows as an Arrow table, which saves the way through pandas.

        Raises:
            RecipeError: a column has another type than in the first rows, or is named as the partition.
            StorageError: the disk is full or failed.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self._folder is not None, "open comes first"
        table = table.replace_schema_metadata(None)
        if PARTITION in table.column_names:
            raise RecipeError(
                f"the output has a column {PARTITION!r}, which names the batches of a dataset",
                where=f"column {PARTITION}",
                hint="give the column another name",
            )
        if self.schema is None:
            self.schema = table.schema
        try:
            table = table.select(self.schema.names).cast(self.schema)
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise RecipeError(
                f"the scorer's batches do not have the same columns and types: {error}",
                where="output",
                hint="declare the output rows in [tool.mealkit], then every batch is written in their types",
            ) from None
        with _disk("writing the batch", self._dataset):
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._folder / _PART, self.schema, compression="zstd")
            self._writer.write_table(table)
        self._rows += len(table)

    def commit(self) -> BatchRecord:
        """Make the batch visible by one rename.

        Raises:
            StorageError: the disk is full or failed; nothing became visible.
        """
        import pyarrow as pa

        assert self._folder is not None, "open comes first"
        if self._writer is None:
            self.write_table(pa.table({}) if self.schema is None else self.schema.empty_table())
        target = self._dataset / f"{PARTITION}={self._batch_id}"
        with _disk("committing the batch", self._dataset):
            self._writer.close()
            part = self._folder / _PART
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            record = {
                "format": _FORMAT,
                "batch_id": self._batch_id,
                "rows": self._rows,
                "files": [{"name": _PART, "size": part.stat().st_size, "sha256": digest}],
                **self.provenance,
            }
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            (self._folder / RECORD).write_text(text, encoding="utf-8")
            for path in (part, self._folder / RECORD, self._folder):
                sync(path)
            with self.stopper.shielded():
                try:
                    self._folder.rename(target)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    existing = self._existing()  # another run with this id was faster
                    self.abort()
                    assert existing is not None
                    return existing
                sync(self._dataset)
                self._close()
        return BatchRecord(self._batch_id, self._name, self._rows, (f"{target.name}/{_PART}",))

    def abort(self) -> None:
        """Remove what was staged."""
        with self.stopper.shielded():
            if self._writer is not None:
                with contextlib.suppress(OSError):
                    self._writer.close()
            self._close()

    def _close(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()  # unless another run works there
                if self._is_new:
                    self._dataset.rmdir()  # unless a batch is in it
        self._resources.close()

    def _existing(self) -> BatchRecord | None:
        folder = self._dataset / f"{PARTITION}={self._batch_id}"
        record = read_record(folder)
        if record is None:
            return None
        files = tuple(f"{folder.name}/{item['name']}" for item in record["files"])
        return BatchRecord(self._batch_id, self._name, int(record["rows"]), files, existed=True)

    def _stage(self) -> Path:
        root = self._dataset / STAGING
        for _ in range(20):
            root.mkdir(parents=True, exist_ok=True)
            _remove_dead(root)
            with contextlib.suppress(FileNotFoundError):  # another run that ends may remove the empty root just now
                root.mkdir(exist_ok=True)
                folder = Path(tempfile.mkdtemp(prefix=f"{self._batch_id}-", dir=root))
                folder.chmod(0o777 & ~umask())  # mkdtemp gives 0700; who may read a batch is the caller's umask
                self._resources.enter_context(self.stopper.staging(folder))
                self._resources.enter_context(_locked(folder))
                return folder
        raise StorageError(
            "the staging folder disappears again and again", where=str(root), hint="let only mealkit write in it"
        )


def read_record(folder: Path) -> dict[str, Any] | None:
    """The commit record of a batch's folder; None when it is no committed batch."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "reading the record of a batch") from None
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise StorageError(
            "the record of a batch cannot be read",
            where=str(folder / RECORD),
            hint="was it written by a newer mealkit?",
        )
    return record


def earlier_facts(record: BatchRecord) -> dict[str, Any]:
    """What the commit record of an earlier run's batch tells; nothing if another saver wrote it."""
    try:
        folder = local_path(record.dataset, "output") / f"{PARTITION}={record.batch_id}"
        return read_record(folder) or {}
    except MealkitError:
        return {}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock that says: whoever writes here is alive. The kernel drops it when the process dies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then nothing is taken for dead either
            fcntl.flock(handle, fcntl.LOCK_EX)  # waits at most for the blink in which another run tries it
        yield
    finally:
        os.close(handle)


def _remove_dead(root: Path) -> None:
    """Remove staging folders whose writer is gone."""
    for folder in root.iterdir():
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that has just made its folder has not locked it yet: it is empty, and left alone.
            if any(folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(handle)


@contextlib.contextmanager
def _disk(doing: str, where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing, where) from error
