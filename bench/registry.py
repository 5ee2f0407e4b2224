"""A registry of a benchmark's own: started with the base image in it, its traffic counted."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from services import RunningRegistry, running_registry

_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_LOG_SECONDS = 0.1  # a request is logged after it was answered


@dataclass(frozen=True)
class Traffic:
    """What went over the wire, as the registry saw it.

    Attributes:
        requests: How many.
        down: Bytes of blobs and manifests that it sent.
        up: Bytes of blobs that it has now and did not have before.
    """

    requests: int
    down: int
    up: int


@dataclass(frozen=True)
class Place:
    """A running registry.

    Attributes:
        running: Its process and folder.
        base_name: The base image that recipes are to be built on.
    """

    running: RunningRegistry
    base_name: str = "bench/base:bookworm"

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return self.running.host

    @property
    def base(self) -> str:
        """The base image's name here."""
        return f"{self.host}/{self.base_name}"

    def manifest(self, repository: str, reference: str) -> tuple[str, bytes]:
        """Media type and bytes of a manifest."""
        with self._ask(repository, reference, {"Accept": _MANIFESTS}) as answer:
            return answer.headers["Content-Type"], answer.read()

    def copy_tag(self, repository: str, old: str, new: str) -> None:
        """Give an image another tag."""
        kind, data = self.manifest(repository, old)
        self._ask(repository, new, {"Content-Type": kind}, data).close()

    def _ask(
        self, repository: str, reference: str, headers: Mapping[str, str], data: bytes | None = None
    ) -> HTTPResponse:
        address = f"http://{self.host}/v2/{repository}/manifests/{reference}"
        method = "GET" if data is None else "PUT"
        request = urllib.request.Request(address, data, dict(headers), method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        answer: HTTPResponse = opener.open(request, timeout=20)
        return answer

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[Traffic]]:
        """The list gets one element when the block ends: the traffic of the block."""
        log = self.running.folder / "log"
        start, before, found = log.stat().st_size, self._stored(), list[Traffic]()
        yield found
        time.sleep(_LOG_SECONDS)
        with log.open(encoding="utf-8", errors="replace") as lines:
            lines.seek(start)
            counted = [answer for answer in map(_answer, lines) if answer is not None]
        sent = sum(size for method, size in counted if method == "GET")
        found.append(Traffic(len(counted), sent, self._stored() - before))

    def _stored(self) -> int:
        blobs = self.running.folder / "storage" / "docker" / "registry" / "v2" / "blobs"
        return sum(path.stat().st_size for path in blobs.rglob("data"))


def _answer(line: str) -> tuple[str, int] | None:
    """``(method, bytes answered)`` of a line in the common log format; None for other lines."""
    parts = line.split('"')
    numbers = parts[2].split() if len(parts) > 2 and " HTTP/1." in parts[1] else []
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return None
    return parts[1].split(" ")[0], int(numbers[1])


@contextlib.contextmanager
def fresh_registry(folder: Path, seed: Path | None = None) -> Iterator[Place]:
    """A registry in a new ``folder``; it starts with the content of ``seed``, an ended registry's folder."""
    if seed is not None:
        shutil.copytree(seed / "storage", folder / "storage")
    with running_registry(folder) as running:
        yield Place(running)
    if seed is not None:
        shutil.rmtree(folder, ignore_errors=True)
