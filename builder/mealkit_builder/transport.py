"""Transport: HTTP with one registry; the one layer that retries, redirects and shows credentials."""

from __future__ import annotations

import io
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

from mealkit._value import dataclass
from mealkit.errors import MealkitError, RegistryError, RetryableError, UnreachableError

from .auth import Authenticator
from .credentials import find_credentials
from .redact import redact
from .reference import Reference, uses_http

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")

CONNECT_SECONDS = 5.0
STALL_SECONDS = 30.0
TRIES = 3
LONGEST_WAIT = 20.0  # seconds; a registry that asks for more is left alone until the next run
_RETRIED = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
_BLOCK = 1 << 20
_log = logging.getLogger("mealkit_builder.transport")


class Fault(RetryableError):
    """One try failed in a way that another may not; it leaves this module only when all tries are used up."""

    code = "registry-fault"

    def __init__(self, message: str, *, where: str, hint: str, wait: float | None = None) -> None:
        super().__init__(message, where=where, hint=hint)
        self.wait = wait


@dataclass(frozen=True)
class Reply:
    """An answer with its body, already read, or with a ``stream`` to read it from."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    url: str
    stream: urllib3.BaseHTTPResponse | None = None


class Body:
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
    def __init__(self, body: Body, file: BinaryIO) -> None:
        self._body, self._file = body, file

    def read(self, size: int = -1) -> bytes:
        return self._body.take(self._file, size)


class Transport:
    """Kept-alive connections to the registry of a reference; may be used from several threads.

    The constructor does no I/O. Credentials go to the registry's own origin only: never along a redirect or an
    upload's ``Location`` to another host.

    Args:
        reference: Names the host.
        environment: Where proxies, Docker's configuration and insecure hosts come from.
        clock: Seconds that only grow.
        sleep: Waits between tries.
        jitter: A number from 0 to 1.
    """

    def __init__(
        self,
        reference: Reference,
        environment: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self.host = reference.host
        scheme = "http" if uses_http(reference.host, self._environment) else "https"
        self.origin = f"{scheme}://{reference.api_host}"
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._authenticator = Authenticator(
            self.host, self.origin, lambda: find_credentials(self.host, self._environment), self._fetch, clock
        )
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self.requests = 0

    def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.clear()

    def request(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        stream: bool = False,
        limit: int = 1 << 25,
    ) -> Reply:
        """One request, with retries; see :meth:`send`."""
        return self.retry(
            lambda: self.send(method, url, scope=scope, headers=headers, body=body, stream=stream, limit=limit)
        )

    def retry(self, work: Callable[[], T]) -> T:
        """Run ``work`` until it raises no :class:`Fault`, at most three times, with growing and jittered pauses."""
        for attempt in range(1, TRIES + 1):
            try:
                return work()
            except Fault as fault:
                wait = fault.wait if fault.wait is not None else 0.2 * 4 ** (attempt - 1) * (0.5 + self._jitter())
                if attempt == TRIES or wait > LONGEST_WAIT:
                    raise
                _log.debug("again in %.1f s: %s", wait, fault.message)
                self._sleep(wait)
        raise AssertionError("unreachable")

    def send(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        stream: bool = False,
        limit: int = 1 << 25,
    ) -> Reply:
        """One try: answers a challenge, follows the redirects of a GET or HEAD.

        Args:
            method: The HTTP method.
            url: A path of the registry or a whole URL.
            scope: What the token must allow, such as ``repository:team/recipe:pull``.
            headers: Further headers; never ``Authorization``.
            body: What to send.
            stream: Leave the body of a good answer unread.
            limit: The longest body that is read into memory, in bytes.

        Raises:
            Fault: the try failed, another may not.
            UnreachableError: no connection, or silence.
            AuthenticationError: missing or wrong credentials.
            PermissionDeniedError: credentials that do not allow this.
        """
        url = urljoin(self.origin + "/", url)
        for _ in range(6):
            trusted = _origin(url) == _origin(self.origin)
            sent = self._authenticator.header(scope) if trusted else None
            reply = self._once(method, url, headers or {}, sent, body, stream, limit)
            if reply.status == 401 and trusted:
                answer = self._authenticator.answer(_header(reply, "WWW-Authenticate"), scope, sent)
                reply = self._once(method, url, headers or {}, answer, body, stream, limit)
                if reply.status == 401:
                    raise self._authenticator.refused()
            if reply.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                return reply
            url = self.resolve(url, _header(reply, "Location"))
        raise RegistryError(f"{self.host} redirects in a circle", where=redact(url), hint="ask the registry's operator")

    def resolve(self, base: str, location: str) -> str:
        """The URL of a ``Location`` header; it may not lead from https to http."""
        url = urljoin(urljoin(self.origin + "/", base), location)
        parts = urlsplit(url)
        allowed = ("https",) if self.origin.startswith("https:") else ("http", "https")
        if not location or parts.scheme not in allowed:
            raise RegistryError(
                f"{self.host} sends us to an address that is not safe",
                where=redact(url),
                hint="ask the registry's operator",
            )
        return url

    def _fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        reply = self.retry(lambda: self._once(method, url, headers, None, body, False, 1 << 20))
        return reply.status, reply.data

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        body: bytes | Body | None,
        stream: bool,
        limit: int,
    ) -> Reply:
        sent = {"User-Agent": "mealkit", "Accept-Encoding": "identity"} | dict(headers)
        if authorization:
            sent["Authorization"] = authorization
        begin = self._clock()
        with self._errors(url, body):
            if isinstance(body, Body):
                sent |= {"Content-Length": str(body.size), "Content-Type": "application/octet-stream"}
                with body.reader() as reader:
                    response = self._open(method, url, sent, reader)
            else:
                response = self._open(method, url, sent, body)
            status = response.status
            wanted = stream and status in (200, 206)
            data = b"" if wanted else response.read(limit + 1, decode_content=False)
            if len(data) > limit:
                response.close()
                raise RegistryError(
                    f"{self.host} sent more than {limit} bytes",
                    where=redact(url),
                    hint="this is no manifest or config that mealkit can use",
                )
            told = response.headers.get("Content-Length", "")
            if not wanted and method != "HEAD" and told.isdigit() and len(data) < int(told):
                response.close()
                raise Fault(
                    f"the connection to {_host(url)} ended too early", where=redact(url), hint="try again later"
                )
            if not wanted:
                response.drain_conn()
                response.release_conn()
        _log.debug("%s %s: %d, %.0f ms", method, redact(url), status, (self._clock() - begin) * 1000)
        if status in _RETRIED:
            raise Fault(
                f"{self.host} answered {status} {response.reason or ''}".rstrip(),
                where=redact(url),
                hint="try again later",
                wait=_retry_after(response.headers.get("Retry-After")),
            )
        return Reply(status, response.headers, data, url, response if wanted else None)

    def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: io.RawIOBase | bytes | None
    ) -> urllib3.BaseHTTPResponse:
        with self._lock:
            self.requests += 1
            if self._pool is None:
                self._pool = _new_pool(self.origin, self._environment)
            pool = self._pool
        return pool.request(
            method, url, headers=headers, body=body, redirect=False, retries=False, preload_content=False
        )

    @contextmanager
    def _errors(self, url: str, body: bytes | Body | None = None) -> Iterator[None]:
        """Turn urllib3's errors into ours."""
        from urllib3 import exceptions

        where = redact(url)
        try:
            yield
        except MealkitError:
            raise
        except Exception as error:
            if isinstance(body, Body) and body.failure is not None:
                raise body.failure from None
            if isinstance(error, exceptions.SSLError):
                raise RegistryError(
                    f"no trusted TLS connection to {self.host}: {redact(str(error))}",
                    where=where,
                    hint="name the registry's certificate authority in SSL_CERT_FILE; if it speaks plain http, "
                    "add it to MEALKIT_INSECURE_REGISTRIES",
                ) from error
            if isinstance(
                error, (exceptions.NewConnectionError, exceptions.ConnectTimeoutError, exceptions.ProxyError)
            ):
                raise UnreachableError(
                    f"no connection to {_host(url)}", where=where, hint="is the registry running, and its name right?"
                ) from error
            if isinstance(error, exceptions.TimeoutError):
                raise UnreachableError(
                    f"{_host(url)} gave no answer for {STALL_SECONDS:g} s",
                    where=where,
                    hint="try again later; is the registry overloaded?",
                ) from error
            if isinstance(error, exceptions.HTTPError | OSError):
                raise Fault(f"the connection to {_host(url)} broke", where=where, hint="try again later") from error
            raise

    @contextmanager
    def reading(self, url: str) -> Iterator[None]:
        """Maps the errors of reading a stream as those of a request are."""
        with self._errors(url):
            yield


def _new_pool(origin: str, environment: Mapping[str, str]) -> urllib3.PoolManager:
    """A pool for the origin, through a proxy where the environment names one."""
    import urllib3

    # Response and request bodies are moved in big blocks: 16 KiB, the default, halves the speed on a fast network.
    settings = {
        "retries": False,
        "maxsize": 8,
        "blocksize": _BLOCK,
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS),
    }
    proxy = _proxy(origin, environment)
    if proxy:
        return urllib3.ProxyManager(proxy, **settings)  # type: ignore[arg-type]
    return urllib3.PoolManager(**settings)  # type: ignore[arg-type]


def _proxy(origin: str, environment: Mapping[str, str]) -> str | None:
    lower = {name.lower(): value for name, value in environment.items() if name.lower().endswith("_proxy")}
    parts = urlsplit(origin)
    proxy = lower.get(f"{parts.scheme}_proxy") or lower.get("all_proxy")
    if not proxy or parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return None
    host = parts.hostname or ""
    for rule in (part.strip().lstrip(".").lower() for part in lower.get("no_proxy", "").split(",")):
        if rule == "*" or (rule and (host == rule or host.endswith("." + rule))):
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _header(reply: Reply, name: str) -> str:
    return reply.headers.get(name) or ""


def _retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
