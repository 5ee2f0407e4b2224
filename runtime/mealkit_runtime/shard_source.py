"""The parts of a dataset that shards, or workers of a cluster, read: whole files, or row groups of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mealkit.errors import SettingsError

from .data_file import DataFile
from .dataset import Source
from .shard import Shard, Unit, divide

_MANY = 8
"""So many files a shard divide well enough that none has to be opened to be divided itself."""


@dataclass(frozen=True)
class Share:
    """A part of a dataset.

    Attributes:
        units: File and row group (None: the whole file) of what no share divides.
        rows: How many rows the row groups have.
    """

    units: tuple[tuple[int, int | None], ...]
    rows: Mapping[tuple[int, int], int]


MOST = 1_000
"""So many shares at most: each becomes a file of the batch."""


def part_of(source: Source, shard: Shard, together: str | None) -> Source:
    """The part of a dataset that is a shard's: what the others read is not read, but the dataset is the same.

    Args:
        source: The whole.
        shard: Which part.
        together: The column whose equal values are in one part.

    Raises:
        SettingsError: the dataset cannot be divided so, or the query counts rows over all parts.
    """
    units, rows = _divisible(source, shard.count, together, "shard")
    return take(source, _share(divide(units, shard.count, together=together is not None)[shard.index], rows))


def shares_of(source: Source, together: str | None, piece_rows: int) -> list[Share]:
    """A dataset divided for others to score: in the same way whoever, and however many, they are.

    Args:
        source: The whole.
        together: The column whose equal values are in one part.
        piece_rows: A share has at least about so many rows, where the files tell how many they have.

    Raises:
        SettingsError: the dataset cannot be divided so, or the query counts rows over all parts.
    """
    units, rows = _divisible(source, _MANY, together, "engine")
    known = sum(rows.values()) if len(rows) == len(units) else None
    count = len(units) if known is None else min(len(units), -(-known // piece_rows))
    shares = divide(units, max(1, min(count, MOST)), together=together is not None)
    return [_share(share, rows) for share in shares if share]


def take(source: Source, share: Share) -> Source:
    """The part of a dataset that a share is: of all its files, some are not read, or not all of their row groups.

    The files all stay, since what the dataset is (the types of its partitions, say) is told by all of them.
    """
    mine: dict[int, list[int | None]] = {}
    for file, group in share.units:
        mine.setdefault(file, []).append(group)
    files = (_file(file, mine.get(n, []), n, share.rows) for n, file in enumerate(source.files))
    return replace(source, files=tuple(files))


def _divisible(
    source: Source, count: int, together: str | None, where: str
) -> tuple[list[Unit], dict[tuple[int, int], int]]:
    query = source.query
    if query.sample is not None or query.limit is not None:
        raise SettingsError(
            "a part does not know which rows of the others a sample or a limit takes",
            where=where,
            hint=f"score without --{where}, or without --sample and --limit",
        )
    units, rows = _units(source, count, together)
    if together is not None and any(unit.low is None or unit.high is None for unit in units) and len(units) > 1:
        raise SettingsError(
            f"nothing tells which files and row groups have the rows of one {together}",
            where=where,
            hint=f"write the input as Parquet sorted by {together} (with statistics, as all writers do), "
            f"or score without --{where}",
        )
    return units, rows


def _share(units: list[Unit], rows: dict[tuple[int, int], int]) -> Share:
    places = tuple((unit.file, unit.group) for unit in units)
    return Share(places, {place: rows[place] for place in places if place in rows})


def _file(file: DataFile, groups: list[int | None], number: int, rows: Mapping[tuple[int, int], int]) -> DataFile:
    if not groups:
        return replace(file, groups=(), rows=0)
    if groups[0] is None:
        return file
    chosen = tuple(group for group in groups if group is not None)
    return replace(file, groups=chosen, rows=sum(rows[number, group] for group in chosen))


def _units(source: Source, count: int, together: str | None) -> tuple[list[Unit], dict[tuple[int, int], int]]:
    """What no shard divides, and the rows of each row group."""
    units: list[Unit] = []
    rows: dict[tuple[int, int], int] = {}
    for number, file in enumerate(source.files):
        opened = file.format == "parquet" and (together is not None or len(source.files) < _MANY * count)
        if not opened:
            units.append(Unit(number, None, max(1, file.size or 1)))
            continue
        for group, size, facts in _groups(file, together):
            rows[number, group] = facts[2]
            if facts[2]:
                units.append(Unit(number, group, max(1, size), *facts[:2]))
    return units, rows


def _groups(file: DataFile, together: str | None) -> Iterator[tuple[int, int, tuple[Any, Any, int]]]:
    """Number, bytes and ``(least value, greatest value, rows)`` of each row group."""
    import pyarrow.parquet as pq

    from .reading import guard

    with guard(file), file.random() as opened, pq.ParquetFile(opened) as parquet:
        metadata = parquet.metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            low, high = (None, None) if together is None else _bounds(group, _stored(file, together))
            if together in file.partition:
                low = high = file.partition[str(together)]
            yield number, int(group.total_byte_size), (low, high, int(group.num_rows))


def _stored(file: DataFile, name: str) -> str:
    """What the file calls a column."""
    if file.renamed is None:
        return name
    return next((stored for stored, given in file.renamed.items() if given == name), "")


def _bounds(group: Any, name: str) -> tuple[Any, Any]:
    """The least and greatest value of a column; None: not known, or some are missing."""
    for position in range(group.num_columns):
        column = group.column(position)
        if column.path_in_schema == name and column.is_stats_set:
            facts = column.statistics
            if facts.has_min_max and facts.has_null_count and not facts.null_count:
                return facts.min, facts.max
    return None, None
