"""Pushing: brings images to a target, blobs first and side by side, manifests last."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import BinaryIO, TypeVar

from mealkit._value import dataclass, field
from mealkit.errors import Stopped

from .digest import digest_bytes
from .image import INDEX, MANIFEST, Image, config_bytes, index_bytes, manifest_bytes
from .platform import Platform
from .progress import Reporter, Silent
from .target import MissingBlobError, Moved, Target

OpenLayer = Callable[[str], BinaryIO]
T = TypeVar("T")
WORKERS = 4
# Sending so little costs less than asking first whether it is there.
_SMALL = 256 << 10


@dataclass(frozen=True)
class Moves:
    """How many blobs went one way, and their bytes."""

    count: int = 0
    size: int = 0


@dataclass(frozen=True)
class PushReport:
    """What a push did.

    Attributes:
        digest: Of the manifest, or of the index for several platforms.
        url: The image URL to record, by digest.
        media_type: Of that document.
        tags: The tags that name it now.
        platforms: Each platform with the digest of its manifest.
        reused: Blobs that the target had.
        mounted: Blobs taken over from another repository without moving.
        uploaded: Blobs that were sent.
        moved: How each blob came, by digest.
    """

    digest: str
    url: str
    media_type: str
    tags: tuple[str, ...]
    platforms: tuple[tuple[Platform, str], ...]
    reused: Moves
    mounted: Moves
    uploaded: Moves
    moved: Mapping[str, Moved] = field(default_factory=dict)


@dataclass(frozen=True)
class _Blob:
    digest: str
    size: int
    read: Callable[[], BinaryIO]
    layer: bool = True


def push_image(
    images: Image | Sequence[Image],
    target: Target,
    open_layer: OpenLayer,
    *,
    tags: Sequence[str] = (),
    known: frozenset[str] = frozenset(),
    mount_from: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
    named: str = "",
) -> PushReport:
    """Bring an image, or an index over several, to a target.

    No manifest is written before all blobs are there, and no tag before that; a push that fails leaves the tags
    as they were.

    Args:
        images: One image; or several, for different platforms, which get an index.
        target: Where to.
        open_layer: Opens the bytes of a layer by its digest; called only for what must be sent, from several threads.
        tags: Names to give; without any the image is there by digest only.
        known: Digests of blobs that the repository's last image has: not even asked for.
        mount_from: For a digest, another repository of the same registry that has the blob.
        reporter: Told of bytes and layers; called from several threads.
        named: The digest of what the last of the tags names already: an image of this digest is there, whole.

    Raises:
        MealkitError: what the target raises.
    """
    several = (images,) if isinstance(images, Image) else tuple(images)
    if not several:
        raise ValueError("no image to push")
    blobs = _blobs(several, open_layer)
    moved = _put_blobs(blobs, target, known, mount_from or {}, reporter or Silent())
    try:
        digest, media_type = _put_manifests(images, several, target, tags, named)
    except MissingBlobError:
        # The target forgot what we took as known; this happens when a registry removes old blobs.
        moved = _put_blobs(blobs, target, frozenset(), mount_from or {}, reporter or Silent())
        digest, media_type = _put_manifests(images, several, target, tags, "")
    return PushReport(
        digest=digest,
        url=target.url(digest),
        media_type=media_type,
        tags=tuple(tags),
        platforms=tuple((image.platform, image.digest) for image in several),
        reused=_sum(blobs, moved, "reused"),
        mounted=_sum(blobs, moved, "mounted"),
        uploaded=_sum(blobs, moved, "uploaded"),
        moved=moved,
    )


def _blobs(images: Sequence[Image], open_layer: OpenLayer) -> list[_Blob]:
    """Each blob once, the biggest first, so that the last to end is a small one."""
    found: dict[str, _Blob] = {}
    for image in images:
        config = config_bytes(image)
        found[digest_bytes(config)] = _Blob(digest_bytes(config), len(config), partial(io.BytesIO, config), layer=False)
        for layer in image.layers:
            found.setdefault(layer.digest, _Blob(layer.digest, layer.size, partial(open_layer, layer.digest)))
    return sorted(found.values(), key=lambda blob: (-blob.size, blob.digest))


def _put_blobs(
    blobs: Sequence[_Blob],
    target: Target,
    known: frozenset[str],
    mount_from: Mapping[str, str],
    reporter: Reporter,
) -> dict[str, Moved]:
    """How each blob came to the target."""
    cancelled: list[bool] = []

    def report(size: int) -> None:
        if cancelled:  # ends what the other threads are sending, at their next block
            raise Stopped("the push was given up", where=target.name)
        reporter.moved("upload", size)

    def put(blob: _Blob) -> Moved:
        # A small blob that the last image did not have is most likely new.
        absent = bool(known) and blob.size <= _SMALL
        reporter.expect("upload", blob.size)
        way = target.put_blob(
            blob.digest,
            blob.size,
            blob.read,
            mount_from=mount_from.get(blob.digest),
            progress=report,
            known_absent=absent,
        )
        if way != "uploaded":
            reporter.expect("upload", -blob.size)
        if blob.layer:
            reporter.layer(way)
        return way

    moved: dict[str, Moved] = {blob.digest: "reused" for blob in blobs if blob.digest in known}
    wanted = [blob for blob in blobs if blob.digest not in known]
    reporter.layers(sum(blob.layer for blob in wanted))
    if len(wanted) <= 1:
        return moved | {blob.digest: put(blob) for blob in wanted}
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    with ThreadPoolExecutor(min(WORKERS, len(wanted)), "mealkit-push") as pool:
        futures = {pool.submit(put, blob): blob.digest for blob in wanted}
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                moved[futures[future]] = future.result()
        except BaseException:
            cancelled.append(True)
            pool.shutdown(wait=False, cancel_futures=True)
            target.close()  # wakes the threads that wait for the network, or between two tries
            raise
    return moved


def _put_manifests(
    given: Image | Sequence[Image],
    images: Sequence[Image],
    target: Target,
    tags: Sequence[str],
    named: str,
) -> tuple[str, str]:
    """Write the manifests, then what the tags name; returns its digest and media type."""
    whole = isinstance(given, Image)
    data, media_type = (manifest_bytes(images[0]), MANIFEST) if whole else (index_bytes(images), INDEX)
    digest = digest_bytes(data)
    if digest == named:  # nothing changed since: what a tag names already is not written again
        others = [tag for tag in tags[:-1] if target.named_digest(tag) != digest]
        _side_by_side(lambda tag: target.put_manifest(data, media_type, tag), others)
        return digest, media_type
    if not whole:
        _side_by_side(lambda image: target.put_manifest(manifest_bytes(image), MANIFEST, image.digest), images)
    # A manifest written by its tag is there by its digest too.
    _side_by_side(lambda reference: target.put_manifest(data, media_type, reference), tags or (digest,))
    return digest, media_type


def _side_by_side(work: Callable[[T], object], items: Sequence[T]) -> None:
    """Do ``work`` for each; all have ended when this returns, and the error of the first that failed is raised."""
    if len(items) <= 1:
        for item in items:
            work(item)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(WORKERS, len(items)), "mealkit-push") as pool:
        for done in [pool.submit(work, item) for item in items]:
            done.result()


def _sum(blobs: Sequence[_Blob], moved: Mapping[str, Moved], way: Moved) -> Moves:
    sizes = [blob.size for blob in blobs if moved[blob.digest] == way]
    return Moves(len(sizes), sum(sizes))
