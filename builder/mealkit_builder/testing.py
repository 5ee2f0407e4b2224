"""Fakes for tests of recipes and pipelines: a registry in memory, spoken to over real HTTP on this machine."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from ._memory_registry import Handler
from .cache_tag import is_cache_tag

__all__ = ["MemoryRegistry", "Seen"]

Failure = int | Literal["reset", "truncate"]


@dataclass(frozen=True)
class Seen:
    """One request that the registry got: the method, the path with its query, and whether credentials came along."""

    method: str
    path: str
    authorization: str = field(default="", repr=False)
    status: int = 0


@dataclass
class Fault:
    """A fault to come; see :meth:`MemoryRegistry.fail_next`."""

    failure: Failure
    times: int
    method: str
    path_contains: str
    retry_after: str


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a test that forgets stop() must still end

    def __init__(self, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.connections: set[socket.socket] = set()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, and know of it as long as it is open."""
        self.connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.discard(request)

    def hang_up(self, seconds: float = 5.0) -> None:
        """End the connections that clients keep alive, and wait until their threads have closed them."""
        ends = time.monotonic() + seconds
        while self.connections and time.monotonic() < ends:
            for connection in tuple(self.connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            time.sleep(0.001)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that a client, or a fault that was asked for, has cut."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)


class MemoryRegistry:
    """An OCI distribution registry that lives in memory and listens on 127.0.0.1.

    It counts requests and bytes, can ask for credentials, and fails when told to. Use it as a context manager::

        with MemoryRegistry(users={"ada": "lovelace"}) as registry:
            push("…", f"{registry.host}/team/recipe:1")
            assert registry.tags("team/recipe") == {"1"}

    Args:
        users: Names and passwords; empty lets everybody do everything.
        readers: Users who may only pull.
        auth: How credentials are asked for when there are users.
        token_seconds: How long a bearer token lives.
        mounts: ``yes``; ``no`` (opens an upload instead); ``phantom`` (says 201 and does nothing, as some did).
        redirect_blobs_to: An origin that a GET of a blob is redirected to, such as another registry's.
        upload_origin: An origin that the ``Location`` of an upload names.
        referrers: Whether it lists what refers to a manifest, as registries do since OCI 1.1.

    Attributes:
        blobs: Bytes by digest, for each repository.
        manifests: ``(bytes, media type)`` by digest, for each repository.
        seen: The requests so far.
        bytes_in: Body bytes received.
        bytes_out: Body bytes sent.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        readers: Sequence[str] = (),
        auth: Literal["basic", "bearer"] = "basic",
        token_seconds: int = 300,
        mounts: Literal["yes", "no", "phantom"] = "yes",
        redirect_blobs_to: str = "",
        upload_origin: str = "",
        referrers: bool = True,
    ) -> None:
        self.users, self.readers = dict(users or {}), frozenset(readers)
        self.auth, self.token_seconds = auth, token_seconds
        self.mounts, self.redirect_blobs_to, self.upload_origin = mounts, redirect_blobs_to, upload_origin
        self.referrers = referrers
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, dict[str, tuple[bytes, str]]] = {}
        self.tag_digests: dict[str, dict[str, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self.tokens: dict[str, tuple[str, float]] = {}
        self.refresh_tokens: dict[str, str] = {}
        self.seen: list[Seen] = []
        self.bytes_in = self.bytes_out = 0
        self.lock = threading.RLock()
        self._faults: list[Fault] = []
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port."""
        registry = self

        class Bound(Handler):
            pass

        Bound.registry = registry
        self._server = _Server(Bound)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.hang_up()
            self._server.server_close()
        if self._thread is not None:
            self._thread.join(5)

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        assert self._server is not None, "start() first"
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{self.host}"

    @property
    def requests(self) -> int:
        """How many requests came."""
        return len(self.seen)

    def tags(self, repository: str) -> set[str]:
        """The tags of a repository that people gave; ``tag_digests`` has the builder's cache tags too."""
        return {tag for tag in self.tag_digests.get(repository, {}) if not is_cache_tag(tag)}

    def forget(self) -> None:
        """Drop what was counted so far, not what is stored."""
        with self.lock:
            self.seen.clear()
            self.bytes_in = self.bytes_out = 0

    def fail_next(
        self, failure: Failure, *, times: int = 1, method: str = "", path_contains: str = "", retry_after: str = ""
    ) -> None:
        """Make coming requests fail.

        Args:
            failure: A status; ``reset`` (the connection is reset); ``truncate`` (half of the body is sent, or read).
            times: How many requests.
            method: Only requests of this method.
            path_contains: Only requests whose path holds this.
            retry_after: The value of a ``Retry-After`` header.
        """
        with self.lock:
            self._faults.append(Fault(failure, times, method, path_contains, retry_after))

    def due_fault(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets, if any; it is used up."""
        with self.lock:
            for fault in self._faults:
                if fault.times > 0 and fault.method in ("", method) and fault.path_contains in path:
                    fault.times -= 1
                    return fault
        return None
