"""Which files a URI means: a file, a folder with its subfolders, or a glob, on any file system that can list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mealkit.errors import EmptyDataError, MealkitError, UnreachableError, UnreadableDataError

from .data_file import KNOWN, DataFile, format_of
from .file_system import HTTP, Location, of_fsspec, trouble
from .folder import MARKS, expand, matcher, split, walk
from .likeness import nearest

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def list_files(location: Location) -> tuple[DataFile, ...]:
    """The data files of a place, sorted by path; names that begin with ``.`` or ``_`` are left out of folders.

    Raises:
        UnreadableDataError: there is no such file, it cannot be read, or none is of a known format.
        EmptyDataError: the folder is empty, or the glob matches nothing.
        UnreachableError: the storage does not answer.
    """
    if location.local is not None:
        return _local(location, location.local)
    try:
        return (_web if location.kind == HTTP else _far)(location)
    except MealkitError:
        raise
    except Exception as error:
        found = trouble(error, location.uri)
        if found is None:
            raise UnreadableDataError(
                f"the storage cannot be listed: {_line(error)}", where=location.uri, hint="check the URI"
            ) from error
        raise found from None


def _local(location: Location, path: Path) -> tuple[DataFile, ...]:
    try:
        if path.is_dir():
            below = [(one.relative_to(path), one) for one in walk(path)]
            files = [(inner.as_posix(), one) for inner, one in sorted(below) if _is_data(one)]
            return _of_folder(location, [(inner, str(one), one.stat().st_size) for inner, one in files])
        if path.exists():
            _need_format(str(path), str(path))
            _is_data(path)
            return (DataFile(location, path.stat().st_size),)
        if any(mark in str(path) for mark in MARKS):
            matched = expand(str(path))
            folders = any(one.is_dir() for one in matched)
            found = [(str(one), one.stat().st_size) for one in matched if not one.is_dir() and _is_data(one)]
            # As the matches are written: without ./ and doubled slashes.
            return _of_glob(replace(location, path=str(path)), found, folders=folders)
    except OSError as error:
        raise denied(error, str(path)) from None
    if path.is_symlink():
        raise _leads_nowhere(path)
    near = nearest(path.name, [item.name for item in path.parent.iterdir()]) if path.parent.is_dir() else None
    raise UnreadableDataError(
        "there is no such file or folder",
        where=location.uri,
        hint=f"did you mean {path.with_name(near)}?" if near else "check the path; in a container, mount it",
    )


def _is_data(path: Path) -> bool:
    """Whether it is a file; what has the name of a data file must be one."""
    if path.is_file():
        return True
    if format_of(path) is None:
        return False
    if not path.exists():
        raise _leads_nowhere(path)
    raise UnreadableDataError(
        "it is no regular file, so it cannot be read twice", where=str(path), hint="write its content into a file"
    )


def _leads_nowhere(path: Path) -> UnreadableDataError:
    return UnreadableDataError(
        "it is a link, and what it leads to is not there",
        where=str(path),
        hint="remove the link, or bring back what it leads to; in a container, mount it too",
    )


def _far(location: Location) -> tuple[DataFile, ...]:
    from pyarrow import fs

    path = location.path
    glob = any(mark in path for mark in MARKS)
    info = location.file_system.get_file_info(path)
    if not glob or info.type == fs.FileType.File:  # a name with a mark in it, as on a disk
        if info.type == fs.FileType.File:
            _need_format(path, location.uri)
            return (DataFile(location, info.size),)
        if info.type == fs.FileType.Directory:
            below = [(_relative(name, path), name, size) for name, size in _below(location, path, recursive=True)]
            return _of_folder(location, _committed(location, below))
        raise _nothing(location, fs)
    head, tail = split(path)
    matches = matcher(tail)
    listed = _listed(location, head, recursive="/" in tail or "**" in tail)
    matched = [one for one in listed if matches(_relative(one.path, head))]
    folders = any(not one.is_file for one in matched)
    return _of_glob(location, _by_path(one for one in matched if one.is_file), folders=folders)


def _committed(location: Location, below: list[tuple[str, str, int | None]]) -> list[tuple[str, str, int | None]]:
    """Of ``(path below the folder, path, size)`` what readers see: no hidden names, no batches without a commit."""
    from .commit_log import visible

    paths = {one[0]: one[1] for one in below}

    def read(name: str) -> bytes:
        with location.file_system.open_input_stream(paths[name]) as file:
            return bytes(file.read())

    seen = visible(list(paths), read)
    return [one for one in below if _shown(one[0].split("/")) and seen(one[0])]


def _below(location: Location, folder: str, *, recursive: bool) -> list[tuple[str, int | None]]:
    """Path and size of the files below a folder, sorted by path."""
    return _by_path(one for one in _listed(location, folder, recursive=recursive) if one.is_file)


def _listed(location: Location, folder: str, *, recursive: bool) -> list[Any]:
    from pyarrow import fs

    selector = fs.FileSelector(folder, recursive=recursive, allow_not_found=True)
    return list(location.file_system.get_file_info(selector))


def _by_path(found: Iterable[Any]) -> list[tuple[str, int | None]]:
    return sorted(((one.path, one.size) for one in found), key=lambda one: one[0].split("/"))


def _nothing(location: Location, fs: Any) -> MealkitError:
    """Why nothing is there: the bucket is missing, or the path; the nearest name is told where it can be listed."""
    bucket, _, path = location.path.partition("/")
    if path and location.file_system.get_file_info(bucket).type == fs.FileType.NotFound:
        return UnreadableDataError(
            f"there is no bucket or container {bucket!r}, or it cannot be seen",
            where=location.uri,
            hint="check its name, the endpoint, and who may see it",
        )
    parent, _, name = location.path.rpartition("/")
    try:
        selector = fs.FileSelector(parent, allow_not_found=True)
        names = [one.base_name for one in location.file_system.get_file_info(selector)] if parent else []
    except OSError:
        names = []  # who may read a file may not list its folder
    near = nearest(name, names)
    hint = f"did you mean {near!r}?" if near else "check bucket (or container) and path"
    return UnreadableDataError("there is no such file or folder", where=location.uri, hint=hint)


def _web(location: Location) -> tuple[DataFile, ...]:
    """A file of a web server, which cannot list."""
    _need_format(location.path, location.uri)
    try:
        facts = of_fsspec(HTTP).info(location.path)
    except FileNotFoundError as error:
        # fsspec says so of every failure; its cause knows better.
        cause = error.__cause__ or error.__context__
        if getattr(cause, "status", 404) in (404, 410) and cause is not None and hasattr(cause, "status"):
            raise UnreadableDataError(
                "there is no such file", where=location.uri, hint="check the URL; a web server can list no folders"
            ) from None
        found = trouble(cause, location.uri) if cause is not None else None
        raise found or UnreachableError(
            f"the web server gave no file: {_line(cause or error)}", where=location.uri, hint="check the URL, try again"
        ) from None
    return (DataFile(location, facts.get("size")),)


def _of_folder(location: Location, seen: Iterable[tuple[str, str, int | None]]) -> tuple[DataFile, ...]:
    """Of ``(path below the folder, path, size)``."""
    found = list(seen)
    files = tuple(
        DataFile(_at(location, path), size, partition_of(below))
        for below, path, size in found
        if format_of(path) is not None
    )
    if files:
        return files
    if found:
        first = found[0][0].rpartition("/")[2]
        raise UnreadableDataError(
            f"the folder has no file of a known format; it has {first}", where=location.uri, hint=KNOWN
        )
    raise EmptyDataError("the folder has no data files", where=location.uri, hint="name the folder that has the data")


def _of_glob(location: Location, matched: Iterable[tuple[str, int | None]], *, folders: bool) -> tuple[DataFile, ...]:
    """Of ``(path, size)``, and whether folders match too; those right before the first mark may name columns."""
    parts = split(location.path)[0].split("/")
    while parts and "=" in parts[-1]:
        parts.pop()
    files = tuple(
        DataFile(_at(location, path), size, partition_of("/".join(path.split("/")[len(parts) :])))
        for path, size in matched
        if format_of(path) is not None
    )
    if not files:
        hint = "it matches folders: end it with /* for the files in them" if folders else f"check it; {KNOWN}"
        raise EmptyDataError("no data file matches the pattern", where=location.uri, hint=hint)
    return files


def _at(root: Location, path: str) -> Location:
    return Location(path, root.kind, path) if root.local is not None else root.at(path)


def partition_of(path: str) -> Mapping[str, str | None]:
    """The columns that the folders of a path below its dataset name, as hive does: ``column=value/``."""
    found: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            found[unquote(name)] = None if value == _NO_VALUE else unquote(value)
    return found


def _relative(path: str, base: str) -> str:
    return path.removeprefix(base.rstrip("/")).lstrip("/")


def _shown(parts: Iterable[str]) -> bool:
    return not any(part.startswith((".", "_")) for part in parts)


def _need_format(path: str, where: str) -> None:
    if format_of(path) is None:
        raise UnreadableDataError("the file's name tells no format", where=where, hint=KNOWN)


def denied(error: OSError, path: str) -> UnreadableDataError:
    """What a local file or folder is that cannot be read."""
    hint = "check the disk"
    if isinstance(error, PermissionError):
        hint = "let this user read it (a container's user is often not the one who wrote the file)"
    return UnreadableDataError(
        f"cannot read it: {(error.strerror or str(error)).lower()}", where=str(error.filename or path), hint=hint
    )


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:200]
