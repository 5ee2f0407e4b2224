"""Delta tables as datasets: their log, read by ``deltalake``, tells which Parquet files make up a version of one."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from mealkit.errors import EmptyDataError, SettingsError, UnreadableDataError

from .data_file import DataFile
from .file_system import AZURE, HTTP, LOCAL, Location, resolve, trouble
from .listing import denied
from .query import moment

LOG = "_delta_log"
_VERSION = re.compile(r"(.+)@(?:v(\d+)|(\d{4}-\d\d-\d\d[^/]*))\Z", re.DOTALL)
_READ = frozenset(
    {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "variantType", "deletionVectors", "columnMapping"}
)
"""The reader features that are known here: all but the last two change nothing in how the files are read."""

_PHYSICAL = "delta.columnMapping.physicalName"

_TEXT_BOUND = 32
"""Writers cut least and greatest texts; a greatest text of this length or more is no bound."""


@dataclass(frozen=True)
class DeltaVersion:
    """Which version of which table was read.

    Attributes:
        table: The table's id.
        version: The version's number.
        root: The path that those of the files begin with.
        kinds: The kinds of the table's columns, by name.
    """

    table: str
    version: int
    root: str
    kinds: Mapping[str, str]


def split_uri(uri: str) -> tuple[str, str | None, bool]:
    """``(URI, version or time, explicit)`` of what may name a table: ``delta:URI``, ``s3+delta://…``, ``URI@v3``."""
    plain = re.sub(r"\Adelta(?::(?!//)|\+(?=\w+://))", "", uri)
    plain = re.sub(r"\A(\w+)\+delta://", r"\1://", plain)
    found = _VERSION.match(plain)
    if found is None:
        return plain, None, plain != uri
    return found[1], found[2] or found[3], plain != uri


def is_table(location: Location) -> bool:
    """Whether a place is a folder with a Delta log.

    Raises:
        UnreachableError, UnreadableDataError: the storage does not answer, or refuses.
    """
    if location.local is not None:
        try:
            return (location.local / LOG).is_dir()
        except OSError as error:
            raise denied(error, location.path) from None
    if location.kind == HTTP:
        return False
    from pyarrow import fs

    try:
        found = location.file_system.get_file_info(f"{location.path.rstrip('/')}/{LOG}").type
    except OSError as error:
        raise trouble(error, location.uri) or error from None
    return bool(found == fs.FileType.Directory)


def open_table(location: Location, version: str | None) -> tuple[tuple[DataFile, ...], DeltaVersion]:
    """The data files of one version of a table, the last if none is named.

    Raises:
        SettingsError: ``deltalake`` is missing, or there is no such version.
        UnreadableDataError: it is no table, or it uses what cannot be read here.
        EmptyDataError: the version has no files.
    """
    table = _load(location, version)
    _refuse_features(table, location)
    import pyarrow as pa

    from .convert import kind_of

    schema = pa.schema(table.schema().to_arrow())
    kinds = {field.name: kind_of(field.type) for field in schema}
    physical = _physical(table, schema, location)
    partitions = list(table.metadata().partition_columns)
    root = location.path.rstrip("/") + "/"
    files = []
    kept = _deletion_vectors(table, location)
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        files.append(_file(location, root, action, kinds, partitions, physical, kept))
    if kept:
        raise _unreadable(location, "marks rows as deleted in a way that is not known here", "deletionVectors")
    if not files:
        raise EmptyDataError(
            "this version of the table has no files", where=location.uri, hint="name a table that has rows"
        )
    files.sort(key=lambda file: file.location.path)
    facts = DeltaVersion(str(table.metadata().id), int(table.version()), root, kinds)
    return tuple(files), facts


def _load(location: Location, version: str | None) -> Any:
    try:
        import deltalake
        from deltalake.exceptions import DeltaError, TableNotFoundError
    except ImportError:
        raise SettingsError(
            "a Delta table is read by the package deltalake, which is missing",
            where=location.uri,
            hint="add deltalake to the recipe's dependencies",
        ) from None
    number = int(version) if version is not None and version.isdigit() else None
    try:
        place = location.path if location.kind == LOCAL else location.uri
        table = deltalake.DeltaTable(place, version=number, storage_options=storage_options(location))
        if version is not None and number is None:
            when = moment(version)
            if when is None:
                raise SettingsError(
                    f"not a version of a table: {version!r}",
                    where=location.uri,
                    hint="write @v3 or @2026-01-31T12:00:00Z",
                )
            table.load_as_version(when.replace(tzinfo=dt.UTC))
            _need_begun(table, when, location)
    except TableNotFoundError:
        raise UnreadableDataError(
            "there is no Delta table", where=location.uri, hint="name the folder that has _delta_log"
        ) from None
    except (DeltaError, OSError, ValueError) as error:
        found = trouble(error, location.uri) if location.kind != LOCAL else None
        if found is not None:
            raise found from None
        raise UnreadableDataError(
            f"the Delta table cannot be read: {str(error).strip().splitlines()[0][:200]}",
            where=location.uri,
            hint="check the version that is asked for, and that the whole folder _delta_log is there",
        ) from None
    return table


def _need_begun(table: Any, when: dt.datetime, location: Location) -> None:
    """A version's time is that of its file in the log; ``deltalake`` gives the first one for all times before it."""
    if table.version():
        return
    first = location.file_system.get_file_info(f"{location.path.rstrip('/')}/{LOG}/{0:020}.json").mtime
    if first is not None and when.replace(tzinfo=dt.UTC) < first:
        raise UnreadableDataError(
            f"the Delta table was not there yet: its first version is of {first:%Y-%m-%dT%H:%M:%SZ}",
            where=location.uri,
            hint="name a later time, or a version: @v0",
        )


def storage_options(location: Location) -> dict[str, str]:
    """What ``deltalake`` must be told beside the environment, which it reads by the same names as we do."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options = {}
    if endpoint.startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
    if location.kind == AZURE and location.account:
        options["AZURE_STORAGE_ACCOUNT_NAME"] = location.account
    return options


def _refuse_features(table: Any, location: Location) -> None:
    protocol = table.protocol()
    unknown = sorted(set(protocol.reader_features or ()) - _READ)
    if unknown:
        raise _unreadable(location, "uses what cannot be read here", unknown[0])


def _physical(table: Any, schema: Any, location: Location) -> dict[str, str]:
    """What the files call each column: by column mapping a name that is kept when the column is renamed."""
    mode = dict(table.metadata().configuration).get("delta.columnMapping.mode", "none")
    if mode == "none":
        return {}
    if mode != "name" or any(_is_mapped_within(field.type) for field in schema):
        raise _unreadable(location, "uses what cannot be read here", "columnMapping")
    return {field.name: _physical_name(field) for field in schema}


def _physical_name(field: Any) -> str:
    return str((field.metadata or {}).get(_PHYSICAL.encode(), field.name.encode()).decode())


def _is_mapped_within(kind: Any) -> bool:
    """Whether a field of a nested type has another name in the files."""
    fields = [kind.field(place) for place in range(kind.num_fields)]
    return any(_physical_name(field) != field.name or _is_mapped_within(field.type) for field in fields)


def _deletion_vectors(table: Any, location: Location) -> dict[str, Any]:
    """Which rows count, by file name, of the files in which not all do."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return {}
    if not hasattr(table, "deletion_vectors"):
        raise _unreadable(
            location, "may mark rows as deleted, which this version of deltalake cannot tell", "deletionVectors"
        )
    import pyarrow as pa

    found = pa.table(table.deletion_vectors())
    return {
        unquote(str(path)).rpartition("/")[2]: mask.values
        for path, mask in zip(found["filepath"].to_pylist(), found["selection_vector"], strict=True)
    }


def _unreadable(location: Location, what: str, feature: str) -> UnreadableDataError:
    hints = {
        "deletionVectors": "add deltalake>=1.5 to the recipe's dependencies, or rewrite the table without them",
        "columnMapping": "here columns may be mapped by name, nested fields and ids may not: write the table without",
    }
    return UnreadableDataError(
        f"the Delta table {what}: {feature}",
        where=location.uri,
        hint=hints.get(feature, "write the table without this feature, or export it as Parquet"),
    )


def _file(
    location: Location,
    root: str,
    action: Mapping[str, Any],
    kinds: Mapping[str, str],
    partitions: list[str],
    physical: Mapping[str, str],
    kept: dict[str, Any],
) -> DataFile:
    path = unquote(str(action["path"]))  # the log holds it encoded once more than the storage does
    if "://" in path:
        place = resolve(path)
    else:
        full = root + path
        place = Location(full, LOCAL, full) if location.local is not None else location.at(full)
    bounds = {}
    for name in kinds:
        stored = physical.get(name, name)
        least, greatest = action.get(f"min.{stored}"), action.get(f"max.{stored}")
        if isinstance(greatest, str) and len(greatest) >= _TEXT_BOUND:
            least = greatest = None
        if isinstance(greatest, dt.datetime):
            greatest += dt.timedelta(milliseconds=1)  # the log keeps milliseconds
        bounds[name] = (least, greatest, action.get(f"null_count.{stored}"))
    partition = {name: _partition(action.get(f"partition.{name}")) for name in partitions}
    mask = kept.pop(path.rpartition("/")[2], None)
    rows = action.get("num_records")
    return DataFile(
        place,
        size=action.get("size_bytes"),
        partition=partition,
        bounds={name: facts for name, facts in bounds.items() if facts != (None, None, None) and name not in partition},
        rows=rows if rows is None or mask is None else rows - mask.false_count,
        columns=dict(kinds),
        renamed={stored: name for name, stored in physical.items()} or None,
        kept=mask,
    )


def _partition(value: Any) -> str | None:
    """A partition's value as a text, as it stands in a path."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
