"""Batches in a Delta table, partitioned by ``batch_id``: each is one commit of the table's log.

.. code-block:: text

    TABLE/
      _delta_log/…                           the table's log: what it says is what every reader of Delta sees
      batch_id=RUN/part-00000-xxxx.parquet   data, as the log's commit adds them
      _mealkit/batches/RUN-xxxx.json         the commit record, for ``mealkit batches``
      _mealkit/shards/RUN/…                  which shards of an unfinished batch are done

The commit carries an application transaction ``mealkit:RUN``: its version is odd while the batch is there, and becomes
even when the batch is undone. A commit is only ever made on the version of the table in which that transaction was
looked up, and begins again if another was faster, so that of two runs with one id the first wins.

Others may write to the table between our commits. Files that the table has of a batch count as the batch, whatever the
transaction says (the table was restored to an older version); where it has none of a batch that was committed and not
undone, someone took the rows away, and they do not come again by themselves. A column that others added is null in our
rows; what cannot be kept up by writing files alone (constraints, computed columns) is refused.

Our files, and their names, are forced to the disk before the commit. The ``deltalake`` library itself forces nothing
(looked at with strace, version 1.6.6): it writes the log's entry beside, and gives it its name by a hard link. We force
both to the disk before a run ends well, so what was told to be committed stays. But a power cut in the blink between
the link and that may leave an empty entry in the log, which every reader refuses until it is removed by hand. Where
that matters, take a store whose writes are durable (object storage), or the folder of Parquet files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mealkit.errors import MealkitError, RecipeError, RetryableError, StorageError, UsageError

from .batch_record import PARTITION, Part, Record, in_order, parse_record
from .delta import LOG
from .delta_log import application_of, files_of, is_there, paths_of, version_of
from .delta_type import delta_schema
from .destination import Leftover, Stage
from .direct_stage import DirectStage, board_of, forgotten, is_same, need_files, remove_all, strangers
from .files import STAGING, sync
from .shelf import FolderShelf, Shelf
from .stop import Stopper

RECORDS = "_mealkit/batches"
_TRIES = 50
_COMPUTED = ("delta.invariants", "delta.generationExpression", "delta.identity")
_RECORD = re.compile(rf"(?:{re.escape(STAGING)}-)?(.+)-[0-9a-f]{{8}}\.json(?:-\w+)?")
_STAGED = re.compile(r"\.json#\d+\Z|\.tmp\Z")
"""Names of log entries that are being written: no reader of Delta looks at them."""


class DeltaTableOfBatches:
    """A Delta table; see the module."""

    kind = "delta"
    suffixed = True

    def __init__(self, uri: str, shelf: Shelf, options: dict[str, str] | None = None) -> None:
        self.uri = uri
        self.options = options or None
        self.shelf = shelf
        _library()

    def fitting(self, schema: Any) -> Any:
        """The columns as Delta has them, and as the table has them if it is there.

        Raises:
            RecipeError: Delta, or this table, has other columns.
            UsageError: the table is not one of batches.
        """
        wanted = delta_schema(schema)
        table = self._table()
        return wanted if table is None else self._fitting(table, wanted)

    def _fitting(self, table: Any, wanted: Any) -> Any:
        import pyarrow as pa

        self._refuse(table)
        found = pa.schema(table.schema().to_arrow())
        found = delta_schema(found.remove(found.get_field_index(PARTITION)))
        there = [field for field in found if field.name in wanted.names]
        others = [field for field in found if field.name not in wanted.names]
        if len(there) != len(wanted.names) or not all(field.nullable for field in others):
            raise RecipeError(
                f"the Delta table has the columns {', '.join(found.names)}, the batch {', '.join(wanted.names)}",
                where=self.uri,
                hint="write into another table, or change this one's columns first",
            )
        return pa.schema(there)

    def _refuse(self, table: Any) -> None:
        """What a table asks of all who write to it, and we cannot give."""
        configuration = dict(table.metadata().configuration)
        asked = [name for name in sorted(configuration) if name.startswith("delta.constraints.")]
        if configuration.get("delta.columnMapping.mode", "none") != "none":
            asked.append("delta.columnMapping.mode")
        for field in table.schema().fields:
            asked += [f"{name} of {field.name}" for name in sorted(field.metadata or {}) if name.startswith(_COMPUTED)]
        if asked:
            raise UsageError(
                f"the Delta table asks for what mealkit does not do when it writes: {', '.join(asked)}",
                where=self.uri,
                hint="write into another table; ranges and choices can be declared in the recipe's output rows",
            )

    def find(self, batch_id: str) -> Record | None:
        """The record of a committed batch; without files, if another program took its rows away.

        Raises:
            StorageError: the table has rows of this name that no run of mealkit wrote.
        """
        table = self._table()
        return None if table is None else self._find(table, batch_id)

    def _find(self, table: Any, batch_id: str) -> Record | None:
        files = files_of(table, batch_id)
        if files:
            found = next(self._records(files, table), None)
            if found is not None:
                return found
            raise StorageError(
                f"the table has rows of {PARTITION} {batch_id!r} that no run of mealkit wrote",
                where=self.uri,
                hint="give another --run-id",
            )
        return self._told(batch_id, ()) if is_there(table, batch_id) else None

    def records(self) -> list[Record]:
        """The records of all batches, oldest first; rows that others wrote are no batch of ours."""
        table = self._table()
        return [] if table is None else in_order(self._records(files_of(table), table))

    def stage(self, batch_id: str, stopper: Stopper) -> Stage:
        """Begin a batch."""
        return DirectStage(self.shelf, batch_id, self._commit, sure=self._is_sure)

    @property
    def _is_sure(self) -> bool:
        """Whether a commit that failed here made nothing visible; far away its answer may have been lost."""
        return isinstance(self.shelf, FolderShelf)

    def tidy(self) -> None:
        """Nothing: see :func:`~mealkit_runtime.direct_stage.forgotten`."""

    def board(self, batch_id: str) -> str:
        """Where the shards of a run tell that they are done."""
        return board_of(batch_id)

    def undo(self, record: Record) -> None:
        """A commit that removes the batch's files from the table; the files stay until the table is vacuumed.

        Raises:
            UsageError: the table does not let anyone remove rows.
        """
        deltalake = _library()
        for _ in self._tries(f"undoing the batch {record.batch_id}"):
            table = self._table()
            files = {} if table is None else files_of(table, record.batch_id)
            if table is None or not (files or is_there(table, record.batch_id)):
                raise FileNotFoundError(record.batch_id)
            if dict(table.metadata().configuration).get("delta.appendOnly", "").lower() == "true":
                raise UsageError(
                    "the Delta table lets nobody remove rows: it has delta.appendOnly",
                    where=self.uri,
                    hint="set the table's property delta.appendOnly to false, then undo the batch",
                )
            properties = _properties(deltalake, record, version_of(table, record.batch_id) // 2 * 2 + 2)
            done = False
            with self._conflicts(table.version()):
                if files:
                    table.delete(f"{PARTITION} = '{record.batch_id}'", commit_properties=properties)
                else:
                    table.create_write_transaction(
                        [], mode="append", schema=table.schema(), partition_by=[PARTITION], commit_properties=properties
                    )
                done = True
            if done:
                self._force()
                return

    def forgotten(self, now: float) -> list[Leftover]:
        """Boards, files that the table's log does not know, and records; what the log has removed is vacuum's."""

        def known() -> set[str]:
            table = self._table()
            if table is None:
                return set()
            try:
                return paths_of(table)
            except _library().exceptions.DeltaError as error:
                raise self._failed(error) from None

        table = self._table()
        return forgotten(self.shelf, known, now, self._idle(table))

    def _idle(self, table: Any) -> dict[str, list[str]]:
        """Records of batches that were never committed, or that another one tells of; and deltalake's temporary files.

        That of an undone batch stays: older versions of the table have the batch.
        """
        found, files = {}, {} if table is None else files_of(table)
        for batch_id, names in self._written().items():
            told = self._record(names, files[batch_id])[0] if batch_id in files else None
            if told is not None or table is None or not version_of(table, batch_id):
                found[batch_id] = [name for name in names if name != told]
        return found | {"-": [name for name in self.shelf.names(LOG) if _STAGED.search(name)]}

    def _commit(self, record: Record, schema: Any) -> Record | None:
        import pyarrow as pa

        deltalake = _library()
        from deltalake.transaction import AddAction, create_table_with_add_actions

        now = int(time.time() * 1000)
        adds = [
            AddAction(
                path=record.path(part),
                size=part.size,
                partition_values={PARTITION: record.batch_id},
                modification_time=now,
                data_change=True,
                stats=json.dumps({"numRecords": part.rows}),
            )
            for part in record.parts
        ]
        whole = deltalake.Schema.from_arrow(schema.append(pa.field(PARTITION, pa.string())))
        told: str | None = None
        committed = unknown = False
        try:
            for _ in self._tries("committing the batch"):
                table = self._table()
                existing = None if table is None else self._find(table, record.batch_id)
                if existing is not None:
                    committed = is_same(existing, record)  # by us, and the answer was lost
                    return existing
                try:
                    need_files(self.shelf, record)
                except StorageError:
                    # Another run of this id may have committed since the table was read, and have cleared up.
                    table = self._table()
                    existing = None if table is None else self._find(table, record.batch_id)
                    if existing is None:
                        raise
                    return existing
                if table is not None and set(self._fitting(table, schema)) != set(schema):
                    raise StorageError(
                        "the Delta table's columns were changed while the batch was written",
                        where=self.uri,
                        hint="run the same command again",
                    )
                told = told or self._tell(record)
                known = 0 if table is None else version_of(table, record.batch_id)
                properties = _properties(deltalake, record, (known + 1) // 2 * 2 + 1)
                # Where a batch of this id was undone, older versions of the table have its files.
                left = [] if known else [*strangers(self.shelf, record), *self._others(record, told)]
                with self._conflicts(None if table is None else table.version()):
                    if table is None:
                        create_table_with_add_actions(
                            self.uri,
                            whole,
                            adds,
                            mode="error",
                            storage_options=self.options,
                            partition_by=[PARTITION],
                            commit_properties=properties,
                        )
                    else:
                        table.create_write_transaction(
                            adds, mode="append", schema=whole, partition_by=[PARTITION], commit_properties=properties
                        )
                    committed = True
                if committed:
                    self._force()
                    remove_all(self.shelf, left)
                    return None
            raise AssertionError("the tries end with an error")
        except BaseException:
            unknown = not self._is_sure
            raise
        finally:
            if told is not None and not committed and not unknown:
                self.shelf.remove(told)

    def _others(self, record: Record, told: str) -> list[str]:
        """Records of the same batch by runs that were killed before they committed."""
        return [name for name in self._written().get(record.batch_id, ()) if name != told]

    def _tell(self, record: Record) -> str:
        """Write the record; it counts when the table has exactly its files."""
        text = record.to_text().encode()
        name = f"{RECORDS}/{record.batch_id}-{hashlib.sha256(text).hexdigest()[:8]}.json"
        self.shelf.create(name, text)
        return name

    def _records(self, files: dict[str, list[Part]], table: Any) -> Iterator[Record]:
        """A record for each batch: the one that was written with it, or what the table's log tells."""
        written = self._written()
        for batch_id, parts in files.items():
            if batch_id in written or is_there(table, batch_id):
                yield self._told(batch_id, tuple(parts), written)

    def _told(self, batch_id: str, parts: tuple[Part, ...], written: dict[str, list[str]] | None = None) -> Record:
        """The record of a batch that has these files now; of several, that of the last commit."""
        name, found = self._record((self._written() if written is None else written).get(batch_id, ()), parts)
        if name is not None and found is not None:
            return found
        rows = sum(part.rows or 0 for part in parts)
        return Record(batch_id, rows, parts, *(() if found is None else (found.committed, found.provenance)))

    def _record(self, names: Sequence[str], parts: Sequence[Part]) -> tuple[str | None, Record | None]:
        """The record of exactly these files, with its name; else the last one of the batch, without."""
        texts = [(name, self.shelf.read(name)) for name in names if STAGING not in name]
        found = [(name, parse_record(text, name)) for name, text in texts if text is not None]
        for name, record in found:
            if {part.name for part in record.parts} == {part.name for part in parts}:
                return name, record
        known = in_order(record for _, record in found)
        return None, known[-1] if known else None

    def _written(self) -> dict[str, list[str]]:
        """The names of all records, also of those that were never finished, by the batch that they tell of."""
        found: dict[str, list[str]] = {}
        for name in self.shelf.names(RECORDS):
            if match := _RECORD.fullmatch(name.rpartition("/")[2]):
                found.setdefault(match[1], []).append(name)
        return found

    def _table(self) -> Any:
        """The table as it is now; None: there is none.

        Raises:
            UsageError: it is not one of batches.
        """
        deltalake = _library()
        try:
            if isinstance(self.shelf, FolderShelf) and not (self.shelf.root / LOG).is_dir():
                return None
            table = deltalake.DeltaTable(self.uri, storage_options=self.options)
        except deltalake.exceptions.TableNotFoundError:
            return None
        except deltalake.exceptions.DeltaError as error:
            raise self._failed(error) from None
        if table.metadata().partition_columns != [PARTITION]:
            raise UsageError(
                f"the Delta table is not partitioned by {PARTITION}, so it was not made by mealkit",
                where=self.uri,
                hint="name a new folder: delta:PATH makes a table there; other tables can read from it",
            )
        return table

    def _tries(self, doing: str) -> Iterator[int]:
        """Numbers of tries, with growing random pauses between them: others commit as well."""
        for number in range(_TRIES):
            yield number
            time.sleep(random.uniform(0, min(0.5, 0.01 * 2**number)))  # noqa: S311
        raise RetryableError(
            f"{doing}: others commit to the table all the time", where=self.uri, hint="run the same command again"
        )

    @contextlib.contextmanager
    def _conflicts(self, version: int | None) -> Iterator[None]:
        """A commit that failed because another was faster is nothing; what failed otherwise is told."""
        deltalake = _library()
        try:
            yield
        except (deltalake.exceptions.DeltaError, OSError) as error:
            table = self._table()
            if table is None or (version is not None and table.version() <= version):
                raise self._failed(error) from error

    def _failed(self, error: Exception) -> MealkitError:
        if isinstance(error, OSError) and error.errno is not None:
            raise error
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return StorageError(
            f"the Delta table cannot be used: {line[:300]}",
            where=self.uri,
            hint="check who may write there, and the disk",
        )

    def _force(self) -> None:
        """Force the log's newest entries and their names to the disk; see the module."""
        if isinstance(self.shelf, FolderShelf):
            log = self.shelf.root / LOG
            for path in sorted(log.glob("*.json"))[-3:]:
                with contextlib.suppress(FileNotFoundError):
                    sync(path)
            sync(log)
            sync(self.shelf.root)


def _library() -> Any:
    """The ``deltalake`` package.

    Raises:
        UsageError: it is not there.
    """
    try:
        import deltalake
        import deltalake.exceptions
    except ImportError:
        raise UsageError(
            "Delta tables need the package deltalake, which is not here",
            where="output",
            hint="add deltalake to the recipe's dependencies",
        ) from None
    return deltalake


def _properties(deltalake: Any, record: Record, version: int) -> Any:
    """What a commit carries beside its files; it fails if the table has a newer version, and we look again."""
    facts = {key: value for key, value in record.to_json().items() if key != "files"}
    return deltalake.CommitProperties(
        custom_metadata={"mealkit": json.dumps(facts, ensure_ascii=False)},
        max_commit_retries=0,
        app_transactions=[deltalake.Transaction(application_of(record.batch_id), version, int(time.time() * 1000))],
    )
