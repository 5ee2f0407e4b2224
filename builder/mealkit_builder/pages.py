"""A file's pages: mapped to be read anywhere in it, and given back to the system before they are many."""

from __future__ import annotations

import mmap
from typing import BinaryIO

_MOST = 2 << 20  # bytes read before all pages are given back


class Pages:
    """A file as a view of its bytes; what was read of it does not stay in this process' memory.

    The mapping lives as long as any slice of :attr:`data`.

    Args:
        file: An open file with a descriptor, which may be closed afterwards.

    Raises:
        ValueError: the file is empty.
        OSError: it cannot be mapped.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._read = 0
        self.data = memoryview(self._map)

    def read(self, size: int) -> None:
        """Tell that so many bytes were read. Slices stay valid: what is read again comes from the page cache again."""
        self._read += size
        if self._read >= _MOST:
            self.forget()

    def forget(self) -> None:
        """Give all pages back."""
        self._read = 0
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
