"""The target: what an image can be pushed to; a registry's repository and a layout folder both are."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Literal, Protocol

from mealkit.errors import RegistryError

Moved = Literal["reused", "mounted", "uploaded"]
Progress = Callable[[int], None]
"""Called with the number of bytes just moved."""


class MissingBlobError(RegistryError):
    """A manifest names a blob or manifest that the target does not have; nothing was written."""

    code = "missing-blob"


class Target(Protocol):
    """A place for one repository's blobs, manifests and tags."""

    @property
    def name(self) -> str:
        """The repository as users write it: ``host/repo``, or ``oci:DIR``."""

    def url(self, digest: str) -> str:
        """The recorded image URL of a manifest: ``host/repo@sha256:…`` or ``oci:DIR@sha256:…``."""

    def get_manifest(self, reference: str) -> tuple[bytes, str, str] | None:
        """``(bytes, media type, digest)`` of the manifest or index of a tag or digest; None when there is none."""

    def named_digest(self, reference: str) -> str:
        """The digest of what a tag names, unread; empty when it names nothing, or nobody tells."""

    def get_blob(self, digest: str) -> bytes:
        """A small blob (a config) whole, checked against its digest."""

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Whether the repository has the blob; one of another size than is asked for is not that blob."""

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
        """Bring a blob here unless it is here; try a mount from another repository first, if one is named."""

    def put_manifest(self, data: bytes, media_type: str, reference: str) -> str:
        """Write a manifest or index under a tag or its digest; returns its digest."""

    def close(self) -> None:
        """Give connections back, and end what other threads do on them: it raises :class:`~mealkit.errors.Stopped`."""
