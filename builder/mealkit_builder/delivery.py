"""The delivery: assembled images to their target, with the cache tags that tell the next machine of their layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from .base import Base
from .cache_tag import is_shared
from .digest import digest_bytes
from .image import Image, config_bytes
from .kitchen import Tally
from .order import Order
from .place import Places
from .push import PushReport, push_image
from .reference import Reference
from .registry import Repository
from .target import MissingBlobError


def deliver(
    order: Order,
    images: Sequence[Image],
    bases: Sequence[Base],
    tally: Tally,
    *,
    known: Collection[str] = (),
    named: str = "",
) -> PushReport:
    """Push the images, or have Docker's engine build and push them.

    Args:
        order: What is built, and where to.
        images: One a platform.
        bases: What they stand on, which may have to be sent too.
        tally: Counts how the layers that were left to the push came.
        known: Digests of the blobs that the target has.
        named: The digest that the last tag names already, if the target is to be believed.

    Raises:
        MealkitError: the target refuses, or the engine fails.
    """
    if order.request.engine == "docker":
        from .engine_build import build_in_engine

        order.reporter.stage("building with the engine")
        return build_in_engine(order, images[0], bases[0])
    order.reporter.stage("pushing")
    with ThreadPoolExecutor(1, "mealkit-tell") as beside:
        told = _tell(order, images, tally, beside)
        report = push_image(
            images[0] if len(images) == 1 else images,
            order.target,
            lambda digest: _open_layer(order, digest, bases),
            tags=order.tags,
            known=frozenset(known),
            mount_from=_mounts(order, images, bases, known),
            reporter=order.reporter,
            named=named,
        )
        tally.settle(report.moved)
        if isinstance(order.target, Repository):
            for image in images:
                config = config_bytes(image)
                order.store.add_blob(digest_bytes(config), config)
        why = told.result() if told is not None else None
    if why is not None and order.project.image.cache:
        order.reporter.note(f"the cache tags were not written: {why}")
    return report


def _tell(order: Order, images: Sequence[Image], tally: Tally, beside: ThreadPoolExecutor) -> Future[str | None] | None:
    """Write cache tags beside the image's own documents: the layers above the bases are all there now."""
    layers = [[layer for layer in image.layers if is_shared(layer.key)] for image in images]
    # Made without the cache, they are told anew, whatever was told before.
    anew = not order.request.use_cache
    new = {layer.key for each in layers for layer in each if layer.key in tally.new or anew}
    return beside.submit(order.tiers.tell, layers, new) if new or order.tiers.untold else None


def _mounts(order: Order, images: Sequence[Image], bases: Sequence[Base], known: Collection[str]) -> dict[str, str]:
    """For layers that are not known here: another repository of the same registry that has them."""
    here = order.location
    layers = (layer for image in images for layer in image.layers if layer.kind != "recipe")
    if not isinstance(here, Reference) or all(layer.digest in known for layer in layers):
        return {}
    mounts = Places(order.store).others(here)
    return mounts | {digest: repo for base in bases for digest, repo in base.mounts(here).items()}


def _open_layer(order: Order, digest: str, bases: Sequence[Base]) -> BinaryIO:
    """The bytes of a layer: in the store if we made it, else where the base is."""
    if order.store.has_blob(digest):
        return order.store.blob_path(digest).open("rb")
    for base in bases:
        if any(layer.digest == digest for layer in base.image.layers):
            return base.open_layer(digest)
    raise MissingBlobError(
        "a layer is gone from the repository since its last image",
        where=order.target.url(digest),
        hint="build again; the registry may be removing old blobs",
    )
