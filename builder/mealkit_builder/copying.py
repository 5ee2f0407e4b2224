"""Copying a built image from one place to another, byte for byte, so its digest stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from mealkit.errors import NotFoundError, Stopped

from .layout import Layout
from .location import open_location
from .parse import checked_descriptor, is_index, json_object, linked_digests
from .progress import Reporter
from .push import WORKERS
from .registry import Repository

Place = Repository | Layout


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        url: The image's URL at its new place.
        tags: What it is called there.
        uploaded: Bytes that were sent.
        reused: Blobs that were there.
    """

    url: str
    tags: tuple[str, ...]
    uploaded: int
    reused: int


def copy_image(
    url: str,
    to: str,
    tags: Sequence[str],
    environment: Mapping[str, str],
    reporter: Reporter,
    *,
    attached: bool = True,
) -> Copied:
    """Copy an image, or an index with all its images; blobs first, manifests last, then the tags.

    With ``attached``, what is attached to them – signatures, SBOM, provenance – goes along, before the tags: who sees
    the tag finds it.

    Raises:
        NotFoundError: there is no such image.
        MealkitError: what the two places raise; no tag is written then.
    """
    source, origin = open_location(url, environment)
    target, destination = open_location(to, environment, push=True)
    try:
        found = source.get_manifest(origin.target)
        if found is None:
            raise NotFoundError(f"there is no image {origin.target!r}", where=source.name, hint="build it first")
        data, media_type, digest = found
        inner: list[tuple[bytes, str, str]] = []
        if is_index(media_type):
            for part in dict.fromkeys(linked_digests(data)):
                child = source.get_manifest(part)
                if child is None:
                    raise NotFoundError(f"a part of the image is missing: {part}", where=source.name)
                inner.append(child)
        blobs = {digest: size for one in inner or [found] for digest, size in _blobs(one[0])}
        uploaded, reused = _copy_blobs(blobs, source, target, reporter)
        for child in inner:
            target.put_manifest(child[0], child[1], child[2])
        if attached:
            from .companion import copy_companions

            copy_companions(source, target, [digest, *(child[2] for child in inner)])
        names = tuple(tags) or ((destination.tag,) if destination.tag else ())
        for name in names or (digest,):
            target.put_manifest(data, media_type, name)
        return Copied(target.url(digest), names, uploaded, reused)
    finally:
        source.close()
        target.close()


def _blobs(manifest: bytes) -> Iterator[tuple[str, int]]:
    """Digest and size of a manifest's config and layers."""
    document = json_object(manifest, "manifest")
    listed = document.get("layers")
    for value in (document.get("config"), *(listed if isinstance(listed, list) else ())):
        yield checked_descriptor(value)


def _copy_blobs(blobs: Mapping[str, int], source: Place, target: Place, reporter: Reporter) -> tuple[int, int]:
    reporter.stage("copying")
    reporter.expect("upload", sum(blobs.values()))
    reporter.layers(len(blobs))

    cancelled: list[bool] = []

    def moved(count: int) -> None:
        if cancelled:  # a connection that was opened just now was not cut with the others
            raise Stopped("the copy was given up", where=target.name)
        reporter.moved("upload", count)

    def copy(blob: tuple[str, int]) -> int:
        moved(0)
        digest, size = blob
        way = target.put_blob(digest, size, partial(source.open_blob, digest), progress=moved)
        if way != "uploaded":
            reporter.expect("upload", -size)
        reporter.layer(way)
        return size if way == "uploaded" else -1

    with ThreadPoolExecutor(WORKERS, "mealkit-copy") as pool:
        jobs = [pool.submit(copy, blob) for blob in sorted(blobs.items(), key=lambda blob: -blob[1])]
        try:
            sizes = [job.result() for job in wait(jobs, return_when=FIRST_EXCEPTION).done]
        except BaseException:
            cancelled.append(True)
            pool.shutdown(wait=False, cancel_futures=True)
            for place in (source, target):
                place.close()  # wakes the threads that wait for the network
            raise
    return sum(size for size in sizes if size > 0), sum(size < 0 for size in sizes)
