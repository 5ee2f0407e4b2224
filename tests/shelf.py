"""A package index over HTTP, as plain as they come: pages of links without sizes, perhaps with a password."""

from __future__ import annotations

import contextlib
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


@dataclass
class Shelf:
    """A running index.

    Attributes:
        address: ``http://127.0.0.1:PORT``; the index is at ``/simple``, the files are at ``/files``.
        asked: Each request as ``METHOD PATH``.
        sent: Bytes of bodies.
    """

    address: str
    asked: list[str] = field(default_factory=list)
    sent: int = 0

    @property
    def index(self) -> str:
        """The index's address."""
        return f"{self.address}/simple"

    def with_password(self, user: str, password: str, path: str = "/simple") -> str:
        """An address with credentials in it."""
        return self.address.replace("http://", f"http://{user}:{password}@") + path


@contextlib.contextmanager
def shelf(*folders: Path, password: str = "", heads: bool = True, parts: bool = True) -> Iterator[Shelf]:
    """Serve the wheels of some folders; with ``password`` to ``ada`` only; ``heads``, ``parts``: what works."""
    wanted = f"Basic {b64encode(f'ada:{password}'.encode()).decode()}" if password else None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            running.asked.append(f"{self.command} {self.path}")
            status, data = self._find()
            if not body and not heads:
                status, data = 405, b""
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked and parts and status == 200:
                status, data = 206, data[int(asked[1]) : int(asked[2]) + 1]
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="shelf"')
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "text/html" if "/simple" in self.path else "application/octet-stream")
            self.end_headers()
            if body:
                running.sent += len(data)
                self.wfile.write(data)

        def _find(self) -> tuple[int, bytes]:
            if wanted and self.headers.get("Authorization") != wanted:
                return 401, b""
            kind, _, name = self.path.strip("/").partition("/")
            files = {path.name: path for folder in folders for path in folder.glob("*.whl")}
            if kind == "files":
                return (200, files[name].read_bytes()) if name in files else (404, b"")
            links = [
                f'<a href="/files/{one}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{one}</a>'
                for one, path in sorted(files.items())
                if one.partition("-")[0].replace("_", "-") == name
            ]
            return (200, "\n".join(links).encode()) if links else (404, b"")

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Shelf(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
