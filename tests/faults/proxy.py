"""A proxy that stands before a registry and breaks the conversation on purpose, the same way for the same seed.

It speaks HTTP/1.1 over plain sockets, a thread a connection, and records every request that came. Which fault a
request meets is decided by a *plan*: :class:`Seeded` draws from a hash of the seed, the request and how often it came
before, so that threads may come in any order; :meth:`FaultProxy.script` breaks chosen requests.

A second address, 127.0.0.2, plays the other host that a registry keeps its blobs on: it reaches the same registry, and
what came there is recorded too, so that a test can say that no credential did.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Self
from urllib.parse import parse_qs, urlsplit

FAULTS: Mapping[str, str] = {
    "status": "an answer of 500, 502, 503, 504 or 408; the request does not reach the registry",
    "busy": "429 with Retry-After; the request does not reach the registry",
    "reset-before": "the connection is reset before the request's body is read",
    "reset-within": "the connection is reset when half of the request's body is read; the registry sees that half",
    "reset-after": "the registry did what was asked, then the connection is reset: the answer is lost",
    "lost": "the registry did what was asked, but 502 comes back",
    "cut-request": "half of the request's body reaches the registry, then both connections are closed",
    "cut-answer": "half of the answer's body comes (nothing, where it has none), then the connection is closed",
    "cut-head": "half of the answer's head comes, then the connection is closed",
    "slow": "the request's body is taken slowly, as by a thin line",
    "drip": "the answer comes in small pieces",
    "hang": "no answer comes, and the connection stays open",
    "hang-answer": "half of the answer comes, then nothing, and the connection stays open",
    "twice": "the answer comes twice",
    "midway": "404 or 416 to the request that carries an upload's bytes",
    "phantom": "201 to a mount that was not done",
    "expired": "401 with a challenge, as after a token has ended",
    "elsewhere": "a blob is redirected to another host, an upload's Location names another host",
}
"""Every fault that the proxy knows, and what it does."""

FAILING = frozenset(
    {"status", "busy", "reset-before", "reset-within", "reset-after", "lost", "cut-request", "cut-answer", "hang"}
    | {"cut-head", "hang-answer", "midway"}
)
"""The faults after which the request has to be tried again."""

_STATUSES = (500, 502, 503, 504, 408)
_SESSION = re.compile(r"(/blobs/uploads/)[^/?]+")
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Request:
    """One request that came, and what became of it.

    Attributes:
        number: Its place in the order of arrival, from 0.
        method: The HTTP method.
        target: Path and query.
        key: What is asked for, without what differs from try to try.
        occurrence: How many requests of this key came before.
        host: ``registry`` or ``elsewhere``.
        authorization: The header as it came; empty without.
        length: Of its body.
        fault: What it met; empty for none.
    """

    number: int
    method: str
    target: str
    key: str
    occurrence: int
    host: str
    authorization: str = field(repr=False)
    length: int
    fault: str = ""


Plan = Callable[[Request], str]


def request_key(method: str, target: str, wanted: str = "") -> str:
    """What a request asks for, and which range of it.

    An upload session's name and state differ from try to try, the digest does not.
    """
    parts = urlsplit(target)
    query = parse_qs(parts.query)
    asked = [f"{name}={query[name][0]}" for name in ("digest", "mount", "from") if name in query]
    path = _SESSION.sub(r"\1*", parts.path)
    return " ".join(filter(None, [method, path, "&".join(asked), wanted]))


def can_meet(request: Request, fault: str) -> bool:
    """Whether a fault makes sense for a request."""
    upload = "/blobs/uploads/" in request.target
    if fault in ("reset-within", "cut-request", "slow"):
        return request.length > 1
    if fault == "midway":
        return upload and request.method in ("PUT", "PATCH")
    if fault == "phantom":
        return "mount=" in request.target
    if fault == "elsewhere":
        blob = request.method == "GET" and "/blobs/" in request.target
        return request.host == "registry" and (blob or (upload and request.method == "POST"))
    if fault == "expired":
        return request.host == "registry" and "/v2/" in request.target
    return True


class Seeded:
    """A plan that breaks a share of the requests; a pure function of the seed, the request and its occurrence.

    Args:
        seed: Which run it is.
        rate: The share of requests that meet a fault, from 0 to 1.
        weights: How often each fault is taken, relative to the others.
    """

    def __init__(self, seed: object, rate: float, weights: Mapping[str, int]) -> None:
        assert set(weights) <= set(FAULTS)
        self.seed, self.rate, self.weights = seed, rate, weights

    def __call__(self, request: Request) -> str:
        told = f"{self.seed}/{request.host}/{request.key}/{request.occurrence}".encode()
        draw = hashlib.sha256(told).digest()
        if int.from_bytes(draw[:8]) >= self.rate * 2**64:
            return ""
        choices = [name for name, weight in self.weights.items() if can_meet(request, name) for _ in range(weight)]
        return choices[int.from_bytes(draw[8:16]) % len(choices)] if choices else ""


class FaultProxy:
    """Listens on 127.0.0.1 (the registry) and 127.0.0.2 (the other host), and forwards to a registry.

    Args:
        upstream: ``host:port`` of the registry.
        plan: Which fault a request meets; none by default.
        challenge: The ``WWW-Authenticate`` header of ``expired``.
        storage_authorization: What the other host shows the registry, as a signed URL would be honoured.
        hang_seconds: How long ``hang`` holds a connection at most.
        drip_seconds: Between two pieces of a dripping answer.
        slow_rate: Bytes a second of a body that is taken slowly.
    """

    def __init__(
        self,
        upstream: str,
        plan: Plan = lambda request: "",
        *,
        challenge: str = 'Basic realm="faults"',
        storage_authorization: str = "",
        hang_seconds: float = 60.0,
        drip_seconds: float = 0.001,
        slow_rate: int = 1 << 20,
    ) -> None:
        name, _, port = upstream.rpartition(":")
        self.upstream = (name, int(port))
        self.plan, self.challenge, self.storage_authorization = plan, challenge, storage_authorization
        self.hang_seconds, self.drip_seconds, self.slow_rate = hang_seconds, drip_seconds, slow_rate
        self.requests: list[Request] = []
        self.retry_after = "1"
        self._scripts: list[tuple[str, str, list[str]]] = []
        self._occurrences: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._listeners: dict[str, socket.socket] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for host, address in (("registry", "127.0.0.1"), ("elsewhere", "127.0.0.2")):
            self._listeners[host] = listener = socket.create_server((address, 0), backlog=64)
            thread = threading.Thread(target=self._accept, args=(listener, host), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *ignored: object) -> None:
        self._stopped.set()
        for listener in self._listeners.values():
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            sockets = list(self._open)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``: what the client takes for the registry."""
        return f"127.0.0.1:{self._listeners['registry'].getsockname()[1]}"

    @property
    def elsewhere(self) -> str:
        """``127.0.0.2:PORT``: the other host."""
        return f"127.0.0.2:{self._listeners['elsewhere'].getsockname()[1]}"

    def script(self, method: str, contains: str, *faults: str) -> None:
        """The next requests of ``method`` whose target holds ``contains`` meet these faults; ``""`` is none."""
        assert set(faults) <= {*FAULTS, ""}
        self._scripts.append((method, contains, list(faults)))

    def restart(self, plan: Plan) -> None:
        """Another plan, and nothing recorded so far."""
        with self._lock:
            self.plan = plan
            self.requests.clear()
            self._occurrences.clear()

    def seen(self, host: str = "registry") -> list[Request]:
        """What came to one of the two hosts so far."""
        with self._lock:
            return [request for request in self.requests if request.host == host]

    def longest_run(self) -> tuple[int, str]:
        """The most tries that one request got, and its key.

        A request like one that failed is a try of the same; after one that did not fail, the count begins anew.
        Opening an upload looks the same for every blob, so those are not counted here.
        """
        runs: Counter[str] = Counter()
        failed: dict[str, bool] = {}
        most = (0, "")
        for request in self.requests:
            if request.key.startswith("POST ") and "mount=" not in request.key:
                continue
            runs[request.key] = runs[request.key] + 1 if failed.get(request.key) else 1
            failed[request.key] = request.fault in FAILING
            most = max(most, (runs[request.key], request.key))
        return most

    # --- one connection ---

    def _accept(self, listener: socket.socket, host: str) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(client, host), daemon=True)
            thread.start()

    def _serve(self, client: socket.socket, host: str) -> None:
        reader = client.makefile("rb", _BLOCK)
        upstream = _Upstream(self.upstream)
        try:
            while not self._stopped.is_set() and self._one(client, reader, upstream, host):
                pass
        except OSError:
            pass  # the client or the registry went away: the other is told by the end of its connection
        finally:
            upstream.close()
            for one in (reader, client):
                with contextlib.suppress(OSError):
                    one.close()
            with self._lock:
                self._open.discard(client)

    def _one(self, client: socket.socket, reader: BinaryIO, upstream: _Upstream, host: str) -> bool:
        """Serve one request; whether the connection is good for another."""
        lines = list(_head(reader))
        if not lines:
            return False
        method, target, _ = lines[0].decode("latin-1").split(" ", 2)
        headers = _headers(lines[1:])
        length = int(headers.get("content-length", "0"))
        key = request_key(method, target, headers.get("range", ""))
        fault = self._note(key, method, target, host, headers.get("authorization", ""), length)
        if fault == "reset-before":
            return _reset(client, reader)
        half = length // 2
        if fault in ("reset-within", "cut-request"):
            upstream.send_head(lines)
            upstream.send(reader.read(half))
            upstream.close()
            return _reset(client, reader) if fault == "reset-within" else False
        body = self._slowly(client, reader, length) if fault == "slow" else reader.read(length)
        if len(body) < length:
            return False
        made = self._made(fault, target)
        if made is None:
            if host == "elsewhere" and self.storage_authorization:
                lines.insert(1, b"Authorization: " + self.storage_authorization.encode())
            made = upstream.ask(lines, body, method)
            if fault == "lost":
                made = _answer(502, {"code": "UNKNOWN", "message": "bad gateway"})
        head, data = made
        if fault == "elsewhere":
            head = head.replace(f"http://{self.host}/".encode(), f"http://{self.elsewhere}/".encode())
        if method == "HEAD":
            data = b""
        if fault == "reset-after":
            return _reset(client, reader)
        if fault == "hang":
            return self._hang()
        return self._send(client, fault, head, data)

    def _slowly(self, client: socket.socket, reader: BinaryIO, length: int) -> bytes:
        """A body at ``slow_rate``; the kernel may hold little of it meanwhile."""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        body = b""
        while len(body) < length and (piece := reader.read(min(1 << 14, length - len(body)))):
            body += piece
            self._stopped.wait(len(piece) / self.slow_rate)
        return body

    def _send(self, client: socket.socket, fault: str, head: bytes, data: bytes) -> bool:
        whole = head + data
        if fault in ("cut-answer", "hang-answer"):
            client.sendall(head + data[: len(data) // 2] if data else b"")
            return self._hang() if fault == "hang-answer" else False
        if fault == "cut-head":
            client.sendall(head[: len(head) // 2])
            return False
        if fault == "drip":
            step = max(1, len(whole) // 8)
            for begin in range(0, len(whole), step):
                client.sendall(whole[begin : begin + step])
                self._stopped.wait(self.drip_seconds)
            return True
        client.sendall(whole * 2 if fault == "twice" else whole)
        return True

    def _made(self, fault: str, target: str) -> tuple[bytes, bytes] | None:
        """The proxy's own answer, where the fault wants one."""
        drawn = hashlib.sha256(target.encode()).digest()[0]
        if fault == "status":
            return _answer(_STATUSES[drawn % len(_STATUSES)], {"code": "UNKNOWN", "message": "told to fail"})
        if fault == "busy":
            return _answer(429, {"code": "TOOMANYREQUESTS", "message": "slowly"}, {"Retry-After": self.retry_after})
        if fault == "midway":
            return _answer((404, 416)[drawn % 2], {"code": "BLOB_UPLOAD_UNKNOWN", "message": "no such upload"})
        if fault == "expired":
            return _answer(
                401, {"code": "UNAUTHORIZED", "message": "who are you"}, {"WWW-Authenticate": self.challenge}
            )
        if fault == "phantom":
            parts = urlsplit(target)
            place = parts.path.replace("/uploads/", "/") + parse_qs(parts.query)["mount"][0]
            return _answer(201, None, {"Location": place})
        if fault == "elsewhere" and "/uploads/" not in target:
            return _answer(307, None, {"Location": f"http://{self.elsewhere}{target}?X-Signature=secret"})
        return None

    def _hang(self) -> bool:
        self._stopped.wait(self.hang_seconds)
        return False

    def _note(self, key: str, method: str, target: str, host: str, authorization: str, length: int) -> str:
        with self._lock:
            number = len(self.requests)
            plain = Request(number, method, target, key, self._occurrences[host + key], host, authorization, length)
            self._occurrences[host + key] += 1
            fault = self._scripted(plain)
            if fault is None:
                fault = self.plan(plain)
            self.requests.append(
                Request(number, method, target, key, plain.occurrence, host, authorization, length, fault)
            )
        return fault

    def _scripted(self, request: Request) -> str | None:
        for method, contains, faults in self._scripts:
            if faults and method in ("", request.method) and contains in request.target:
                return faults.pop(0)
        return None


class _Upstream:
    """The connection to the registry that serves one client's connection; opened when needed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._reader: BinaryIO | None = None

    def send_head(self, lines: Sequence[bytes]) -> None:
        self.send(b"\r\n".join(lines) + b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, 5)
            self._socket.settimeout(30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader = self._socket.makefile("rb", _BLOCK)
        self._socket.sendall(data)

    def ask(self, lines: Sequence[bytes], body: bytes, method: str) -> tuple[bytes, bytes]:
        """Send a request, read its answer whole: the head with its empty line, and the body."""
        self.send_head(lines)
        if body:
            self.send(body)
        assert self._reader is not None
        answer = list(_head(self._reader))
        if not answer:
            self.close()
            raise ConnectionError("the registry hung up")
        headers = _headers(answer[1:])
        data = b""
        status = int(answer[0].split(b" ")[1])
        if method != "HEAD" and status not in (204, 304):
            if "chunked" in headers.get("transfer-encoding", ""):
                data = b"".join(_chunks(self._reader))
                answer = [line for line in answer if not line.lower().startswith(b"transfer-encoding:")]
                answer.append(b"Content-Length: %d" % len(data))
            else:
                data = self._reader.read(int(headers.get("content-length", "0")))
        if headers.get("connection", "") == "close":
            self.close()
            answer = [line for line in answer if not line.lower().startswith(b"connection:")]
        return b"\r\n".join(answer) + b"\r\n\r\n", data

    def close(self) -> None:
        for one in (self._reader, self._socket):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.close()
        self._socket = self._reader = None


def _head(reader: BinaryIO) -> Iterator[bytes]:
    """The lines of a head, without their ends; none when the connection has ended."""
    while (line := reader.readline(_BLOCK)) not in (b"\r\n", b"\n", b""):
        yield line.rstrip(b"\r\n")


def _headers(lines: Sequence[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}


def _chunks(reader: BinaryIO) -> Iterator[bytes]:
    while size := int(reader.readline().split(b";")[0], 16):
        yield reader.read(size)
        reader.readline()
    reader.readline()


def _answer(
    status: int, error: Mapping[str, str] | None, headers: Mapping[str, str] | None = None
) -> tuple[bytes, bytes]:
    body = json.dumps({"errors": [error]}).encode() if error else b""
    lines = [f"HTTP/1.1 {status} Told", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), body


def _reset(client: socket.socket, reader: BinaryIO) -> bool:
    """End a connection with a TCP reset; what was sent and not yet read is lost."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reader.close()
    client.close()
    return False
