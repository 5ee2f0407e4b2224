"""The files of a dataset by name, where a new one can be made once: a folder here, or a prefix in object storage."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

from mealkit.errors import StorageError

from .atomic import create_atomic
from .files import make_folder, sync
from .part import Sink


class Shelf(Protocol):
    """Files by names that are relative to a dataset, with ``/`` between folders."""

    def create(self, name: str, data: bytes) -> bool:
        """Make a file that is not there, whole and durably; False: it is there, and was left as it is."""

    def sink(self, name: str) -> Sink:
        """Begin a large file; no one else may use its name."""

    def read(self, name: str) -> bytes | None:
        """A small file; None: there is none."""

    def open(self, name: str) -> BinaryIO:
        """A file to be read piece by piece.

        Raises:
            FileNotFoundError: there is none.
        """

    def names(self, prefix: str) -> list[str]:
        """The names of the files below a folder, sorted."""

    def size(self, name: str) -> int:
        """Bytes; 0 when it is gone."""

    def age(self, name: str, now: float) -> float:
        """Seconds since a file was written; 0.0 when it is gone."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


class FolderShelf:
    """A local folder; nothing is made in it before the first file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, name: str, data: bytes) -> bool:
        """As :meth:`Shelf.create`: a hard link either is made or is not, and gives the whole file its name."""
        for _ in range(100):
            make_folder((self.root / name).parent)
            with contextlib.suppress(FileNotFoundError):  # whoever cleared the folder just now did so for all
                return create_atomic(self.root / name, data)
        raise StorageError(
            "the file's folder disappears again and again",
            where=str(self.root / name),
            hint="let only mealkit write in it",
        )

    def sink(self, name: str) -> FileSink:
        """As :meth:`Shelf.sink`."""
        for _ in range(100):
            make_folder((self.root / name).parent)
            with contextlib.suppress(FileNotFoundError):
                return FileSink(self.root / name)
        raise StorageError(
            "the file's folder disappears again and again",
            where=str(self.root / name),
            hint="let only mealkit write in it",
        )

    def read(self, name: str) -> bytes | None:
        """As :meth:`Shelf.read`."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, name: str) -> BinaryIO:
        """As :meth:`Shelf.open`."""
        return (self.root / name).open("rb")

    def names(self, prefix: str) -> list[str]:
        """As :meth:`Shelf.names`."""
        return sorted(path.relative_to(self.root).as_posix() for path in _files(self.root / prefix))

    def size(self, name: str) -> int:
        """As :meth:`Shelf.size`."""
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return 0

    def age(self, name: str, now: float) -> float:
        """As :meth:`Shelf.age`."""
        try:
            return max(0.0, now - (self.root / name).stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def remove(self, name: str) -> None:
        """As :meth:`Shelf.remove`; a folder that is empty then goes too."""
        path = self.root / name
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            while (path := path.parent) != self.root:
                path.rmdir()


class FileSink:
    """A local file; it is on the disk, and so is its name, when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("wb")

    def write(self, data: Any, /) -> int:
        """Add bytes."""
        return self._file.write(data)

    def close(self) -> None:
        """Force the file and its name to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        sync(self.path.parent)

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder, whatever is removed meanwhile."""
    for where, _, names in os.walk(folder):
        for name in names:
            yield Path(where, name)
