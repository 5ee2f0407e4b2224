"""A server between a run and its object storage, which counts the requests and can kill the run at one of them."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Relay:
    """Passes requests on.

    Attributes:
        endpoint: Its own address.
        seen: The requests so far that change something, or ask whether something is there.
        strike: What to do at a request: its number from 0, and whether the storage has answered it yet.
    """

    endpoint: str
    seen: list[str] = field(default_factory=list)
    strike: Callable[[int, bool], bool] = lambda number, answered: False


class _Handler(http.server.BaseHTTPRequestHandler):
    """After a request at which the run was killed the connection ends without a word."""

    protocol_version = "HTTP/1.1"
    server: Any

    def _pass_on(self) -> None:
        relay: Relay = self.server.relay
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            number = len(relay.seen)
            relay.seen.append(f"{self.command} {self.path.partition('?')[0]}")
        if relay.strike(number, False):
            self.close_connection = True
            return
        real = http.client.HTTPConnection(urlsplit(self.server.real).netloc, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        real.request(self.command, self.path, data, headers)
        answer = real.getresponse()
        body = answer.read()
        real.close()
        if relay.strike(number, True):
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        with contextlib.suppress(OSError):  # the run was killed at another request
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A run that was killed has hung up."""


@contextlib.contextmanager
def relayed(real: str) -> Iterator[Relay]:
    """A relay before the server at ``real``."""
    server = _Server(("127.0.0.1", 0), _Handler)
    relay = Relay(f"http://127.0.0.1:{server.server_address[1]}")
    server.real, server.relay, server.lock = real, relay, threading.Lock()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
