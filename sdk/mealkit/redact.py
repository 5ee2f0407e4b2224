"""Redaction: takes tokens, passwords and signatures out of text that goes to a log, a record or an error.

Two ways, together: what looks like a secret wherever it stands (:func:`redact`), and what is known to be one
(:class:`Redactor`), in all the spellings in which it may come back.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping

HIDDEN = "***"
"""Stands where a secret stood."""

# Query parameters that say what is asked for and grant nothing; every other value may be a signature.
_HARMLESS = frozenset(
    {"digest", "mount", "from", "n", "last", "service", "scope", "region", "scheme", "endpoint_override"}
)

# Compiled when the first text is redacted: that takes milliseconds, and most commands end without.
_pattern = functools.cache(re.compile)

_HEADER = r"(?i)\b(proxy-authorization|authorization|set-cookie|cookie|x-registry-auth)(['\"]?\s*[:=]\s*)[^\r\n]*"
_SCHEME = r"(?i)\b(basic|bearer)(\s+)[A-Za-z0-9._~+/=-]{6,}"
_USERINFO = r"(?<![A-Za-z])([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s@]+@"
_FIELD = (
    r"(?i)(\"?\b(?:access_token|refresh_token|identitytoken|registrytoken|id_token|token|password|passwd|secret|auth)\b"
    r"\"?\s*[:=]\s*)(\"[^\"]*\"|[^\s,;&\"'}]+)"
)
_JWT = r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"
_QUERY = r"([?&])([A-Za-z0-9_.~%-]+)=([^&\s#\"'<>]*)"


def _query(match: re.Match[str]) -> str:
    separator, name, value = match.groups()
    return match.group() if name.lower() in _HARMLESS or not value else f"{separator}{name}={HIDDEN}"


def redact(text: str) -> str:
    """``text`` with what could let someone in replaced by ``***``; safe to apply twice.

    Hidden are: authorization and cookie headers, ``Basic …`` and ``Bearer …`` values, ``user:password@``
    of a URL, JSON and form fields named like a secret, JSON web tokens, and every query parameter of a
    URL that is not known to be harmless (a signed URL is as good as a token).
    """
    text = _pattern(_HEADER).sub(rf"\1\2{HIDDEN}", text)
    text = _pattern(_SCHEME).sub(rf"\1\2{HIDDEN}", text)
    text = _pattern(_USERINFO).sub(rf"\1{HIDDEN}@", text)
    text = _pattern(_QUERY).sub(_query, text)
    text = _pattern(_FIELD).sub(rf"\1{HIDDEN}", text)
    return _pattern(_JWT).sub(HIDDEN, text)


SHORTEST = 4
"""Texts shorter than this are not looked for: they stand in every second word."""

# Also with one slash, as pathlib leaves it.
_ABSOLUTE = r"([A-Za-z][A-Za-z0-9+.-]*):/{1,2}"

# At its end it may stand without a mark before it: PGPASSWORD, GITHUBTOKEN.
_SAYS_SECRET = re.compile(r"(?i)(?:(?:^|[_.-])(?:pwd|dsn)|secret|token|password|passwd|passphrase|apikey)s?(?:[_.-]|$)")
_SAYS_KEY = re.compile(
    r"(?i)(?:^|[_.-])(?:key|connection_string|headers|pass|pat|jwt|sas|auth|credential|cookie|signature|sig)s?(?:[_.-]|$)"
)
# Whose names only sound like it: the working directory, and the path of an agent's socket.
_INNOCENT = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK"})


def says_secret(name: str) -> bool:
    """Whether a name says that what it names is a secret, such as ``api.token`` or ``DB_PASSWORD``."""
    return bool(_SAYS_SECRET.search(name))


class Redactor:
    """Redacts what looks like a secret, and the secrets that it was told of.

    Each is also found as it stands in JSON, in a Python literal, in a URL, in HTML and in base64.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._spellings: frozenset[str] = frozenset()
        self._known: re.Pattern[str] | None = None
        self.hide(*secrets)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Redactor:
        """Hides what the environment holds in trust: see :meth:`hide_environment`."""
        redactor = cls()
        redactor.hide_environment(environment)
        return redactor

    def hide(self, *secrets: str) -> None:
        """Look for these texts too; those shorter than :data:`SHORTEST` are left alone."""
        found = {spelling for secret in secrets for spelling in _spellings(secret)} - self._spellings
        if found:
            self._spellings |= found
            longest_first = sorted(self._spellings, key=lambda text: (-len(text), text))
            self._known = re.compile("|".join(map(re.escape, longest_first)))

    def hide_environment(self, environment: Mapping[str, str]) -> None:
        """Look for the values of variables whose name says secret, token, password or key, and for URLs' passwords.

        A ``KEY``, ``PASS`` or ``AUTH`` may be something else as well (``SORT_KEY=customer``): such a value counts from
        eight characters on, a digit among them. ``MEALKIT_*`` are left out: a recipe declares which of its settings are
        secret.
        """
        for name, value in environment.items():
            self.hide_uri(value)
            if name in _INNOCENT or name.startswith("MEALKIT_"):
                continue
            if says_secret(name):
                self.hide(value)
            elif _SAYS_KEY.search(name):
                # Headers and connection strings are NAME=VALUE, with commas, semicolons or blanks between.
                pieces = re.split(r"[,;\s]|%20", value)
                parts = [value, *pieces, *(piece.partition("=")[2] for piece in pieces)]
                self.hide(*(part for part in parts if len(part) >= 8 and any(map(str.isdigit, part))))

    def hide_uris(self, value: object) -> None:
        """Look for the passwords of all URLs in a value made of texts, paths, mappings and sequences."""
        if isinstance(value, str | os.PathLike):
            self.hide_uri(os.fspath(value) if isinstance(value, os.PathLike) else value)
        elif isinstance(value, Mapping):
            for item in value.values():
                self.hide_uris(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self.hide_uris(item)

    def hide_uri(self, uri: str) -> None:
        """Look for the password of a URL, and for what signs it, wherever else they stand."""
        match = _pattern(_ABSOLUTE).search(uri)
        if match is None:
            return
        from urllib.parse import unquote

        for _, name, value in _pattern(_QUERY).findall(uri) if "?" in uri else ():
            if (says_secret(name) or _SAYS_KEY.search(name)) and len(value) >= 8:
                self.hide(value, unquote(value))
        if "@" not in uri:
            return
        scheme, rest = match[1], uri[match.end() :]
        # A storage service's secret may have a slash that nobody quoted; such URLs have no port.
        lenient = scheme.lower() in ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
        authority = rest if lenient else re.split("[/?#]", rest, maxsplit=1)[0]
        userinfo, there, _ = authority.rpartition("@")
        password = userinfo.partition(":")[2]
        if there and password:
            self.hide(password, unquote(password))

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        return redact(self.known(text))

    def known(self, text: str) -> str:
        """``text`` without the secrets that are known; what only looks like one stays."""
        return text if self._known is None else self._known.sub(HIDDEN, text)


def _spellings(secret: str) -> set[str]:
    import base64
    import html
    import json
    from urllib.parse import quote, quote_plus

    found: set[str] = set()
    # A key of several lines is often told line by line.
    for part in {secret, secret.strip(), *(line.strip() for line in secret.splitlines() if len(line.strip()) >= 16)}:
        if len(part) < SHORTEST:
            continue
        raw = part.encode("utf-8", "surrogatepass")
        found |= {part, repr(part)[1:-1], json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
        found |= {html.escape(part), quote(raw), quote(raw, safe=""), quote_plus(raw)}
        if len(part) >= 8:
            found |= {base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    return found
