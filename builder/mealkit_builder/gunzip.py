"""A gzip file as a stream of what is in it, all members of it, by the fastest inflater that is installed."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, cast

from .inflate import inflater

_BLOCK = 128 << 10


class _Gunzip(io.RawIOBase):
    """See :func:`gunzip`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._make, self._damaged = inflater(31)  # with gzip's header and trailer, which it checks
        self._inflater = self._make()
        self._waiting: bytes = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        plain = self._some(len(view)) if len(view) else b""
        view[: len(plain)] = plain
        return len(plain)

    def _some(self, most: int) -> bytes:
        while True:
            if self._inflater.eof:
                # Zero bytes after a member are padding (tapes had it); anything else is the next member.
                self._waiting = self._inflater.unused_data.lstrip(b"\0")
                self._inflater, self._begun = self._make(), False
            ended = False
            if not self._waiting:
                self._waiting = self._file.read(_BLOCK)
                ended = not self._waiting
                if not self._begun:
                    self._waiting = self._waiting.lstrip(b"\0")
                    if ended:
                        return b""
                    if not self._waiting:
                        continue
            try:
                plain = self._inflater.decompress(self._waiting, most)
            except self._damaged as error:
                raise zlib.error(str(error)) from error
            self._begun = True
            self._waiting = self._inflater.unconsumed_tail
            if plain:
                return plain
            if ended and not self._inflater.eof:
                raise EOFError("the gzip file ends in the middle")


def gunzip(file: BinaryIO) -> BinaryIO:
    """The content of all members of ``file``, whose CRCs and lengths are checked.

    A read raises zlib.error where the file is damaged, and EOFError where it is cut off.
    """
    return cast("BinaryIO", io.BufferedReader(_Gunzip(file), 1 << 20))
