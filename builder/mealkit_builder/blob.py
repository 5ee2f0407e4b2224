"""A blob of a registry as a stream: checked at its end, and taken up again where a connection broke."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from mealkit.errors import RegistryError

from .transport import TRIES, Fault, Reply, Transport

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_BLOCK = 1 << 20


class _RemoteBlob(io.RawIOBase):
    """See :func:`open_remote`."""

    def __init__(self, transport: Transport, fetch: Callable[[int], Reply], digest: str, where: str) -> None:
        self._transport, self._fetch, self._digest, self._where = transport, fetch, digest, where
        self._hash = hashlib.sha256()
        self._offset = 0
        self._length: int | None = None
        self._breaks = 0
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
        reply = self._fetch(self._offset)
        assert reply.stream is not None
        length = reply.headers.get("Content-Length")
        if length is not None and length.isdigit():
            self._length = int(length) + (self._offset if reply.status == 206 else 0)
        if self._offset and reply.status == 200:  # a registry without ranges starts again; skip what we have
            skip = self._offset
            with self._transport.reading(reply.url):
                while skip and (block := reply.stream.read(min(skip, _BLOCK), decode_content=False)):
                    skip -= len(block)
        return reply.stream

    def _block(self, size: int) -> bytes:
        while not self._done:
            try:
                if self._stream is None:
                    self._stream = self._start()
                with self._transport.reading(self._where):
                    block = self._stream.read(min(size, _BLOCK), decode_content=False)
                if not block and self._length is not None and self._offset < self._length:
                    raise Fault("the connection ended too early", where=self._where, hint="try again later")
            except Fault:
                self._breaks += 1
                if self._stream is not None:
                    self._stream.close()
                    self._stream = None
                if self._breaks >= TRIES:
                    raise
                continue
            if block:
                self._hash.update(block)
                self._offset += len(block)
                return block
            self._finish()
        return b""

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
