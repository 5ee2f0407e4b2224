"""Authentication with one registry: answering its challenges, and keeping the tokens that it gives."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from mealkit._value import dataclass
from mealkit.errors import AuthenticationError, PermissionDeniedError, RegistryError, RetryableError

from .credentials import Credentials

CLIENT_ID = "mealkit"
_DEFAULT_LIFE = 60.0  # seconds; the distribution specification's default of ``expires_in``
_MARGIN = 10.0  # a token that ends sooner is not worth starting a request with
_SCHEME = re.compile(r"(?i)(?:\A|,)\s*(bearer|basic)\s+(?=[A-Za-z_]+\s*=)")
# Not from the middle of a word, or a header of 64 KiB of letters would take minutes.
_PARAMETER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Fetch(Protocol):
    """One request, without credentials of ours; returns the status and the body."""

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        """Send it."""


@dataclass(frozen=True)
class Challenge:
    """A ``WWW-Authenticate`` header: the scheme in lower case and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenge(header: str) -> Challenge:
    """Read ``Bearer realm="…",service="…",scope="…"`` or ``Basic realm="…"``.

    Of several challenges in one header the first that we know counts (RFC 9110, section 11.6.1).
    """
    known = list(_SCHEME.finditer(header))
    if known:
        scheme = known[0].group(1)
        rest = header[known[0].end() : known[1].start() if len(known) > 1 else len(header)]
    else:
        scheme, _, rest = header.strip().partition(" ")
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted or not bare else bare
        for name, quoted, bare in _PARAMETER.findall(rest)
    }
    return Challenge(scheme.lower(), parameters)


@dataclass(frozen=True)
class _Token:
    header: str
    ends: float


class Authenticator:
    """Gives the ``Authorization`` header for requests to one registry; used from several threads.

    Credentials are looked for only when the registry asks for them.

    Args:
        host: The registry as the user wrote it, for messages.
        origin: ``scheme://host[:port]`` of the registry's API.
        credentials: Finds what is known for the host.
        fetch: Sends requests to a token server.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        host: str,
        origin: str,
        credentials: Callable[[], Credentials | None],
        fetch: Fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._origin = host, origin
        self._find, self._fetch, self._clock = credentials, fetch, clock
        self._lock = threading.RLock()
        self._credentials: Credentials | None = None
        self._looked = False
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}

    def header(self, scope: str) -> str | None:
        """What to send with a request for ``scope``; None until the registry has asked for something."""
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return None
            known = self._known()
            if challenge.scheme == "basic":
                return known.basic() if known and known.username else None
            if known and known.registry_token:
                return f"Bearer {known.registry_token}"
            token = self._tokens.get(scope)
            if token is None or token.ends <= self._clock():
                token = self._tokens[scope] = self._ask(challenge, scope, known)
            return token.header

    def answer(self, challenge: str, scope: str, sent: str | None) -> str:
        """The header for a second try after a 401.

        Args:
            challenge: The ``WWW-Authenticate`` header of the answer.
            scope: What the request needs.
            sent: The ``Authorization`` header that was refused, if there was one.

        Raises:
            AuthenticationError: there are no credentials, or they are wrong.
            PermissionDeniedError: they are good, but do not allow this.
        """
        with self._lock:
            parsed = parse_challenge(challenge)
            if parsed.scheme not in ("basic", "bearer"):
                raise AuthenticationError(
                    f"{self._host} asks for {parsed.scheme or 'an unnamed'} authentication",
                    where=self._host,
                    hint="mealkit knows basic and bearer authentication",
                )
            self._challenge = parsed
            token = self._tokens.get(scope)
            if sent is not None and token is not None and token.header == sent:
                del self._tokens[scope]  # it ended early, or the server forgot it
            header = self.header(scope)
            if header is None or header == sent:
                raise self.refused()
            return header

    def refused(self) -> RegistryError:
        """The error for a request that was answered 401 although we have shown all that we have."""
        with self._lock:
            known = self._known()
            if known and self._challenge and self._challenge.scheme == "bearer" and not known.registry_token:
                account = known.username or "this account"
                return PermissionDeniedError(
                    f"{self._host} knows {account} but does not allow this",
                    where=self._host,
                    hint="ask for push rights, or set another repository=",
                )
            return self._rejected(known)

    def _rejected(self, known: Credentials | None) -> AuthenticationError:
        message = (
            f"{self._host} refused the credentials of {known.username or 'this account'}"
            if known
            else f"{self._host} asks for credentials and none are known"
        )
        return AuthenticationError(message, where=self._host, hint=f"docker login {self._host}")

    def _known(self) -> Credentials | None:
        if not self._looked:
            self._credentials, self._looked = self._find(), True
        return self._credentials

    def _ask(self, challenge: Challenge, scope: str, known: Credentials | None) -> _Token:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        query = {"service": challenge.parameters.get("service", ""), "scope": scope}
        headers = {"Accept": "application/json"}
        if known and known.identity_token:
            form = query | {"grant_type": "refresh_token", "refresh_token": known.identity_token}
            form["client_id"] = CLIENT_ID
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            status, body = self._get("POST", realm, headers, urlencode(_filled(form)).encode())
        else:
            if known and known.username:
                headers["Authorization"] = known.basic()
                query["account"] = known.username
            pairs = [
                (name, part)
                for name, value in _filled(query).items()
                for part in (value.split(" ") if name == "scope" else [value])
            ]
            status, body = self._get("GET", realm + ("&" if "?" in realm else "?") + urlencode(pairs), headers, None)
        if status in (401, 403):
            raise self._rejected(known)
        return self._read(status, body)

    def _get(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        try:
            return self._fetch(method, url, headers, body)
        except RetryableError as error:
            # Of a kind that is not tried again: the token server has had its tries, and the request asked it each time.
            raise RetryableError(
                f"the token server of {self._host} failed: {error.message}", where=error.where, hint="try again later"
            ) from error

    def _read(self, status: int, body: bytes) -> _Token:
        try:
            answer = json.loads(body) if status == 200 else {}
            token = answer.get("token") or answer.get("access_token")
            life = float(answer.get("expires_in") or _DEFAULT_LIFE)
        except (ValueError, AttributeError, TypeError, RecursionError):
            token, life = None, 0.0
        if not isinstance(token, str) or not token or any(ord(character) < 33 for character in token):
            raise RegistryError(
                f"the token server of {self._host} gave no token (status {status})",
                where=self._host,
                hint="try again later, or ask the registry's operator",
            )
        # A life shorter than the margin is a token for one request: it is used, and asked for again after a 401.
        return _Token(f"Bearer {token}", self._clock() + max(life - _MARGIN, min(life, 1.0)))

    def _check_realm(self, realm: str) -> None:
        """Refuse a token server that would carry a password in the clear to a host that is not the registry."""
        theirs, ours = urlsplit(realm), urlsplit(self._origin)
        if theirs.scheme == "https" and theirs.hostname:
            return
        if theirs.scheme == "http" and ours.scheme == "http" and theirs.hostname == ours.hostname:
            return
        raise AuthenticationError(
            f"{self._host} names a token server that is not safe to send credentials to",
            where=f"{theirs.scheme}://{theirs.hostname}",
            hint="a token server is reached by https, or is the registry's own host",
        )


def _filled(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
