"""The data saver: writes scored rows as one new batch, all or nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .context import Context

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BatchRecord:
    """What a committed batch is.

    Attributes:
        batch_id: Its name; the run's id.
        dataset: Where it was written.
        rows: How many rows it has.
        files: Names of its files, relative to the dataset.
        existed: The same run had committed it before, and nothing was written.
        waiting: How many shards of the run are missing; the batch becomes visible with the last of them, and ``rows``
            are those of this shard until then.
    """

    batch_id: str
    dataset: str
    rows: int
    files: tuple[str, ...] = ()
    existed: bool = False
    waiting: int = 0


class DataSaver(ABC):
    """Subclass it to write scores elsewhere than into a dataset of Parquet files.

    The runtime calls :meth:`open`, then :meth:`write` for each piece, then :meth:`commit`; or :meth:`abort` when
    anything went wrong. Nothing may be visible to readers before ``commit`` returns, and a batch with the run's id that
    was committed before must not be written again.
    """

    @abstractmethod
    def open(self, dataset: str, context: Context[Any]) -> BatchRecord | None:
        """Begin a batch in ``dataset`` (a path or URI); return its record if this run committed it before."""

    @abstractmethod
    def write(self, rows: pd.DataFrame) -> None:
        """Add output rows to the batch."""

    @abstractmethod
    def commit(self) -> BatchRecord:
        """Make the batch visible, whole and once."""

    @abstractmethod
    def abort(self) -> None:
        """Leave nothing behind; may be called after any other method."""
