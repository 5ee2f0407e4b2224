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
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from mealkit._value import dataclass
from mealkit.errors import MealkitError, RegistryError, RetryableError, Stopped, UnreachableError
from mealkit.redact import redact

from .auth import Authenticator
from .credentials import find_credentials
from .reference import Reference, uses_http
from .upload import Upload

if TYPE_CHECKING:
    import urllib3

    from .wire import Lines

T = TypeVar("T")

CONNECT_SECONDS = 5.0
STALL_SECONDS = 25.0  # both together: a host that has gone silent is noticed within 30 s
TRIES = 3
_PAUSE = 0.2  # seconds, before the second try; four times as long before the third
_LONG_PAUSE = 1.0  # the same where nobody answered: a registry that is started again needs a moment
LONGEST_WAIT = 20.0  # seconds; a registry that asks for more is left alone until the next run
_RETRIED = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
_log = logging.getLogger("mealkit_builder.transport")


class Fault(RetryableError):
    """One try failed in a way that another may not; it leaves this module only when all tries are used up."""

    code = "registry-fault"

    def __init__(self, message: str, *, where: str, hint: str, wait: float | None = None) -> None:
        super().__init__(message, where=where, hint=hint)
        self.wait = wait


class NoAnswerError(Fault, UnreachableError):
    """Nobody answered, or no more: tried again only where the registry has answered before."""

    code = UnreachableError.code


@dataclass(frozen=True)
class Reply:
    """An answer with its body, already read, or with a ``stream`` to read it from."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    url: str
    stream: urllib3.BaseHTTPResponse | None = None


class Transport:
    """Kept-alive connections to the registry of a reference; may be used from several threads.

    The constructor does no I/O. Credentials go to the registry's own origin only: never along a redirect or an
    upload's ``Location`` to another host; nor is a client certificate shown there.

    Args:
        reference: Names the host.
        environment: Where proxies, Docker's configuration and insecure hosts come from.
        clock: Seconds that only grow.
        sleep: Waits between tries; by default :meth:`close` ends the waiting.
        jitter: A number from 0 to 1.
    """

    def __init__(
        self,
        reference: Reference,
        environment: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
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
        self._pools: dict[tuple[str, str, int], urllib3.PoolManager] = {}
        self._lines: Lines | None = None
        self._closed = threading.Event()
        self._answered = False
        self.requests = 0

    def close(self) -> None:
        """Close the connections and give up what other threads do on them; a later request opens new ones."""
        with self._lock:
            pools, self._pools = self._pools, {}
            lines, self._lines = self._lines, None
            closed, self._closed = self._closed, threading.Event()
        closed.set()
        if lines is not None:
            lines.cut()
        for pool in pools.values():
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
        """Run ``work`` until it raises no :class:`Fault`, at most three times, with growing and jittered pauses.

        Raises:
            Fault: of the last try.
            Stopped: :meth:`close` was called meanwhile.
        """
        closed = self._closed
        for attempt in range(1, TRIES + 1):
            try:
                return work()
            except Fault as fault:
                silent = isinstance(fault, NoAnswerError)
                pause = (_LONG_PAUSE if silent else _PAUSE) * 4 ** (attempt - 1) * (0.5 + self._jitter())
                wait = pause if fault.wait is None else fault.wait
                last = attempt == TRIES or wait > LONGEST_WAIT or (silent and not self._answered)
                if last and not closed.is_set():
                    raise
                _log.debug("again in %.1f s: %s", wait, fault.message)
                if not closed.is_set():
                    (closed.wait if self._sleep is None else self._sleep)(wait)
                if closed.is_set():
                    raise Stopped("the registry was left", where=self.host) from fault
        raise AssertionError("unreachable")

    def send(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Upload | None = None,
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
        body: bytes | Upload | None,
        stream: bool,
        limit: int,
    ) -> Reply:
        sent = {"User-Agent": "mealkit", "Accept-Encoding": "identity"} | dict(headers)
        if authorization:
            sent["Authorization"] = authorization
        begin = self._clock()
        with self._errors(url, body):
            if isinstance(body, Upload):
                sent |= {"Content-Length": str(body.size), "Content-Type": "application/octet-stream"}
                with body.reader() as reader:
                    response = self._open(method, url, sent, reader)
            else:
                response = self._open(method, url, sent, body)
            status, self._answered = response.status, True
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
        if _log.isEnabledFor(logging.DEBUG):  # redacting compiles its patterns, for which a warm build has no time
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
            pool = self._pools.get(_origin(url)) or self._open_pool(url)
        return pool.request(
            method, url, headers=headers, body=body, redirect=False, retries=False, preload_content=False
        )

    def _open_pool(self, url: str) -> urllib3.PoolManager:
        """Connections to a URL's host: the registry's, or another that it sends us to."""
        from .detour import find_proxy
        from .trust import tls_context
        from .wire import Lines, open_pool

        origin = _origin(url)
        own = origin == _origin(self.origin)
        self._lines = self._lines or Lines()
        self._pools[origin] = open_pool(
            self._lines,
            connect=CONNECT_SECONDS,
            patience=STALL_SECONDS,
            context=tls_context(self.host if own else "", self._environment) if origin[0] == "https" else None,
            proxy=find_proxy(url, self._environment),
        )
        return self._pools[origin]

    @contextmanager
    def _errors(self, url: str, body: bytes | Upload | None = None) -> Iterator[None]:
        """Turn urllib3's errors into ours."""
        from urllib3 import exceptions

        try:
            yield
        except MealkitError:
            raise
        except Exception as error:
            where = redact(url)
            if isinstance(body, Upload) and body.failure is not None:
                raise body.failure from None
            if isinstance(error, exceptions.SSLError) and "EOF" not in str(error):  # an EOF is a broken connection
                raise RegistryError(
                    f"no trusted TLS connection to {_host(url)}: {redact(str(error))}",
                    where=where,
                    hint="name the registry's certificate authority in SSL_CERT_FILE, or put it into certs.d as for "
                    "Docker; if it speaks plain http, add it to MEALKIT_INSECURE_REGISTRIES",
                ) from error
            if isinstance(error, exceptions.ProxyError):
                raise NoAnswerError(
                    f"the proxy gives no way to {_host(url)}: {redact(str(error.original_error))}",
                    where=where,
                    hint="are HTTP_PROXY and HTTPS_PROXY right? a host in NO_PROXY is reached directly",
                ) from error
            if isinstance(error, (exceptions.NewConnectionError, exceptions.ConnectTimeoutError)):
                kind = UnreachableError if isinstance(error, exceptions.NameResolutionError) else NoAnswerError
                raise kind(
                    f"no connection to {_host(url)}", where=where, hint="is the registry running, and its name right?"
                ) from error
            if isinstance(error, exceptions.TimeoutError):
                raise NoAnswerError(
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
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
