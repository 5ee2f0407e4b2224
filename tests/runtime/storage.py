"""A server that speaks S3, and a web server that serves ranges, on the loopback interface; for tests."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret", "AWS_REGION": "us-east-1"}


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """The endpoint of a server of moto's, a process of its own."""
    port = _free_port()
    with _served("moto.server", "-H", "127.0.0.1", "-p", str(port), ready=f"http://127.0.0.1:{port}/moto-api/"):
        yield f"http://127.0.0.1:{port}"


def make_bucket(endpoint: str, name: str = "shop") -> None:
    """Make a bucket on a server of moto's."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"), timeout=30).close()


@contextlib.contextmanager
def google_server() -> Iterator[str]:
    """The endpoint of a server that speaks Google's language, a process of its own; it has the bucket ``shop``."""
    port = _free_port()
    arguments = ("start", "--host=127.0.0.1", f"--port={port}", "--in-memory", "--default-bucket=shop")
    with _served("gcp_storage_emulator", *arguments, ready=f"http://127.0.0.1:{port}/"):
        yield f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _served(module: str, *arguments: str, ready: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            assert process.poll() is None, f"{module} did not start"
            with contextlib.suppress(OSError), urllib.request.urlopen(ready, timeout=5):
                break
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def refusing(endpoint: str) -> Iterator[None]:
    """The server of moto's knows no keys in the block, and refuses all who come."""

    def after(actions: bytes) -> None:
        told = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", actions, {"Content-Type": "text/plain"})
        urllib.request.urlopen(told, timeout=30).close()

    after(b"0")
    try:
        yield
    finally:
        after(b"1000000000")


class _Files(http.server.BaseHTTPRequestHandler):
    """Serves a folder, with ranges; paths below ``/denied``, ``/broken`` and ``/whole`` answer as they are named."""

    protocol_version = "HTTP/1.0"  # no connection outlives its answer, so a server that is gone is gone
    root = Path()
    asked: list[tuple[str, str, str]]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0].lstrip("/")
        self.asked.append((self.command, self.path, self.headers.get("Range", "")))
        for prefix, status in (("denied/", 403), ("broken/", 503)):
            if path.startswith(prefix):
                self._head(status, {"Content-Length": "0"})
                return
        ranges = not path.startswith("whole/")
        file = self.root / path.removeprefix("whole/")
        if not file.is_file():
            self._head(404, {"Content-Length": "0"})
            return
        data = file.read_bytes()
        facts = {"ETag": f'"{hash(data)}"', "Accept-Ranges": "bytes" if ranges else "none"}
        wanted = self.headers.get("Range", "")
        if ranges and wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            facts |= {"Content-Range": f"bytes {start}-{end}/{len(data)}", "Content-Length": str(end - start + 1)}
            self._head(206, facts)
            data = data[start : end + 1]
        else:
            self._head(200, {**facts, "Content-Length": str(len(data))})
        if body:
            self.wfile.write(data)

    def _head(self, status: int, facts: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in facts.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def web_server(root: Path) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """The address of a web server of a folder, and the requests that it was asked: method, path, range."""
    asked: list[tuple[str, str, str]] = []
    handler = type("Files", (_Files,), {"root": root, "asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
