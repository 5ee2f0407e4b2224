"""The spool: contents made in any order, on the disk until a layer takes them in its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Self

from mealkit.errors import storage_error

from .inflate import LARGE
from .splice import Body, Stream, compressed_body, compressed_stream
from .store import Store


class Spool:
    """A temporary file in the store with many contents in it; gone when the block ends.

    Attributes:
        sizes: Length of each content, by its path in the image.
    """

    def __init__(self, store: Store) -> None:
        self.sizes: dict[str, int] = {}
        self._store = store
        self._starts: dict[str, int] = {}
        self._end = 0

    def __enter__(self) -> Self:
        self._path: Path = self._store.temporary_blob()
        self._file: BinaryIO = self._path.open("r+b", buffering=0)
        self._path.unlink()  # it lives as long as it is open, and no longer if this process is killed
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, path: str, data: bytes) -> None:
        """Keep a content; not to be called by several threads at once.

        Raises:
            StorageError: the disk is full.
        """
        try:
            view = memoryview(data)
            while len(view):
                view = view[self._file.write(view) :]
        except OSError as error:
            raise storage_error(error, "cannot write to mealkit's cache", self._store.root) from error
        self.sizes[path], self._starts[path] = len(data), self._end
        self._end += len(data)

    def read(self, path: str) -> bytes:
        """A content, whole."""
        return os.pread(self._file.fileno(), self.sizes[path], self._starts[path])

    def body(self, path: str) -> Body | Stream:
        """A content, deflated; may be called from several threads."""
        size, start = self.sizes[path], self._starts[path]
        number = self._file.fileno()
        if size <= LARGE:
            return compressed_body(os.pread(number, size, start))
        blocks = (os.pread(number, min(LARGE, size - at), start + at) for at in range(0, size, LARGE))
        return compressed_stream(size, blocks)
