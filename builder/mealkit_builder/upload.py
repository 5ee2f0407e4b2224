"""A blob on its way up: its bytes from the start, as often as tries need them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from mealkit.errors import RegistryError

_BLOCK = 1 << 20


class Upload:
    """A blob on its way up; can be opened again for another try.

    Args:
        read: Opens the blob's bytes from the start.
        size: How many they are.
        progress: Told of each block; a negative number takes back what a failed try had moved.
    """

    def __init__(self, read: Callable[[], BinaryIO], size: int, progress: Callable[[int], None] | None = None) -> None:
        self._open, self.size, self._progress = read, size, progress
        self.failure: Exception | None = None
        self._moved = 0

    @contextmanager
    def reader(self) -> Iterator[io.RawIOBase]:
        """The bytes for one try."""
        if self._progress and self._moved:
            self._progress(-self._moved)
        self._moved = 0
        self.failure = None
        with self._open() as file:
            yield _Reader(self, file)

    def take(self, file: BinaryIO, size: int) -> bytes:
        """The next block; a failure of ours is kept, because urllib3 would call it one of the connection."""
        try:
            block = file.read(size if size > 0 else _BLOCK)
            if not block and self._moved < self.size:
                raise RegistryError(
                    f"a blob ended after {self._moved} of {self.size} bytes",
                    hint="mealkit's cache was changed: remove it and build again",
                )
        except Exception as error:
            self.failure = error
            raise
        self._moved += len(block)
        if self._progress and block:
            self._progress(len(block))
        return block


class _Reader(io.RawIOBase):
    def __init__(self, upload: Upload, file: BinaryIO) -> None:
        self._upload, self._file = upload, file

    def read(self, size: int = -1) -> bytes:
        return self._upload.take(self._file, size)
