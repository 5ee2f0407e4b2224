"""The container engine's edge: finding it, and its errors as ours."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mealkit.errors import AuthenticationError, EngineError, MealkitError, NotFoundError, UnreachableError
from mealkit.redact import redact

if TYPE_CHECKING:
    from docker import DockerClient

_PROBE_SECONDS = 2.0
_CALL_SECONDS = 600  # an engine answers slowly while it unpacks a large layer
_HINT = (
    "start Docker, let this user use it (group docker), or name it in DOCKER_HOST; "
    "building needs no engine, and `mealkit train`, `evaluate` and `score` run without one"
)


def engine_address(environment: Mapping[str, str]) -> str | None:
    """Where an engine answers, as a ``DOCKER_HOST`` value; None when none does.

    ``DOCKER_HOST`` alone counts when it is set; else the usual sockets are tried: the system's Docker, the
    user's (rootless) Docker, the user's Podman.
    """
    if environment.get("DOCKER_HOST"):
        candidates = [environment["DOCKER_HOST"]]
    else:
        candidates = ["unix:///var/run/docker.sock"]
        if environment.get("XDG_RUNTIME_DIR"):
            runtime = environment["XDG_RUNTIME_DIR"]
            candidates += [f"unix://{runtime}/docker.sock", f"unix://{runtime}/podman/podman.sock"]
    return next((address for address in candidates if _answers(address)), None)


def engine_available(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an engine answers; costs a connection, no import of the docker SDK."""
    return engine_address(environment) is not None


def _answers(address: str) -> bool:
    scheme, _, rest = address.partition("://")
    try:
        if scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_PROBE_SECONDS)
                probe.connect(rest)
                # "Connection: close" spares the engine an idle connection; a socket that is not an engine's is told.
                probe.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
                return probe.recv(12).startswith(b"HTTP/1.")
        if scheme in ("tcp", "http", "https"):
            match = re.fullmatch(r"\[?([^]/]+?)\]?(?::(\d+))?/?", rest)
            if match is None:
                return False
            socket.create_connection((match[1], int(match[2] or 2375)), _PROBE_SECONDS).close()
            return True
    except OSError:
        return False
    return scheme in ("ssh", "npipe")  # only the SDK can tell


def connect(environment: Mapping[str, str] = os.environ) -> DockerClient:
    """A client of the engine.

    Raises:
        EngineError: no engine answers, or it refuses this user.
    """
    address = engine_address(environment)
    if address is None:
        named = environment.get("DOCKER_HOST")
        raise EngineError("no container engine answers", where=named or "unix:///var/run/docker.sock", hint=_HINT)
    import docker

    with engine_errors("cannot connect to the container engine", address):
        client = docker.from_env(
            timeout=_CALL_SECONDS, environment={**environment, "DOCKER_HOST": address}, version="auto"
        )
        client.ping()
        return client


@contextlib.contextmanager
def engine_errors(doing: str, where: str, *, registry: bool = False) -> Iterator[None]:
    """Turn the docker SDK's errors into ours.

    Args:
        doing: What cannot be done, as the error's message.
        where: The image or address.
        registry: The engine talks to a registry; see :func:`registry_error`.

    Raises:
        EngineError: the engine refused or failed.
        MealkitError: with ``registry``, what the registry refused.
    """
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        said = str(error.explanation or error)
        if registry:
            raise registry_error(doing, said, where) from error
        raise EngineError(
            _message(doing, said), where=where, hint=_GPU_HINT if "[[gpu]]" in said else _LOG_HINT
        ) from error
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"{doing}: {redact(str(error))}", where=where, hint=_HINT) from error


_GPU_HINT = "install the vendor's container toolkit for this engine, or leave --gpus out"
_LOG_HINT = "see the engine's log, for instance with journalctl -u docker"
_SAID: tuple[tuple[type[MealkitError], str, str], ...] = (
    (AuthenticationError, r"unauthorized|authentication required|no basic auth|denied", "docker login {host}"),
    (NotFoundError, r"not found|manifest unknown|name unknown|no such image", "check the name and the digest"),
    (
        UnreachableError,
        r"connection refused|no such host|i/o timeout|deadline exceeded|tls handshake|connection reset|unreachable",
        "is the registry running, and does the engine reach it? (an engine on another machine has another localhost)",
    ),
)


def registry_error(doing: str, said: str, where: str) -> MealkitError:
    """The error for what an engine says that speaks with a registry: it repeats what that told it."""
    message = _message(doing, said)
    for kind, pattern, hint in _SAID:
        if re.search(pattern, said, re.IGNORECASE):
            return kind(message, where=where, hint=hint.format(host=where.partition("/")[0]))
    return EngineError(message, where=where, hint=_LOG_HINT)


def _message(doing: str, said: str) -> str:
    return f"{doing}: {redact(' '.join(said.split()))[:500]}"
