"""The wire: connections that take half a head for no answer, notice silence in both directions, and can be cut."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ReadTimeoutError

if TYPE_CHECKING:
    import ssl

_PIECE = 1 << 16  # bytes that one wait for the other side may take
_UNSENT = 1 << 17  # bytes that the kernel may hold unsent, so that progress tells what went and not what waits


class Lines:
    """The open connections of a transport."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, line: socket.socket) -> None:
        """Know of one; it is forgotten when nobody uses it any more."""
        with self._lock:
            self._sockets.add(line)

    def cut(self) -> None:
        """End them all, also under the hands of threads that wait for them."""
        with self._lock:
            lines = list(self._sockets)
        for line in lines:
            try:
                # Not SSLSocket's own method, which would pull the TLS state away from the thread that uses it.
                socket.socket.shutdown(line, socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended already


class _Head:
    """The lines of an answer's head, and whether its last one came."""

    def __init__(self, raw: Any) -> None:
        self.raw, self.last = raw, b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self.raw.readline(limit)
        return self.last

    def close(self) -> None:
        self.raw.close()


class _Answer(http.client.HTTPResponse):
    """An answer whose head ends with an empty line; http.client also takes one that was cut (RFC 9112, section 8)."""

    fp: Any

    def begin(self) -> None:
        if getattr(self, "headers", None) is not None:  # read before
            return
        self.fp = head = _Head(self.fp)
        try:
            super().begin()
        finally:
            if self.fp is head:
                self.fp = head.raw
        if head.last not in (b"\r\n", b"\n"):
            self.close()
            raise http.client.IncompleteRead(head.last)


class _Line:
    """What both kinds of connections have in common; mixed into urllib3's.

    urllib3 lets the time for connecting also hold for sending, and Python counts it for a whole block: a thin line
    would be taken for a dead one.
    """

    response_class = _Answer
    lines: Lines
    patience: float
    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        if sys.platform == "linux":
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self.lines.add(self.sock)

    def send(self, data: Any) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            super().send(data)  # type: ignore[misc]
            return
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.patience)
        view = memoryview(data)
        try:
            for begin in range(0, len(view), _PIECE):
                self.sock.sendall(view[begin : begin + _PIECE])
        except TimeoutError as error:
            raise ReadTimeoutError(None, "", "nothing was taken") from error  # type: ignore[arg-type]


def open_pool(
    lines: Lines, *, connect: float, patience: float, context: ssl.SSLContext | None, proxy: tuple[str, str] | None
) -> urllib3.PoolManager:
    """Kept-alive connections to one host, directly or through a proxy.

    Args:
        lines: Gets to know each connection.
        connect: Seconds that connecting may take.
        patience: Seconds without a byte, in either direction, after which a connection is given up.
        context: Whom to trust; what the machine trusts by default.
        proxy: Its URL, and the ``Proxy-Authorization`` that it wants or nothing.
    """
    shared = {"lines": lines, "patience": patience}
    plain = type("_PlainLine", (_Line, HTTPConnection), shared)
    secure = type("_SecureLine", (_Line, HTTPSConnection), shared)
    settings: dict[str, Any] = {
        "retries": False,
        "maxsize": 8,
        # 16 KiB, the default, halves the speed on a fast network; much more, and progress comes in jumps.
        "blocksize": 1 << 17,
        "timeout": urllib3.Timeout(connect=connect, read=patience),
    }
    if context is not None:
        settings["ssl_context"] = context
    if proxy is None:
        pool = urllib3.PoolManager(**settings)
    else:
        url, authorization = proxy
        headers: Mapping[str, str] = {"Proxy-Authorization": authorization} if authorization else {}
        pool = urllib3.ProxyManager(url, proxy_headers=headers, **settings)
    pool.pool_classes_by_scheme = {
        "http": type("_PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return pool
