"""Redaction: takes tokens, passwords and signatures out of text that goes to a log or an error."""

from __future__ import annotations

import functools
import re

_HIDDEN = "***"

# Query parameters that say what is asked for and grant nothing; every other value may be a signature.
_HARMLESS = frozenset({"digest", "mount", "from", "n", "last", "service", "scope"})

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
    return match.group() if name.lower() in _HARMLESS or not value else f"{separator}{name}={_HIDDEN}"


def redact(text: str) -> str:
    """``text`` with what could let someone in replaced by ``***``; safe to apply twice.

    Hidden are: authorization and cookie headers, ``Basic …`` and ``Bearer …`` values, ``user:password@``
    of a URL, JSON and form fields named like a secret, JSON web tokens, and every query parameter of a
    URL that is not known to be harmless (a signed URL is as good as a token).
    """
    text = _pattern(_HEADER).sub(rf"\1\2{_HIDDEN}", text)
    text = _pattern(_SCHEME).sub(rf"\1\2{_HIDDEN}", text)
    text = _pattern(_USERINFO).sub(rf"\1{_HIDDEN}@", text)
    text = _pattern(_QUERY).sub(_query, text)
    text = _pattern(_FIELD).sub(rf"\1{_HIDDEN}", text)
    return _pattern(_JWT).sub(_HIDDEN, text)
