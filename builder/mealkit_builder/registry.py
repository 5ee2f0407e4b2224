"""A repository of a registry as a target: the conversation of the OCI distribution specification."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import urlencode

from mealkit.errors import BaseImageError, RegistryError, RetryableError, UnreachableError

from .blob import open_remote
from .digest import digest_bytes, is_digest
from .image import INDEX
from .parse import MANIFEST_TYPES, json_object
from .reference import Reference
from .refusal import codes, refusal
from .target import MissingBlobError, Moved, Progress
from .transport import Fault, Reply, Transport
from .upload import Upload

_ACCEPT = ", ".join(MANIFEST_TYPES)
_MANIFEST_LIMIT = 4 << 20  # the distribution specification's advice to registries
_PAGES = 1000
_LINK = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_ABSENT = {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}
_AGAIN = "run the same command again: it sends only what is not there yet"
_CHANGED = "the registry, or something between, changed them; do not use this image"


class _OtherAnswer(Fault):
    """An answer that is about something else than what was asked for, or was damaged on its way."""


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

        def ask() -> Reply:
            reply = self.transport.send(
                "GET",
                f"{self._path}/manifests/{reference}",
                scope=self._pull,
                headers={"Accept": _ACCEPT},
                limit=_MANIFEST_LIMIT,
            )
            told = reference if is_digest(reference) else _digest_told(reply)
            if reply.status == 200 and told and digest_bytes(reply.data) != told:
                raise _OtherAnswer("the manifest's bytes do not have its digest", where=self.url(told), hint=_CHANGED)
            return reply

        with self._naming(f"cannot read {self.name}:{reference}"):
            reply = self._checked(ask)
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise self._error(reply, f"cannot read {self.name}:{reference}")
        return reply.data, self._media_type(reply), digest_bytes(reply.data)

    def get_blob(self, digest: str) -> bytes:
        """A small blob whole, checked against its digest.

        Raises:
            NotFoundError: the repository does not have it.
            RegistryError: the bytes do not have the digest.
        """

        def ask() -> Reply:
            reply = self.transport.send("GET", f"{self._path}/blobs/{digest}", scope=self._pull)
            if reply.status == 200 and digest_bytes(reply.data) != digest:
                raise _OtherAnswer("a blob's bytes do not have its digest", where=self.url(digest), hint=_CHANGED)
            return reply

        with self._naming(f"cannot read {digest}", digest):
            reply = self._checked(ask)
        if reply.status != 200:
            raise self._error(reply, "cannot read a blob", digest)
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
            with self._naming(f"cannot read {digest}", digest):
                reply = self.transport.request(
                    "GET", f"{self._path}/blobs/{digest}", scope=self._pull, headers=headers, stream=True
                )
            if reply.stream is None:
                raise self._error(reply, "cannot read a blob", digest)
            return reply

        return open_remote(self.transport, fetch, digest, self.url(digest))

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Whether the repository has the blob; one of another size than is asked for is not that blob."""

        def ask() -> Reply:
            reply = self.transport.send("HEAD", f"{self._path}/blobs/{digest}", scope=self._pull)
            self._check_digest(reply, digest)
            return reply

        with self._naming(f"cannot look for {digest}", digest):
            reply = self._checked(ask)
        if reply.status not in (200, 404):
            raise self._error(reply, "cannot look for a blob", digest)
        told = reply.headers.get("Content-Length") or ""
        return reply.status == 200 and (size is None or not told.isdigit() or int(told) == size)

    def mount_blob(self, digest: str, source: str) -> bool:
        """Take a blob over from another repository of this registry; False where that does not work."""
        return self._mount(digest, source) == "mounted"

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

        Raises:
            RetryableError: the registry failed three times; the error names the blob.
        """
        if not known_absent and self.has_blob(digest):
            return "reused"
        session = self._mount(digest, mount_from) if mount_from else None
        if session == "mounted":
            return "mounted"
        with self._naming(f"cannot upload {digest}", digest):
            self._upload(digest, Upload(read, size, progress), session)
        return "uploaded"

    def named_digest(self, reference: str) -> str:
        """The digest of what a tag names, by a HEAD; empty when it names nothing, or the registry does not tell."""
        reply = self.transport.request(
            "HEAD", f"{self._path}/manifests/{reference}", scope=self._pull, headers={"Accept": _ACCEPT}
        )
        return reply.headers.get("Docker-Content-Digest") or "" if reply.status == 200 else ""

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> str:
        """Write a manifest or index under a tag or its digest; returns its digest.

        Raises:
            MissingBlobError: the registry lacks a blob or manifest that it names.
        """
        return self._put_manifest(data, media_type, reference)[0]

    def put_referrer(self, data: bytes, media_type: str, subject: str) -> bool:
        """Write a manifest that refers to another one; whether the registry itself lists it there.

        Where it does not (it sends no ``OCI-Subject``), the caller keeps the list under a tag.
        """
        _, reply = self._put_manifest(data, media_type, digest_bytes(data))
        return reply.headers.get("OCI-Subject") == subject

    def get_referrers(self, digest: str) -> list[object] | None:
        """The descriptors of all that refers to a manifest; None where the registry has no such list.

        Raises:
            BaseImageError: the registry's answer is no index.
        """
        url = f"{self._path}/referrers/{digest}"
        found: list[object] = []
        for _ in range(_PAGES):
            reply = self.transport.request("GET", url, scope=self._pull, headers={"Accept": INDEX})
            # Registries without it answer 404, some 400 or 405; some answer any path with a page of their own.
            if reply.status in (400, 404, 405) or (reply.status == 200 and self._content_type(reply) != INDEX):
                return None
            if reply.status != 200:
                raise self._error(reply, f"cannot list what refers to {self.url(digest)}")
            entries = json_object(reply.data, "list of referrers").get("manifests")
            found += entries if isinstance(entries, list) else []
            link = _LINK.search(reply.headers.get("Link") or "")
            if not link:
                break
            url = self.transport.resolve(reply.url, link.group(1))
        return found

    def _put_manifest(self, data: bytes, media_type: str, reference: str) -> tuple[str, Reply]:
        digest = digest_bytes(data)

        def ask() -> Reply:
            reply = self.transport.send(
                "PUT",
                f"{self._path}/manifests/{reference}",
                scope=self._push,
                headers={"Content-Type": media_type},
                body=data,
            )
            if reply.status in (200, 201, 202) and _digest_told(reply) not in ("", digest):
                raise _OtherAnswer(
                    "the registry stored the manifest under another digest",
                    where=self.url(digest),
                    hint="something between changed the manifest; push to the registry directly",
                )
            return reply

        with self._naming(f"cannot write {self.name}:{reference}"):
            reply = self._checked(ask)
        if reply.status in (400, 404) and codes(reply) & _ABSENT:
            raise MissingBlobError(
                f"{self.reference.host} lacks a blob of the manifest",
                where=self.name,
                hint="push again; the registry may be removing old blobs",
            )
        if reply.status not in (200, 201, 202):
            raise self._error(reply, f"cannot write {self.name}:{reference}")
        return digest, reply

    def delete_manifest(self, digest: str) -> bool:
        """Remove a manifest and with it all tags that name it; False when there was none.

        Raises:
            RegistryError: the registry does not allow it.
        """
        reply = self.transport.request("DELETE", f"{self._path}/manifests/{digest}", scope=self._scope("pull,delete"))
        if reply.status in (405, 501):
            raise RegistryError(
                f"{self.reference.host} does not allow to delete manifests",
                where=self.url(digest),
                hint="ask its operator to allow it, or to remove the tags",
            )
        if reply.status not in (200, 202, 204, 404):
            raise self._error(reply, "cannot delete a manifest")
        return reply.status != 404

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
        except (RegistryError, Fault):
            return None  # some registries refuse the whole request when the other repository may not be read
        if reply.status == 202:
            return self.transport.resolve(reply.url, reply.headers.get("Location") or "")
        # Some registries have answered 201 to a mount that they did not do, so look.
        return "mounted" if reply.status == 201 and self.has_blob(digest) else None

    def _upload(self, digest: str, body: Upload, session: str | None) -> None:
        """Send a blob in one request; a broken upload is never resumed but begun afresh.

        docker-registry answers 404 to a PATCH or PUT that continues a cut one, and forgets its sessions when it
        restarts. A try whose answer was lost may have been done all the same, so the next one looks first.
        """
        sessions = [session] if session else []
        lost = False

        def send() -> Fault | None:
            nonlocal lost
            try:
                if lost and self.has_blob(digest):
                    return None
                place = sessions.pop() if sessions else self._open_session(digest)
            except Fault as fault:
                return fault  # these requests have had their own tries
            lost = True
            place += ("&" if "?" in place else "?") + urlencode({"digest": digest})
            reply = self.transport.send("PUT", place, scope=self._push, body=body)
            self._check_digest(reply, digest)
            if reply.status in (201, 204):
                return None
            lost = False
            error = self._error(reply, "an upload was refused", digest)
            if reply.status in (400, 404, 416):
                raise Fault(error.message, where=self.url(digest), hint=_AGAIN)
            raise error

        failed = self.transport.retry(send)
        if failed is not None:
            raise failed

    def _open_session(self, digest: str) -> str:
        """The Location to send a blob to."""
        reply = self.transport.request("POST", f"{self._path}/blobs/uploads/", scope=self._push)
        if reply.status != 202:
            raise self._error(reply, "cannot upload", digest)
        return self.transport.resolve(reply.url, reply.headers.get("Location") or "")

    def _checked(self, ask: Callable[[], Reply]) -> Reply:
        """Ask with retries; an answer that is not about what was asked for every time is the registry's error."""
        try:
            return self.transport.retry(ask)
        except _OtherAnswer as fault:
            raise RegistryError(fault.message, where=fault.where, hint=fault.hint) from fault

    def _check_digest(self, reply: Reply, digest: str) -> None:
        """Some proxies have answered twice, so that every later answer was that to the request before."""
        if reply.status in (200, 201, 204) and _digest_told(reply) not in ("", digest):
            raise _OtherAnswer(f"{self.reference.host} answers about another blob", where=self.url(digest), hint=_AGAIN)

    @contextmanager
    def _naming(self, doing: str, digest: str = "") -> Iterator[None]:
        """Name what could not be done in the error of a request whose tries are used up, and what to do."""
        try:
            yield
        except RetryableError as error:
            if not error.message.startswith("cannot "):
                error.message = f"{doing}: {error.message}"
                error.args = (error.message,)
                error.where = self.url(digest) if digest else self.name
                if isinstance(error, Fault) and not isinstance(error, UnreachableError):
                    error.hint = _AGAIN
            raise

    def _scope(self, actions: str) -> str:
        return _scope(self.reference.repository, actions)

    @staticmethod
    def _media_type(reply: Reply) -> str:
        """What the document says it is, before what the header says: one digest must have one meaning."""
        try:
            inner = json_object(reply.data, "manifest").get("mediaType")
        except BaseImageError:
            inner = None
        return str(inner or Repository._content_type(reply))

    @staticmethod
    def _content_type(reply: Reply) -> str:
        return (reply.headers.get("Content-Type") or "").partition(";")[0].strip()

    def _error(self, reply: Reply, doing: str, digest: str = "") -> RegistryError:
        return refusal(reply, doing, self.reference.host, self.url(digest) if digest else self.name)


def _scope(repository: str, actions: str) -> str:
    return f"repository:{repository}:{actions}"


def _digest_told(reply: Reply) -> str:
    """The digest that an answer says it is about; empty when it says none."""
    told = reply.headers.get("Docker-Content-Digest") or ""
    return told if is_digest(told) else ""
