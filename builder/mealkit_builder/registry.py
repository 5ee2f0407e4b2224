"""A repository of a registry as a target: the conversation of the OCI distribution specification."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import BinaryIO
from urllib.parse import urlencode

from mealkit.errors import (
    AuthenticationError,
    BaseImageError,
    NotFoundError,
    PermissionDeniedError,
    RegistryError,
)

from .blob import open_remote
from .digest import digest_bytes, is_digest
from .parse import MANIFEST_TYPES, json_object
from .redact import redact
from .reference import Reference
from .target import MissingBlobError, Moved, Progress
from .transport import Body, Fault, Reply, Transport

_ACCEPT = ", ".join(MANIFEST_TYPES)
_MANIFEST_LIMIT = 4 << 20  # the distribution specification's advice to registries
_PAGES = 1000
_LINK = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_ABSENT = {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}


class Repository:
    """One repository of a registry; a :class:`~mealkit_builder.target.Target`. Safe to use from several threads.

    The constructor does no I/O; connections are made when first needed and kept until :meth:`close`.

    Args:
        reference: Names the host and the repository; its tag and digest play no part.
        environment: Where Docker's configuration, proxies and insecure hosts come from; the process' own by default.
        push: Ask token servers for push rights at once, which saves a second token.
        transport: The HTTP edge, for tests.
    """

    def __init__(
        self,
        reference: Reference,
        environment: Mapping[str, str] | None = None,
        *,
        push: bool = False,
        transport: Transport | None = None,
    ) -> None:
        self.reference = reference
        self.transport = transport or Transport(reference, environment)
        self._path = f"/v2/{reference.repository}"
        self._pull = self._scope("pull,push" if push else "pull")
        self._push = self._scope("pull,push")

    @property
    def name(self) -> str:
        """``host/repository``."""
        return self.reference.name

    def url(self, digest: str) -> str:
        """``host/repository@sha256:…``."""
        return f"{self.name}@{digest}"

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def get_manifest(self, reference: str) -> tuple[bytes, str, str] | None:
        """``(bytes, media type, digest)`` of a tag's or digest's manifest or index; None when there is none.

        Raises:
            RegistryError: the bytes are not those of the digest that was asked for or announced.
        """
        reply = self.transport.request(
            "GET",
            f"{self._path}/manifests/{reference}",
            scope=self._pull,
            headers={"Accept": _ACCEPT},
            limit=_MANIFEST_LIMIT,
        )
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise self._error(reply, f"cannot read {self.name}:{reference}")
        digest = digest_bytes(reply.data)
        expected = reference if is_digest(reference) else reply.headers.get("Docker-Content-Digest") or digest
        if is_digest(expected) and digest != expected:
            raise RegistryError(
                "the manifest's bytes do not have its digest",
                where=self.url(expected),
                hint="the registry, or something between, changed them; do not use this image",
            )
        return reply.data, self._media_type(reply), digest

    def get_blob(self, digest: str) -> bytes:
        """A small blob whole, checked against its digest.

        Raises:
            NotFoundError: the repository does not have it.
            RegistryError: the bytes do not have the digest.
        """
        reply = self.transport.request("GET", f"{self._path}/blobs/{digest}", scope=self._pull)
        if reply.status != 200:
            raise self._error(reply, "cannot read a blob")
        if digest_bytes(reply.data) != digest:
            raise RegistryError(
                "a blob's bytes do not have its digest",
                where=self.url(digest),
                hint="the registry, or something between, changed them; do not use this image",
            )
        return reply.data

    def open_blob(self, digest: str) -> BinaryIO:
        """A blob as a stream, read from the registry while it is consumed; the last read checks its digest.

        A broken connection is taken up again where it broke. Close the stream to give its connection back.

        Raises:
            NotFoundError: the repository does not have it.
            RegistryError: from a read: the bytes do not have the digest.
        """

        def fetch(offset: int) -> Reply:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            reply = self.transport.request(
                "GET", f"{self._path}/blobs/{digest}", scope=self._pull, headers=headers, stream=True
            )
            if reply.stream is None:
                raise self._error(reply, "cannot read a blob")
            return reply

        return open_remote(self.transport, fetch, digest, self.url(digest))

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has the blob."""
        reply = self.transport.request("HEAD", f"{self._path}/blobs/{digest}", scope=self._pull)
        if reply.status not in (200, 404):
            raise self._error(reply, "cannot look for a blob")
        return reply.status == 200

    def put_blob(
        self,
        digest: str,
        size: int,
        read: Callable[[], BinaryIO],
        *,
        mount_from: str | None = None,
        progress: Progress | None = None,
        known_absent: bool = False,
    ) -> Moved:
        """Bring a blob here unless it is here.

        Args:
            digest: Its name; the registry checks the bytes against it.
            size: Its length in bytes.
            read: Opens its bytes; called again when a try broke.
            mount_from: Another repository of the same registry that may have it.
            progress: Told of the bytes sent; of a negative number when a try is taken back.
            known_absent: Do not ask whether it is here.
        """
        if not known_absent and self.has_blob(digest):
            return "reused"
        session = self._mount(digest, mount_from) if mount_from else None
        if session == "mounted":
            return "mounted"
        body = Body(read, size, progress)
        starts = [session] if session else []
        self.transport.retry(lambda: self._upload(digest, body, starts.pop() if starts else None))
        return "uploaded"

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> str:
        """Write a manifest or index under a tag or its digest; returns its digest.

        Raises:
            MissingBlobError: the registry lacks a blob or manifest that it names.
        """
        reply = self.transport.request(
            "PUT",
            f"{self._path}/manifests/{reference}",
            scope=self._push,
            headers={"Content-Type": media_type},
            body=data,
        )
        if reply.status in (400, 404) and _codes(reply) & _ABSENT:
            raise MissingBlobError(
                f"{self.reference.host} lacks a blob of the manifest",
                where=self.name,
                hint="push again; the registry may be removing old blobs",
            )
        if reply.status not in (200, 201, 202):
            raise self._error(reply, f"cannot write {self.name}:{reference}")
        digest = digest_bytes(data)
        told = reply.headers.get("Docker-Content-Digest")
        if told and is_digest(told) and told != digest:
            raise RegistryError(
                "the registry stored the manifest under another digest",
                where=self.url(told),
                hint="something between changed the manifest; push to the registry directly",
            )
        return digest

    def list_tags(self) -> tuple[str, ...]:
        """All tags of the repository, sorted; none when there is no such repository."""
        url = f"{self._path}/tags/list?n=1000"
        tags: set[str] = set()
        for _ in range(_PAGES):
            reply = self.transport.request("GET", url, scope=self._pull)
            if reply.status == 404:
                break
            if reply.status != 200:
                raise self._error(reply, f"cannot list the tags of {self.name}")
            tags.update(str(tag) for tag in json_object(reply.data, "tag list").get("tags") or ())
            link = _LINK.search(reply.headers.get("Link") or "")
            if not link:
                break
            url = self.transport.resolve(reply.url, link.group(1))
        return tuple(sorted(tags))

    def _mount(self, digest: str, source: str) -> str | None:
        """Try a mount: ``mounted``, or the Location of the upload that was opened instead, or nothing."""
        query = urlencode({"mount": digest, "from": source})
        try:
            reply = self.transport.request(
                "POST", f"{self._path}/blobs/uploads/?{query}", scope=f"{self._push} {_scope(source, 'pull')}"
            )
        except (AuthenticationError, PermissionDeniedError, RegistryError):
            return None  # some registries refuse the whole request when the other repository may not be read
        if reply.status == 202:
            return self.transport.resolve(reply.url, reply.headers.get("Location") or "")
        # Some registries have answered 201 to a mount that they did not do, so look.
        return "mounted" if reply.status == 201 and self.has_blob(digest) else None

    def _upload(self, digest: str, body: Body, session: str | None) -> None:
        """One try to upload: open a session, then send all in one request; never resume a broken one.

        docker-registry answers 404 to a PATCH or PUT that continues a cut one, so each try begins afresh.
        """
        if session is None:
            reply = self.transport.send("POST", f"{self._path}/blobs/uploads/", scope=self._push)
            if reply.status not in (201, 202):
                raise self._error(reply, "cannot upload")
            session = self.transport.resolve(reply.url, reply.headers.get("Location") or "")
        session += ("&" if "?" in session else "?") + urlencode({"digest": digest})
        reply = self.transport.send("PUT", session, scope=self._push, body=body)
        if reply.status in (400, 404, 416):
            error = self._error(reply, "an upload was refused")
            raise Fault(error.message, where=self.url(digest), hint="push again; if it stays, remove mealkit's cache")
        if reply.status not in (201, 204):
            raise self._error(reply, "cannot upload")

    def _scope(self, actions: str) -> str:
        return _scope(self.reference.repository, actions)

    @staticmethod
    def _media_type(reply: Reply) -> str:
        """What the document says it is, before what the header says: one digest must have one meaning."""
        try:
            inner = json_object(reply.data, "manifest").get("mediaType")
        except BaseImageError:
            inner = None
        return str(inner or (reply.headers.get("Content-Type") or "").partition(";")[0].strip())

    def _error(self, reply: Reply, doing: str) -> RegistryError:
        """The error for an answer that we did not want."""
        said = _said(reply)
        message = f"{doing}: {self.reference.host} answered {reply.status}" + (f" ({said})" if said else "")
        host = self.reference.host
        kind, hint = {
            401: (AuthenticationError, f"docker login {host}"),
            403: (PermissionDeniedError, "ask for push rights, or set another repository="),
            404: (NotFoundError, "check the name; a registry also hides what one may not see"),
            405: (RegistryError, "the registry is read-only, or a mirror: push to another one"),
            413: (RegistryError, "a limit of the registry, or of the proxy before it, is too low for this layer"),
        }.get(reply.status, (RegistryError, "ask the registry's operator"))
        return kind(message, where=self.name, hint=hint)


def _scope(repository: str, actions: str) -> str:
    return f"repository:{repository}:{actions}"


def _errors(reply: Reply) -> list[Mapping[str, object]]:
    try:
        listed = json.loads(reply.data).get("errors")
    except (ValueError, AttributeError):
        return []
    return [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []


def _codes(reply: Reply) -> set[str]:
    return {str(error.get("code")) for error in _errors(reply)}


def _said(reply: Reply) -> str:
    """What the registry says about its refusal, on one line, short and redacted."""
    told = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in _errors(reply))
    return redact(" ".join(told.split()))[:200]
