"""A blob of a registry as a stream: checked at its end, and taken up again where a connection broke."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from mealkit.errors import RegistryError, RetryableError

from .transport import TRIES, Fault, Reply, Transport

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_BLOCK = 1 << 20
_RANGE = re.compile(r"bytes\s+([0-9]+)-")


class _RemoteBlob(io.RawIOBase):
    """See :func:`open_remote`."""

    def __init__(self, transport: Transport, fetch: Callable[[int], Reply], digest: str, where: str) -> None:
        self._transport, self._fetch, self._digest, self._where = transport, fetch, digest, where
        self._hash = hashlib.sha256()
        self._offset = 0
        self._length: int | None = None
        self._skip = 0
        self._breaks = self._broke_at = 0
        self._done = False
        self._stream: BaseHTTPResponse | None = self._start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        block = self._block(len(view)) if len(view) else b""
        view[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if self._stream is not None:
            # Unread bytes would come up in the next answer, so a half-read connection is not kept.
            self._stream.close()
            self._stream = None
        super().close()

    def _start(self) -> BaseHTTPResponse:
        """Ask for what is missing; the request has its own tries."""
        reply = self._fetch(self._offset)
        assert reply.stream is not None
        told = _RANGE.match(reply.headers.get("Content-Range") or "")
        # A registry, or a cache before it, that knows no ranges sends all again, and some say 206 with another range.
        begin = int(told.group(1)) if reply.status == 206 and told else 0 if reply.status == 200 else self._offset
        length = reply.headers.get("Content-Length")
        if length is not None and length.isdigit():
            self._length = begin + int(length)
        self._skip = self._offset - begin
        if self._skip < 0:
            reply.stream.close()
            raise RegistryError(
                f"the registry sends bytes from {begin} on where {self._offset} was asked for",
                where=self._where,
                hint="ask the registry's operator",
            )
        return reply.stream

    def _block(self, size: int) -> bytes:
        while not self._done:
            if self._stream is None:
                self._stream = self._start()
            try:
                with self._transport.reading(self._where):
                    block = self._stream.read(min(self._skip or size, _BLOCK), decode_content=False)
                if not block and self._length is not None and self._offset - self._skip < self._length:
                    raise Fault("the connection ended too early", where=self._where, hint="try again later")
            except RetryableError as error:
                self._break(error)
                continue
            if self._skip:
                self._skip -= len(block)
            elif block:
                self._hash.update(block)
                self._offset += len(block)
                return block
            if not block:
                self._finish()
        return b""

    def _break(self, error: RetryableError) -> None:
        """The stream broke: the next read asks for the rest, unless that was tried often enough without getting on."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._offset >= self._broke_at + _BLOCK:
            self._breaks = 0
        self._breaks += 1
        self._broke_at = self._offset
        if self._breaks >= TRIES:
            error.message = f"cannot read {self._digest}: {error.message}"
            error.args = (error.message,)
            error.hint = "run the same command again"
            raise error

    def _finish(self) -> None:
        self._done = True
        if self._stream is not None:
            self._stream.release_conn()
            self._stream = None
        if "sha256:" + self._hash.hexdigest() != self._digest:
            raise RegistryError(
                "a blob's bytes do not have its digest",
                where=self._where,
                hint="the registry, or something between, changed them; do not use this image",
            )


def open_remote(transport: Transport, fetch: Callable[[int], Reply], digest: str, where: str) -> BinaryIO:
    """A stream over a blob that ``fetch(offset)`` requests; the last read raises if the digest is wrong."""
    return cast("BinaryIO", io.BufferedReader(_RemoteBlob(transport, fetch, digest, where), _BLOCK))
