"""How the registry in memory answers: one handler for a connection."""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from .digest import digest_bytes, is_digest
from .image import INDEX

if TYPE_CHECKING:
    from .testing import Fault, MemoryRegistry

_ROUTE = re.compile(r"/v2/(?P<repository>.+?)/(?P<kind>manifests|blobs|tags|referrers)/(?P<rest>.*)")

_REFERRERS_PAGE = 2


def _object(data: bytes) -> dict[str, Any]:
    """The document of a manifest; an empty one where a test has put something else."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _digest_of(entry: dict[str, object]) -> str:
    return str(entry["digest"])


class Handler(BaseHTTPRequestHandler):
    """Serves one connection; ``registry`` holds the state."""

    registry: ClassVar[MemoryRegistry]
    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1  # headers and body leave in one packet, which spares 40 ms of delayed acknowledgement
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        """Say nothing: what came is in ``registry.seen``."""

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve()

    do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.fault: Fault | None = self.registry.due_fault(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        sends = self.command in ("PUT", "POST", "PATCH")
        if sends and self.fault is not None and self.fault.failure in ("reset", "truncate"):
            self.rfile.read(length // 2)
            self._note(0)
            self._reset()
            return
        self.body = self.rfile.read(length)
        with self.registry.lock:
            self.registry.bytes_in += len(self.body)
        if self.fault is not None and self.fault.failure == "reset":
            self._note(0)
            self._reset()
        elif self.fault is not None and isinstance(self.fault.failure, int):
            headers = {"Retry-After": self.fault.retry_after} if self.fault.retry_after else {}
            self._refuse(self.fault.failure, "UNKNOWN", "told to fail", headers)
        elif parts.path == "/token":
            self._token()
        else:
            self._route(parts.path)

    def _route(self, path: str) -> None:
        match = _ROUTE.fullmatch(path)
        repository = match["repository"] if match else ""
        if not self._allowed(repository, write=self.command in ("PUT", "POST", "PATCH", "DELETE")):
            return
        if path.rstrip("/") == "/v2":
            self._answer(200, b"{}")
        elif match is None:
            self._refuse(404, "NAME_UNKNOWN", "no such page")
        elif match["kind"] == "tags":
            self._tags(repository)
        elif match["kind"] == "referrers":
            self._referrers(repository, match["rest"])
        elif match["kind"] == "manifests":
            answer = {"PUT": self._put_manifest, "DELETE": self._delete_manifest}.get(self.command, self._get_manifest)
            answer(repository, match["rest"])
        elif match["rest"].startswith("uploads/"):
            self._upload(repository, match["rest"].removeprefix("uploads/"))
        else:
            self._get_blob(repository, match["rest"])

    def _allowed(self, repository: str, *, write: bool) -> bool:
        registry = self.registry
        if not registry.users:
            return True
        user = self._user(repository, write)
        if user is None:
            if registry.auth == "basic":
                challenge = 'Basic realm="memory"'
            else:
                scope = f"repository:{repository}:{'pull,push' if write else 'pull'}"
                challenge = f'Bearer realm="{registry.origin}/token",service="memory",scope="{scope}"'
            self._refuse(401, "UNAUTHORIZED", "who are you", {"WWW-Authenticate": challenge})
            return False
        if write and user in registry.readers:
            self._refuse(403, "DENIED", "you may not push here")
            return False
        return True

    def _user(self, repository: str, write: bool) -> str | None:
        scheme, _, value = (self.headers.get("Authorization") or "").partition(" ")
        if self.registry.auth == "basic" and scheme == "Basic":
            return self._basic(value)
        if self.registry.auth == "bearer" and scheme == "Bearer":
            scopes, ends = self.registry.tokens.get(value, ("", 0.0))
            needed = "push" if write else "pull"
            if time.monotonic() < ends:
                for scope in scopes.split():
                    _, name, actions = scope.split(":")
                    if name == repository and needed in actions.split(","):
                        return "token"
        return None

    def _basic(self, value: str) -> str | None:
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user if self.registry.users.get(user) == password else None

    def _token(self) -> None:
        """A token server: basic credentials or a refresh token in, a token for what the user may do out."""
        if self.command == "POST":
            form = parse_qs(self.body.decode())
            user = self.registry.refresh_tokens.get(form.get("refresh_token", [""])[0])
            wanted = " ".join(form.get("scope", [])).split()
        else:
            scheme, _, value = (self.headers.get("Authorization") or "").partition(" ")
            user = self._basic(value) if scheme == "Basic" else None
            wanted = parse_qs(urlsplit(self.path).query).get("scope", [])
        if user is None:
            self._refuse(401, "UNAUTHORIZED", "wrong password")
            return
        granted = [scope.replace("pull,push", "pull") if user in self.registry.readers else scope for scope in wanted]
        token = secrets.token_hex(16)
        self.registry.tokens[token] = (" ".join(granted), time.monotonic() + self.registry.token_seconds)
        self._answer(200, json.dumps({"token": token, "expires_in": self.registry.token_seconds}).encode())

    def _get_manifest(self, repository: str, reference: str) -> None:
        digest = reference if is_digest(reference) else self.registry.tag_digests.get(repository, {}).get(reference, "")
        found = self.registry.manifests.get(repository, {}).get(digest)
        if found is None:
            self._refuse(404, "MANIFEST_UNKNOWN", "no such manifest")
        else:
            self._answer(200, found[0], {"Content-Type": found[1], "Docker-Content-Digest": digest})

    def _delete_manifest(self, repository: str, reference: str) -> None:
        registry = self.registry
        with registry.lock:
            tags = registry.tag_digests.get(repository, {})
            named = [tag for tag, digest in tags.items() if reference in (tag, digest)]
            gone = registry.manifests.get(repository, {}).pop(reference, None) is not None
            for tag in named:
                del tags[tag]
        if gone or named:
            self._answer(202, b"")
        else:
            self._refuse(404, "MANIFEST_UNKNOWN", "no such manifest")

    def _put_manifest(self, repository: str, reference: str) -> None:
        registry = self.registry
        document = json.loads(self.body)
        blobs = [document["config"], *document["layers"]] if "config" in document else []
        lacking = [blob["digest"] for blob in blobs if blob["digest"] not in registry.blobs.get(repository, {})]
        manifests = registry.manifests.setdefault(repository, {})
        lacking += [entry["digest"] for entry in document.get("manifests", ()) if entry["digest"] not in manifests]
        digest = digest_bytes(self.body)
        if lacking:
            self._refuse(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown: {lacking[0]}")
            return
        if is_digest(reference) and reference != digest:
            self._refuse(400, "DIGEST_INVALID", "another digest")
            return
        with registry.lock:
            manifests[digest] = (self.body, self.headers.get("Content-Type") or "")
            if not is_digest(reference):
                registry.tag_digests.setdefault(repository, {})[reference] = digest
        headers = {"Location": f"/v2/{repository}/manifests/{digest}", "Docker-Content-Digest": digest}
        if registry.referrers and isinstance(document.get("subject"), dict):
            headers["OCI-Subject"] = document["subject"]["digest"]
        self._answer(201, b"", headers)

    def _referrers(self, repository: str, subject: str) -> None:
        """The OCI distribution specification's "Listing Referrers", two to a page so that clients meet pages."""
        if not self.registry.referrers:
            self._refuse(404, "NOT_FOUND", "no such page")
            return
        found = []
        for digest, (data, media_type) in self.registry.manifests.get(repository, {}).items():
            document = _object(data)
            if (document.get("subject") or {}).get("digest") == subject:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
                entry = {"mediaType": media_type, "digest": digest, "size": len(data), "artifactType": kind}
                found.append(entry | ({"annotations": told} if (told := document.get("annotations")) else {}))
        found = sorted((entry for entry in found if entry["digest"] > self.query.get("last", "")), key=_digest_of)
        headers = {"Content-Type": INDEX}
        if len(found) > _REFERRERS_PAGE:
            found = found[:_REFERRERS_PAGE]
            headers["Link"] = f'</v2/{repository}/referrers/{subject}?last={found[-1]["digest"]}>; rel="next"'
        self._answer(200, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode(), headers)

    def _get_blob(self, repository: str, digest: str) -> None:
        data = self.registry.blobs.get(repository, {}).get(digest)
        if data is None:
            self._refuse(404, "BLOB_UNKNOWN", "no such blob")
        elif self.registry.redirect_blobs_to and self.command == "GET":
            self._answer(307, b"", {"Location": self.registry.redirect_blobs_to + self.path + "?X-Signature=secret"})
        elif match := re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range") or ""):
            begin = int(match[1])
            span = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            self._answer(206, data[begin:], {"Content-Range": span, "Docker-Content-Digest": digest})
        else:
            self._answer(200, data, {"Docker-Content-Digest": digest})

    def _upload(self, repository: str, session: str) -> None:
        registry, digest = self.registry, self.query.get("digest", "")
        if self.command == "POST":
            mount = self.query.get("mount", "")
            held = registry.blobs.get(self.query.get("from", ""), {}).get(mount)
            if mount and held is not None and registry.mounts != "no":
                if registry.mounts == "yes":
                    registry.blobs.setdefault(repository, {})[mount] = held
                self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{mount}"})
                return
            session = secrets.token_hex(8)
            registry.uploads[session] = b""
        if session not in registry.uploads:
            self._refuse(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
            return
        data = registry.uploads[session] + self.body
        if not digest:
            registry.uploads[session] = data
            where = f"{registry.upload_origin}/v2/{repository}/blobs/uploads/{session}?_state={session}"
            self._answer(202, b"", {"Location": where, "Range": f"0-{max(0, len(data) - 1)}"})
        elif digest_bytes(data) != digest:
            self._refuse(400, "DIGEST_INVALID", "the bytes have another digest")
        else:
            del registry.uploads[session]
            registry.blobs.setdefault(repository, {})[digest] = data
            self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _tags(self, repository: str) -> None:
        if repository not in self.registry.tag_digests:
            self._refuse(404, "NAME_UNKNOWN", "no such repository")
            return
        tags = [tag for tag in sorted(self.registry.tag_digests[repository]) if tag > self.query.get("last", "")]
        count = int(self.query.get("n", 1000))
        headers = {}
        if len(tags) > count:
            query = urlencode({"n": count, "last": tags[count - 1]})
            headers["Link"] = f'</v2/{repository}/tags/list?{query}>; rel="next"'
        self._answer(200, json.dumps({"name": repository, "tags": tags[:count]}).encode(), headers)

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._answer(status, body, {"Content-Type": "application/json"} | (headers or {}))

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._note(status)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            if self.fault is not None and self.fault.failure == "truncate":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                return
            with self.registry.lock:  # before they are sent: who has read them may ask at once
                self.registry.bytes_out += len(body)
            self.wfile.write(body)

    def _reset(self) -> None:
        """Close with a TCP reset instead of an orderly end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _note(self, status: int) -> None:
        from .testing import Seen

        with self.registry.lock:
            self.registry.seen.append(Seen(self.command, self.path, self.headers.get("Authorization") or "", status))
