"""What tells a dataset from another, for records: its bytes where they are near, the storage's tags where it is far."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mealkit.errors import UnreadableDataError

from .data_file import DataFile
from .file_system import HTTP, of_fsspec, trouble
from .listing import denied

if TYPE_CHECKING:
    from .dataset import Source

_WHOLE = 16 << 20
_EDGE = 1 << 20
_SAMPLES, _SAMPLE = 14, 64 << 10


def fingerprint(source: Source, *, whole: bool) -> str:
    """A digest of a dataset's files in order, whatever their names and times; its prefix says of what.

    ``sha256:HEX``
        Of every byte: local files, with ``whole``.
    ``sampled:HEX``
        Of files over 16 MiB only the size, the first and the last MiB (where Parquet keeps its footer) and 14 samples
        between count: cheap enough for a dataset of any size; two datasets that differ in a few rows may look alike.
        Local files without ``whole``, and far ones whose storage gives no tag.
    ``etag:HEX``
        Of the size and the tag that the storage keeps for each file's content (S3, Google, Azure, many web servers): a
        far dataset is not read twice. The same content may have another tag elsewhere, or after an upload in parts.
    ``delta:HEX``
        Of a Delta table's id and the files of the version that was read, which are never changed once written.

    Raises:
        UnreadableDataError: a file cannot be read.
        UnreachableError: the storage does not answer.
    """
    if source.delta is not None:
        total = hashlib.sha256(f"{source.delta.table}\n".encode())
        for file in source.files:
            total.update(f"{file.size} {file.location.path.removeprefix(source.delta.root)}\n".encode())
        return f"delta:{total.hexdigest()}"
    if all(file.location.local is not None for file in source.files):
        return _of_bytes(source.files, whole)
    tags = _each(source.files, _tag)
    if all(tag is not None for tag in tags):
        total = hashlib.sha256()
        for file, tag in zip(source.files, tags, strict=True):
            total.update(f"{file.size} {tag}\n".encode())
        return f"etag:{total.hexdigest()}"
    return _of_bytes(source.files, whole=False)


def _of_bytes(files: tuple[DataFile, ...], whole: bool) -> str:
    total = hashlib.sha256()
    for line in _each(files, lambda file: _digest(file, whole)):
        total.update(line.encode())
    return f"{'sha256' if whole else 'sampled'}:{total.hexdigest()}"


def _each(files: tuple[DataFile, ...], ask: Any) -> list[Any]:
    """``ask`` of each file, in order; of several far ones at a time."""

    def careful(file: DataFile) -> Any:
        try:
            return ask(file)
        except Exception as error:
            if file.location.local is not None:
                if isinstance(error, OSError):
                    raise denied(error, file.name) from None
                raise
            raise trouble(error, file.name) or UnreadableDataError(
                f"cannot read the file: {error}", where=file.name, hint="check the storage, then try again"
            ) from None

    if files and files[0].location.local is not None:
        return [careful(file) for file in files]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(careful, files))


def _digest(file: DataFile, whole: bool) -> str:
    path = file.location.local
    with file.random() if path is None else path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if whole and path is not None:
            digest = hashlib.file_digest(stream, "sha256")
        elif size <= _WHOLE:
            digest = hashlib.sha256(stream.read())
        else:
            digest = hashlib.sha256(stream.read(_EDGE))
            for number in range(1, _SAMPLES + 1):
                stream.seek(size * number // (_SAMPLES + 1))
                digest.update(stream.read(_SAMPLE))
            stream.seek(size - _EDGE)
            digest.update(stream.read(_EDGE))
    return f"{size} {digest.hexdigest()}\n"


def _tag(file: DataFile) -> str | None:
    """What the storage keeps for a file's content; None: nothing."""
    if file.location.kind == HTTP:
        tag = of_fsspec(HTTP).info(file.location.path).get("ETag")
        return None if tag is None or str(tag).startswith("W/") else str(tag)
    with file.location.file_system.open_input_stream(file.location.path) as stream:
        facts = stream.metadata() or {}
    found = {str(_text(name)).lower(): _text(value) for name, value in facts.items()}
    return next((found[name] for name in ("etag", "md5hash", "content-md5") if found.get(name)), None)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
