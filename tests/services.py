"""Real services for tests: a docker-registry on a free port of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "docker-registry"
START_SECONDS = 20.0
STOP_SECONDS = 5.0

USER = "ada"
PASSWORD = "correct horse"
# bcrypt of PASSWORD: docker-registry takes nothing else, and Python has no bcrypt of its own any more.
_HTPASSWD = f"{USER}:$2b$04$3SXFnrIU1XcfMkcZqGHPZeNUjpMzJe5LPuAdrb70E6DxuXo/3GWbe\n"


@dataclass(frozen=True)
class RunningRegistry:
    """A docker-registry that runs.

    Attributes:
        host: ``127.0.0.1:PORT``.
        folder: Its configuration, log and storage.
        pid: Its process.
        username: What it asks for; empty when it lets everybody in.
        password: The same.
    """

    host: str
    folder: Path
    pid: int
    username: str = ""
    password: str = ""

    def environment(self, folder: Path) -> dict[str, str]:
        """This process' environment with a Docker configuration in ``folder`` that holds the credentials."""
        import base64

        folder.mkdir(parents=True, exist_ok=True)
        auths = {}
        if self.username:
            auths[self.host] = {"auth": base64.b64encode(f"{self.username}:{self.password}".encode()).decode()}
        (folder / "config.json").write_text(json.dumps({"auths": auths}))
        return dict(os.environ) | {"DOCKER_CONFIG": str(folder)}

    def requests(self) -> list[str]:
        """``METHOD PATH`` of each request so far, from its access log."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return [line.split('"')[1].rsplit(" ", 1)[0] for line in lines if '" ' in line and " HTTP/1.1" in line]


def missing(program: str) -> str | None:
    """Why a test that needs a program cannot run, or None."""
    return None if shutil.which(program) else f"the program {program} is not installed"


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(
    folder: Path, host: str, auth: bool, http: Mapping[str, object], settings: Mapping[str, object]
) -> Mapping[str, object]:
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        # Without a secret docker-registry forgets upload sessions when it restarts, and warns.
        "http": {"addr": host, "secret": "not a secret", "relativeurls": False, **http},
        **settings,
    }
    if auth:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    return config


@contextlib.contextmanager
def running_registry(
    folder: Path,
    *,
    auth: bool = False,
    host: str | None = None,
    http: Mapping[str, object] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[RunningRegistry]:
    """Start a docker-registry with its files in ``folder``; it ends with the block.

    Args:
        folder: For its configuration, log and storage; another start in the same folder finds what the last one kept.
        auth: Ask for a password.
        host: ``address:port``; a free port of 127.0.0.1 by default.
        http: Further settings of its section ``http``, such as ``tls``.
        settings: Further sections, such as ``auth``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host = host or f"127.0.0.1:{free_port()}"
    (folder / "config.yml").write_text(
        json.dumps(_config(folder, host, auth, http or {}, settings or {}))
    )  # JSON is YAML
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "REGISTRY_"))}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", str(folder / "config.yml")],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        try:
            _wait(process, host, folder / "log")
            yield RunningRegistry(host, folder, process.pid, USER if auth else "", PASSWORD if auth else "")
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)


def _wait(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry ended with {process.returncode}: {_tail(log)}")
        try:
            with opener.open(f"http://{host}/v2/", timeout=1):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return  # 401: it runs and asks for credentials
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"docker-registry did not answer in {START_SECONDS:g} s: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
