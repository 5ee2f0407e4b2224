"""Keeps the bad rows of a run beside its results: whole and once, or not at all.

.. code-block:: text

    DIR/
      run_id=RUN/bad-rows.csv      one run's; written as a whole, before the run's own result becomes visible
      .mealkit-staging/RUN-xxxx/   unfinished work

The file has ``_file``, ``_row``, ``_column``, ``_rule`` and ``_value``, and then the row as it was read, every value as
text: it can be mended in an editor or a spreadsheet, and be given to ``--input`` again.

A run with the same id replaces what an earlier one left: a killed run may have come as far as its quarantine, and not
to its result.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mealkit.errors import storage_error

from .bad_row import SHOWN, Found
from .convert import MixedType, loads
from .files import sync
from .staging import leave_stage, stage_folder
from .stop import Stopper

FILE = "bad-rows.csv"
PARTITION = "run_id"
_ABOUT = ("_file", "_row", "_column", "_rule", "_value")


class Quarantine:
    """The bad rows of one run; nothing is made on the disk before there is one.

    Args:
        folder: ``DIR``.
        run_id: The run's, which of a shard also tells the shard.
        redact: Takes secrets out of a text.
        stopper: Keeps signals away from the commit.

    Attributes:
        rows: How many rows are kept.
    """

    def __init__(self, folder: Path, run_id: str, redact: Callable[[str], str], stopper: Stopper) -> None:
        self.folder = folder
        self.run_id = run_id
        self.rows = 0
        self._redact = redact
        self._stopper = stopper
        self._resources = contextlib.ExitStack()
        self._staged: Path | None = None
        self._made: list[Path] = []
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self._committed = False

    @property
    def place(self) -> Path:
        """The folder of this run's bad rows."""
        return self.folder / f"{PARTITION}={self.run_id}"

    def add(self, found: Found) -> None:
        """Keep the bad rows of one table.

        Raises:
            StorageError: the disk is full or failed.
        """
        with self._disk("writing the quarantine"):
            if self._file is None:
                self._open(found.table.column_names)
            assert self._file is not None
            self._file.write(self._redact(_csv(found, self._columns)))
        self.rows += len(found)

    def commit(self) -> Path | None:
        """Make the rows visible by a rename; the folder, or None when there is no bad row.

        Raises:
            StorageError: the disk is full or failed.
        """
        with self._disk("committing the quarantine"):
            if self._staged is None or self._file is None:
                if self.place.is_dir():
                    self._remove(self.place)
                return None
            self._file.close()
            for path in (self._staged / FILE, self._staged):
                sync(path)
            with self._stopper.shielded():
                if self.place.exists():
                    self._remove(self.place)
                self._staged.rename(self.place)
                self._committed = True
                sync(self.folder)
                self.close()
        return self.place

    def withdraw(self) -> None:
        """The run failed: leave nothing of it."""
        with self._stopper.shielded():
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
            if self._committed:
                shutil.rmtree(self.place, ignore_errors=True)
            self.close()

    def _open(self, columns: list[str]) -> None:
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self._staged = stage_folder(self.folder, self.run_id, self._stopper, self._resources)
        self._columns = [name for name in columns if name not in _ABOUT]
        self._file = (self._staged / FILE).open("w", encoding="utf-8", newline="")
        self._file.write(_line([*_ABOUT, *self._columns]))

    def _remove(self, folder: Path) -> None:
        """Take a folder away at once: a reader sees all of it or nothing."""
        with contextlib.ExitStack() as resources:
            aside = stage_folder(self.folder, self.run_id, self._stopper, resources)
            folder.rename(aside / "old")
            leave_stage(aside)

    def close(self) -> None:
        """Remove what is unfinished."""
        staged, self._staged, self._file = self._staged, None, None
        if staged is not None:
            leave_stage(staged)
        with contextlib.suppress(OSError):
            for path in self._made:
                path.rmdir()  # unless something is in it
        self._resources.close()

    @contextlib.contextmanager
    def _disk(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, doing, self.folder) from error


def _line(names: list[str]) -> str:
    import csv

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue()


def _csv(found: Found, columns: list[str]) -> str:
    """The rows as lines of CSV: nothing between two commas is missing, and ``""`` is an empty text."""
    import pyarrow.csv

    rules = [found.rules[index] for index in found.cause]
    about = {
        "_file": pa.repeat(pa.scalar(found.file), len(found)),
        "_row": as_texts(pa.array(found.rows)),
        "_column": pa.array([rule.column for rule in rules], pa.string()),
        "_rule": pa.array([rule.rule for rule in rules], pa.string()),
        "_value": _values(found),
    }
    rows = {name: as_texts(found.table[name]) for name in columns if name in found.table.column_names}
    nothing = pa.nulls(len(found), pa.string())
    table = pa.table({**about, **{name: rows.get(name, nothing) for name in columns}})
    sink = io.BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
    pyarrow.csv.write_csv(table, sink, options)
    return sink.getvalue().decode()


def _values(found: Found) -> Any:
    """What broke the rules, as shortened texts."""
    shown = np.full(len(found), None, dtype=object)
    for index, rule in enumerate(found.rules):
        at = np.flatnonzero(found.cause == index)
        if not len(at):
            continue
        places = pa.array(found.places[at])
        texts = [as_texts(array.take(places)) for array in rule.values]
        joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, " + ")
        short = pc.utf8_slice_codeunits(joined, 0, SHOWN)
        long = pc.greater(pc.utf8_length(joined), SHOWN)
        shown[at] = pc.if_else(long, pc.binary_join_element_wise(short, "…", ""), short).to_pylist()
    return pa.array(shown.tolist(), pa.string())


def as_texts(array: Any) -> Any:
    """An array of any type as texts that CSV can hold and the same column be read from."""
    array = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    if isinstance(array.type, MixedType):
        found = loads(array)
    else:
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        try:
            return array.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            found = array.to_pylist()
    texts = [
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for value in found
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])
