"""Credentials: what Docker's configuration file and its helper programs know about a registry."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mealkit._value import dataclass, field
from mealkit.errors import AuthenticationError, UsageError

from .reference import DOCKER_HUB

HELPER_SECONDS = 10
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_KEYS = (_HUB_KEY, "index.docker.io", DOCKER_HUB, "registry-1.docker.io")


@dataclass(frozen=True)
class Credentials:
    """What to show a registry; secrets stay out of ``repr``.

    Attributes:
        username: For basic authentication and for asking for tokens.
        password: Its secret.
        identity_token: An OAuth2 refresh token, used instead of a password.
        registry_token: A bearer token that is sent as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of a basic ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def config_path(environment: Mapping[str, str]) -> Path:
    """``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``."""
    if environment.get("DOCKER_CONFIG"):
        return Path(environment["DOCKER_CONFIG"]) / "config.json"
    home = environment.get("HOME")
    return (Path(home) if home else Path.home()) / ".docker" / "config.json"


def find_credentials(host: str, environment: Mapping[str, str], seconds: float = HELPER_SECONDS) -> Credentials | None:
    """What is known for a registry, in Docker's order: ``credHelpers``, ``credsStore``, ``auths``.

    Args:
        host: ``host[:port]``; ``docker.io`` for Docker Hub.
        environment: Where ``DOCKER_CONFIG``, ``HOME`` and ``PATH`` come from.
        seconds: How long a helper may take.

    Raises:
        UsageError: the configuration file is not what Docker writes.
        AuthenticationError: a helper is missing, fails or hangs.
    """
    path = config_path(environment)
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(
            f"cannot read Docker's configuration: {error.strerror}",
            where=str(path),
            hint="let this user read it, or name another folder in DOCKER_CONFIG",
        ) from error
    try:
        config = json.loads(text)
        keys = _keys(host)
        helper = _lookup(config.get("credHelpers") or {}, keys) or config.get("credsStore")
        if helper:
            server = _HUB_KEY if host == DOCKER_HUB else host
            found = _ask_helper(str(helper), server, environment, seconds)
            if found is not None:
                return found
        entry = _lookup(config.get("auths") or {}, keys)
        return _from_entry(entry) if entry else None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(
            "Docker's configuration file is damaged", where=str(path), hint=f"run docker login {host} again"
        ) from error


def _keys(host: str) -> tuple[str, ...]:
    return _HUB_KEYS if host == DOCKER_HUB else (host,)


def _lookup(table: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """The entry of the first key; Docker and its helpers wrote hosts also as URLs, with and without a path."""
    for key in keys:
        if key in table:
            return table[key]
    hosts = {_bare(key) for key in keys}
    return next((value for name, value in table.items() if _bare(name) in hosts), None)


def _bare(name: str) -> str:
    return re.sub(r"\Ahttps?://", "", name.strip()).split("/", 1)[0].lower()


def _from_entry(entry: Mapping[str, Any]) -> Credentials | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode("".join(str(entry["auth"]).split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("auth is not base64") from error
        username, _, password = decoded.rstrip("\0").partition(":")
    credentials = Credentials(
        username,
        password,
        identity_token=str(entry.get("identitytoken") or ""),
        registry_token=str(entry.get("registrytoken") or ""),
    )
    return credentials if credentials != Credentials() else None


def _ask_helper(helper: str, server: str, environment: Mapping[str, str], seconds: float) -> Credentials | None:
    """Run ``docker-credential-HELPER get``; None when it knows nothing of the server."""
    import subprocess

    program = f"docker-credential-{helper}"
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise AuthenticationError(
            f"{helper!r} is not the name of a credential helper", where=server, hint="correct Docker's configuration"
        )
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=seconds,
            env=dict(environment),
            check=False,
            executable=_which(program, environment),
        )
    except subprocess.TimeoutExpired as error:
        raise AuthenticationError(
            f"{program} gave no answer in {seconds:g} s", where=server, hint=f"try: echo {server} | {program} get"
        ) from error
    except OSError as error:
        raise AuthenticationError(
            f"{program} cannot be started: {error.strerror}",
            where=server,
            hint=f"install it, or take {helper!r} out of Docker's configuration",
        ) from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        if "not found" in said.lower() or "no credentials" in said.lower():
            return None
        raise AuthenticationError(
            f"{program} failed with status {done.returncode}", where=server, hint=f"try: echo {server} | {program} get"
        )
    answer = json.loads(done.stdout)
    username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    if not secret:
        return None
    # "<token>" is how Docker's helpers mark an identity token.
    return Credentials(identity_token=secret) if username == "<token>" else Credentials(username, secret)


def _which(program: str, environment: Mapping[str, str]) -> str | None:
    import shutil

    return shutil.which(program, path=environment.get("PATH"))
