"""A registry of one image on this machine's loopback, for an engine to pull from: it takes only the layers it lacks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO

from .image import MANIFEST

_BLOCK = 1 << 20
_SECONDS = 60.0  # of silence, after which a connection is closed


@contextlib.contextmanager
def offer_image(
    manifest: bytes,
    digest: str,
    config: tuple[str, bytes],
    open_layer: Callable[[str], BinaryIO],
    sizes: dict[str, int],
) -> Iterator[str]:
    """Serve an image until the block ends; yields its repository, ``127.0.0.1:PORT/mealkit``.

    Nobody can write to it, and it listens on the loopback alone; who else is on this machine may read the image.

    Args:
        manifest: Its manifest.
        digest: The manifest's digest.
        config: The config's digest and bytes.
        open_layer: Opens a layer's compressed bytes.
        sizes: The layers' sizes in bytes by their digests.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _SECONDS

        def do_GET(self) -> None:  # the name is http.server's
            """Answer as the OCI distribution specification says, "Pull"."""
            kind, _, name = self.path.removeprefix("/v2/mealkit/").partition("/")
            if self.path == "/v2/":
                self._answer(200, "application/json", b"{}")
            elif kind == "manifests" and name == digest:
                self._answer(200, MANIFEST, manifest)
            elif kind == "blobs" and name == config[0]:
                self._answer(200, "application/octet-stream", config[1])
            elif kind == "blobs" and name in sizes:
                self._layer(name)
            else:
                self._answer(404, "application/json", b'{"errors": [{"code": "NAME_UNKNOWN"}]}')

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, status: int, media_type: str, body: bytes) -> None:
            self._head(status, media_type, len(body))
            if self.command == "GET":
                self.wfile.write(body)

        def _head(self, status: int, media_type: str, size: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(size))
            self.send_header("Docker-Distribution-API-Version", "registry/2.0")
            if media_type == MANIFEST:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()

        def _layer(self, name: str) -> None:
            self._head(200, "application/octet-stream", sizes[name])
            if self.command == "GET":
                with open_layer(name) as file:
                    while block := file.read(_BLOCK):
                        self.wfile.write(block)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of an engine that hangs up: it has what it wants."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="mealkit-loopback", daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}/mealkit"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
