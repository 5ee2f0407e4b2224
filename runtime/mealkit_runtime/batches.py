"""The batches of a dataset: list, look at, verify, undo them, and clean up what runs left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mealkit.errors import EmptyDataError, MealkitError, UnreadableDataError, UsageError, storage_error

from .batch_record import Record, digest_of
from .destination import Destination, Leftover, destination


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file of a batch."""

    file: str
    problem: str


def open_dataset(uri: str) -> Destination:
    """The dataset of a URI, which must be there.

    Raises:
        UnreadableDataError: it is not.
    """
    place = destination(uri)
    with _telling("reading the dataset", uri):
        if not place.records() and not place.shelf.names(""):
            raise UnreadableDataError("there is no dataset", where=uri, hint="name the folder that scoring wrote to")
    return place


def list_batches(uri: str) -> list[Record]:
    """The records of all batches, oldest first."""
    with _telling("reading the batches", uri):
        return open_dataset(uri).records()


def find_batch(uri: str, batch_id: str) -> Record:
    """The record of one batch.

    Raises:
        UsageError: there is none.
    """
    import difflib

    with _telling("reading the batches", uri):
        place = open_dataset(uri)
        record = place.find(batch_id)
        if record is not None:
            return record
        names = [one.batch_id for one in place.records()]
    near = difflib.get_close_matches(batch_id, names, n=1)
    raise UsageError(
        f"there is no batch {batch_id!r}",
        where=uri,
        hint=f"did you mean {near[0]!r}?" if near else f"see them all: mealkit batches {uri}",
    )


def last_batch(uri: str) -> Record:
    """The record of the batch that was committed last.

    Raises:
        EmptyDataError: there is none.
    """
    records = list_batches(uri)
    if not records:
        raise EmptyDataError("the dataset has no batch", where=uri, hint="name the folder that scoring wrote to")
    return records[-1]


def verify_batch(uri: str, record: Record) -> list[Fault]:
    """What is wrong with a batch: a file that is missing, or has other bytes than were written."""
    place = destination(uri)
    faults = []
    with _telling("verifying the batch", uri):
        for part in record.parts:
            name = record.path(part)
            try:
                with place.shelf.open(name) as file:
                    size, digest = digest_of(file)
            except FileNotFoundError:
                faults.append(Fault(name, "it is missing"))
                continue
            if size != part.size:
                faults.append(Fault(name, f"it has {size:,} bytes, and {part.size:,} were written"))
            elif part.sha256 and digest != part.sha256:
                faults.append(Fault(name, f"its sha256 is {digest}, and {part.sha256} was written"))
            elif not part.sha256:
                faults.append(Fault(name, "its digest is not known: another program has rewritten the table's files"))
        if place.kind == "parquet":
            known = {record.path(part) for part in record.parts}
            folder = next(iter(known)).rpartition("/")[0] if known else ""
            others = [name for name in place.shelf.names(folder) if folder and name.endswith(".parquet")]
            faults += [Fault(name, "no run of this batch wrote it") for name in others if name not in known]
    return faults


def undo_batch(uri: str, record: Record) -> None:
    """Take a batch away from the readers of a dataset.

    Raises:
        UsageError: it is gone already.
    """
    with _telling("undoing the batch", uri):
        try:
            destination(uri).undo(record)
        except FileNotFoundError:
            raise UsageError(
                f"the batch {record.batch_id!r} is gone already", where=uri, hint=f"see: mealkit batches {uri}"
            ) from None


def clean(
    uri: str,
    *,
    older_than: float,
    batch_id: str | None = None,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> list[Leftover]:
    """Remove what killed and given-up runs, and undone batches, left behind; what was (or would be) removed.

    Args:
        uri: The dataset.
        older_than: Only what nothing was written to for so many seconds.
        batch_id: Only what is of this run, however new.
        dry_run: Remove nothing.
        clock: Seconds since the epoch.
    """
    with _telling("cleaning the dataset", uri):
        found = [
            one
            for one in open_dataset(uri).forgotten(clock())
            if (one.age >= older_than if batch_id is None else one.batch_id == batch_id)
        ]
        if not dry_run:
            for one in found:
                one.remove()
    return found


@contextmanager
def _telling(doing: str, where: str) -> Iterator[None]:
    try:
        yield
    except MealkitError:
        raise
    except OSError as error:
        raise storage_error(error, doing, where) from None
