"""Pulling: reads an image from a registry or a layout folder without its layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from mealkit._value import dataclass
from mealkit.errors import BaseImageError, NotFoundError

from .image import Image
from .parse import (
    checked_descriptor,
    choose_platform,
    config_digest,
    image_from_manifest,
    is_index,
    json_object,
    linked_digests,
)
from .platform import Platform


class Source(Protocol):
    """A place to read images from; a registry's repository and a layout folder both are."""

    def get_manifest(self, reference: str) -> tuple[bytes, str, str] | None:
        """``(bytes, media type, digest)`` of the manifest or index of a tag or digest; None when there is none."""

    def get_blob(self, digest: str) -> bytes:
        """A small blob (a config) whole, checked against its digest."""

    def open_blob(self, digest: str) -> BinaryIO:
        """A blob as a stream."""


@dataclass(frozen=True)
class Pulled:
    """An image as it was found.

    Attributes:
        image: The image for the platform.
        digest: Of what the reference names: a manifest, or an index over several platforms.
        manifest_digest: Of the image's own manifest.
        config_digest: Of its config.
    """

    image: Image
    digest: str
    manifest_digest: str
    config_digest: str

    @property
    def known(self) -> frozenset[str]:
        """The digests of the blobs that its repository has, for ``push_image(known=…)``."""
        return frozenset({self.config_digest, *(layer.digest for layer in self.image.layers)})


def pull_image(source: Source, reference: str, platform: Platform | None = None) -> Pulled | None:
    """The image of a tag or digest: two requests, three through an index; None when there is none.

    Args:
        source: Where from.
        reference: A tag or a digest.
        platform: Which one of an index; a single image may be for any platform when None.

    Raises:
        BaseImageError: the documents are damaged, or the index does not have the platform.
        RegistryError: what the source raises.
    """
    try:
        return _pull(source, reference, platform)
    except BaseImageError as error:
        error.where = error.where or getattr(source, "name", None)
        raise


def find_image(source: Source, reference: str, platform: Platform | None, where: str) -> Pulled:
    """As :func:`pull_image`, for an image that has to be there.

    Raises:
        NotFoundError: there is none.
    """
    found = pull_image(source, reference, platform)
    if found is None:
        raise NotFoundError(
            f"there is no image {reference!r}", where=where, hint="check the tag or digest; was it pushed?"
        )
    return found


def _pull(source: Source, reference: str, platform: Platform | None) -> Pulled | None:
    found = source.get_manifest(reference)
    if found is None:
        return None
    data, media_type, digest = found
    manifest_digest = digest
    if is_index(media_type):
        manifest_digest = choose_platform(data, platform or Platform())
        inner = source.get_manifest(manifest_digest)
        if inner is None:
            return None
        data = inner[0]
    config = config_digest(data)
    text = source.get_blob(config)
    _check_size(text, json_object(data, "manifest")["config"])
    return Pulled(image_from_manifest(data, text), digest, manifest_digest, config)


def _check_size(data: bytes, descriptor: object) -> None:
    """What has a descriptor's digest must have its size too, or engines refuse the image (OCI image specification)."""
    digest, size = checked_descriptor(descriptor)
    if size != len(data):
        raise BaseImageError(
            f"the image's config has {len(data)} bytes, its manifest says {size}",
            where=digest,
            hint="the image is damaged: do not use it",
        )


def pull_any(source: Source, reference: str) -> Iterator[Image]:
    """The images of a tag or digest for whatever platforms; none when there is none.

    Raises:
        BaseImageError: the documents are damaged.
        RegistryError: what the source raises.
    """
    found = source.get_manifest(reference)
    if found is None:
        return
    manifests = [found]
    if is_index(found[1]):
        # Each once, and no index in an index: a few small ones could name more images than there are.
        inner = (source.get_manifest(digest) for digest in dict.fromkeys(linked_digests(found[0])))
        manifests = [one for one in inner if one is not None]
    for data, _, _ in manifests:
        yield image_from_manifest(data, source.get_blob(config_digest(data)))
