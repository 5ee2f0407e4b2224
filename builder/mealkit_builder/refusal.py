"""Refusals: what a registry says when it does not do what was asked, as our errors."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mealkit.errors import AuthenticationError, NotFoundError, PermissionDeniedError, RegistryError
from mealkit.redact import redact

from .transport import Reply

_KINDS: Mapping[int, tuple[type[RegistryError], str]] = {
    401: (AuthenticationError, "docker login {host}"),
    403: (PermissionDeniedError, "ask for push rights, or set another repository="),
    404: (NotFoundError, "check the name; a registry also hides what one may not see"),
    405: (RegistryError, "the registry is read-only, or a mirror: push to another one"),
    407: (RegistryError, "put the proxy's user and password into its URL, in HTTP_PROXY and HTTPS_PROXY"),
    413: (RegistryError, "a limit of the registry, or of the proxy before it, is too low for this layer"),
}


def refusal(reply: Reply, doing: str, host: str, where: str) -> RegistryError:
    """The error for an answer that we did not want.

    Args:
        reply: The answer.
        doing: What could not be done, such as ``cannot upload``.
        host: Who refused.
        where: The repository, or the blob in it.
    """
    said = _said(reply)
    message = f"{doing}: {host} answered {reply.status}" + (f" ({said})" if said else "")
    kind, hint = _KINDS.get(reply.status, (RegistryError, "ask the registry's operator"))
    return kind(message, where=where, hint=hint.format(host=host))


def codes(reply: Reply) -> set[str]:
    """The codes of the errors that an answer lists (OCI distribution specification, "Error Codes")."""
    return {str(error.get("code")) for error in _errors(reply)}


def _errors(reply: Reply) -> list[Mapping[str, object]]:
    try:
        listed = json.loads(reply.data).get("errors")
    except (ValueError, AttributeError, RecursionError):
        return []
    return [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []


def _said(reply: Reply) -> str:
    """What the registry says about its refusal, on one line, short and redacted."""
    told = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in _errors(reply))
    return redact(" ".join(told[:4000].split()))[:200]  # redact() would take minutes for some long texts
