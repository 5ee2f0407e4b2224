"""The default saver: adds a batch of Parquet files to a dataset, all or nothing, and once for a run id.

What makes a batch visible depends on the dataset: :mod:`~mealkit_runtime.batch_folder` (a local folder),
:mod:`~mealkit_runtime.commit_log` (object storage) and :mod:`~mealkit_runtime.delta_batch` (a Delta table).
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mealkit.context import Context
from mealkit.errors import EmptyDataError, MealkitError, RecipeError, StorageError, storage_error
from mealkit.saver import BatchRecord, DataSaver

from .batch_record import PARTITION, Part, Record, merged_input
from .destination import Destination, Stage, destination
from .part import PartWriter
from .shard import Shard
from .shard_board import Board, Mark
from .stop import Stopper

if TYPE_CHECKING:
    import pandas as pd


class ParquetBatchSaver(DataSaver):
    """Writes a batch, or a shard of one, as one Parquet file; see the module.

    Args:
        provenance: What the commit record tells beside the batch: recipe, image, model, input.
        schema: The Arrow schema of the output; None: that of the first rows.
        stopper: Keeps signals away from the commit.
        shard: Which part of the batch this is; None: all of it.
        clock: Seconds since the epoch.
        gathers: Whether the last shard commits the batch; otherwise someone else does, by :meth:`gather`.

    Attributes:
        bad_rows: How many rows were left out, by column and rule; a shard tells it with what it wrote.
        earlier: The record of the batch that an earlier run with this id committed.
    """

    def __init__(
        self,
        provenance: Mapping[str, Any],
        schema: Any = None,
        stopper: Stopper | None = None,
        shard: Shard | None = None,
        clock: Callable[[], float] = time.time,
        gathers: bool = True,
    ) -> None:
        self.provenance = provenance
        self.schema = schema
        self.stopper = stopper or Stopper()
        self.shard = shard
        self.clock = clock
        self.gathers = gathers
        self.bad_rows: Mapping[str, Mapping[str, int]] = {}
        self.earlier: Record | None = None
        self._name = ""
        self._batch_id = ""
        self._destination: Destination | None = None
        self._board: Board | None = None
        self._stage: Stage | None = None
        self._writer: PartWriter | None = None

    def find(self, dataset: str, batch_id: str) -> BatchRecord | None:
        """The record of the batch that an earlier run with this id committed; nothing is begun.

        Raises:
            StorageError: the dataset cannot be read.
        """
        self._name, self._batch_id = dataset, batch_id
        with self._disk("opening the dataset"):
            self._destination = destination(dataset)
            return self._existing(self._destination)

    def open(self, dataset: str, context: Context[Any]) -> BatchRecord | None:
        """Begin a batch; the record of the one that this run id committed before, if it did.

        Raises:
            StorageError: the dataset cannot be written.
            UsageError: the shards of this run make different batches.
        """
        if existing := self.find(dataset, context.run_id):
            return existing
        place = self._destination
        assert place is not None
        with self._disk("opening the dataset"):
            if self.shard is not None:
                self._board = Board(place.shelf, place.board(self._batch_id), self.shard)
                self._board.join(self._plan())
                if (mark := self._board.mark()) is not None:
                    return self._gather(mark, existed=True)
            self._stage = place.stage(self._batch_id, self.stopper)
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

        assert self._stage is not None, "open comes first"
        table = table.replace_schema_metadata(None)
        if PARTITION in table.column_names:
            raise RecipeError(
                f"the output has a column {PARTITION!r}, which names the batches of a dataset",
                where=f"column {PARTITION}",
                hint="give the column another name",
            )
        with self._disk("writing the batch"):
            if self._writer is None:
                self._begin(table.schema if self.schema is None else self.schema)
            assert self._writer is not None
            try:
                table = table.select(self._writer.schema.names).cast(self._writer.schema)
            except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise _unlike(str(error)) from None
            self._writer.write(table)

    def commit(self) -> BatchRecord:
        """Make the batch visible; a shard only does so when it is the last.

        Raises:
            StorageError: the disk is full or failed; nothing became visible.
        """
        import pyarrow as pa

        assert self._stage is not None, "open comes first"
        if self._writer is None and (self.schema is not None or self.shard is None):
            self.write_table(pa.table({}) if self.schema is None else self.schema.empty_table())
        with self._disk("committing the batch"):
            part, schema = None, None
            if self._writer is not None:
                part, schema = self._writer.close(), self._writer.schema
                self._writer = None
            with self.stopper.shielded():
                if self._board is None:
                    assert part is not None
                    return self._commit((part,), self.provenance, schema)
                if part is not None:
                    self._stage.keep(part)
                text = "" if schema is None else _to_text(schema)
                mark = Mark(part, text, self.provenance.get("input") or {}, self.bad_rows)
                first = self._board.done(mark)
                if not first and part is not None:
                    told = self._board.mark()
                    first = told is not None and told.part == part  # the answer to our own mark was lost
                    if not first:
                        self._stage.drop(part)  # another process of this shard was faster
                return self._gather(mark, existed=not first)

    def marks(self) -> list[Mark] | None:
        """What all shards told; None: not all are done, or the batch was committed."""
        assert self._board is not None, "open comes first"
        with self._disk("reading what the shards told"):
            return self._board.marks()

    def gather(self) -> BatchRecord:
        """All shards are done: make their batch visible.

        Raises:
            EmptyDataError: none of them found a row.
            StorageError: the disk is full or failed; nothing became visible.
        """
        with self._disk("committing the batch"), self.stopper.shielded():
            record = self._collect(None)
        if record is None:
            raise StorageError(
                "what the shards of the batch told is gone",
                where=self._name,
                hint="let only mealkit write there, then run the same command again",
            )
        return record

    def abort(self) -> None:
        """Remove what was staged."""
        with self.stopper.cleaning():
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.discard()
            self._close()

    def _begin(self, schema: Any) -> None:
        assert self._stage is not None
        assert self._destination is not None
        schema = self._destination.fitting(schema)
        token = f"-{secrets.token_hex(4)}" if self._destination.suffixed or self.shard is not None else ""
        name = f"part-{0 if self.shard is None else self.shard.index:05}{token}.parquet"
        self._writer = PartWriter(name, self._stage.sink(name), schema)

    def _plan(self) -> dict[str, object]:
        """What the shards of one batch have alike."""
        given = {name: dict(self.provenance.get(name) or {}) for name in ("recipe", "model", "input")}
        return {
            "recipe": given["recipe"].get("spec_digest"),
            "model": given["model"].get("digest"),
            "input": given["input"].get("fingerprint"),
            "query": given["input"].get("query"),
        }

    def _gather(self, mine: Mark, *, existed: bool) -> BatchRecord:
        """This shard is done: commit the batch if all are."""
        assert self._board is not None
        if (record := self._collect(mine)) is not None:
            return record
        rows = 0 if mine.part is None else int(mine.part.rows or 0)
        self._close()
        return BatchRecord(
            self._batch_id, self._name, rows, (), existed=existed, waiting=len(self._board.missing()) or 1
        )

    def _collect(self, mine: Mark | None) -> BatchRecord | None:
        """The batch of all shards, committed now or before; None: it is not time for it yet.

        Args:
            mine: What this shard told; None: whoever asks is none.
        """
        assert self._board is not None
        assert self._destination is not None
        marks = self._board.marks() if self.gathers or mine is None else None
        if marks is None:
            # Another shard that was last may have committed and cleared while the marks were read.
            return self._existing(self._destination, mine)
        parts = tuple(mark.part for mark in marks if mark.part is not None)
        if not parts or not sum(int(mark.input.get("rows") or 0) for mark in marks):
            self._board.clear()
            raise EmptyDataError(
                "no shard found a row", where=str(marks[0].input.get("uri")), hint="name a dataset that has rows"
            )
        told = [mark for mark in marks if mark.part is not None]
        for mark in told:
            if mark.schema != told[0].schema:
                raise _unlike(f"one shard wrote {_schema(told[0])}, another {_schema(mark)}")
        if self._stage is None:
            self._stage = self._destination.stage(self._batch_id, self.stopper)
        provenance = {
            **self.provenance,
            "input": merged_input([mark.input for mark in marks]),
            "shards": self._board.shard.count,
        }
        with self.stopper.shielded():
            return self._commit(parts, provenance, _schema(told[0]))

    def _commit(self, parts: tuple[Part, ...], provenance: Mapping[str, Any], schema: Any) -> BatchRecord:
        assert self._stage is not None
        rows = sum(int(part.rows or 0) for part in parts)
        committed = datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        record = Record(self._batch_id, rows, parts, committed, provenance)
        self.earlier = self._stage.commit(record, schema, sharded=self._board is not None)
        self._close()
        if self._board is not None:
            self._board.clear()
        return (self.earlier or record).batch(self._name, existed=self.earlier is not None)

    def _existing(self, place: Destination, mine: Mark | None = None) -> BatchRecord | None:
        """The batch, if it is there: its shards' board is removed then, and this one's file if it came late."""
        self.earlier = place.find(self._batch_id)
        if self.earlier is None:
            return None
        late = None if mine is None or mine.part in self.earlier.parts else mine.part
        if late is not None and self._stage is not None:
            self._stage.drop(late)
        self._close()
        place.tidy()
        if self.shard is not None:
            Board(place.shelf, place.board(self._batch_id), self.shard).clear()
        return self.earlier.batch(self._name, existed=True)

    def _close(self) -> None:
        stage, self._stage = self._stage, None
        if stage is not None:
            stage.close()

    @contextlib.contextmanager
    def _disk(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, doing, self._name) from error


def earlier_facts(record: BatchRecord) -> dict[str, Any]:
    """What the commit record of an earlier run's batch tells; nothing if another saver wrote it."""
    try:
        found = destination(record.dataset).find(record.batch_id)
    except (MealkitError, OSError):
        return {}
    return {} if found is None else found.to_json()


def _to_text(schema: Any) -> str:
    """An Arrow schema as text: the same for the same columns and types."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _schema(mark: Mark) -> Any:
    """The Arrow schema that a shard told."""
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(mark.schema)))


def _unlike(what: str) -> RecipeError:
    return RecipeError(
        f"the scorer's batches do not have the same columns and types: {what}",
        where="output",
        hint="declare the output rows in [tool.mealkit], then every batch is written in their types",
    )
