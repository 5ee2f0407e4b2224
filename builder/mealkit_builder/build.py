"""The build: a project in, an image in a repository or layout folder out, and its record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import mealkit
from mealkit.errors import MealkitError

from .base import Base
from .delivery import deliver
from .digest import digest_bytes
from .image import Image
from .ingredient import Ingredient
from .kitchen import Tally, cook
from .layer import Layer
from .need import Need, check_wheels, gather
from .order import Order, open_order
from .place import Places
from .platform import Platform
from .preparation import Preparation
from .progress import Reporter, Silent
from .pull import Pulled
from .push import PushReport
from .record import ImageRecord, history_file
from .reference import Reference
from .request import BuildRequest
from .store import Store
from .target import MissingBlobError
from .wheel import WheelFile

__all__ = ["BuildRequest", "build"]


def build(request: BuildRequest, reporter: Reporter | None = None) -> ImageRecord:
    """Build the image, bring it to its target, and return its record, which is also kept in ``.mealkit``.

    Raises:
        MealkitError: whatever is wrong; nothing is tagged then.
    """
    order = open_order(request, reporter or Silent())
    try:
        return _Build(order).run()
    finally:
        order.close()


class _Build:
    """One build, while it runs."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.prepared = Preparation(order)
        self.tally = Tally(told=order.reporter.layer)
        self.known: set[str] = set()
        """Digests of the blobs that the target has."""
        self.sent: dict[str, Layer] = {}
        """The layers of the platforms that are done, by key."""
        self.bases: dict[Platform, Base] = {}
        self.wheels: dict[Platform, tuple[WheelFile, ...]] = {}

    def run(self) -> ImageRecord:
        """Build; once more, believing nobody, where something that was known has gone in between."""
        began = time.time()
        try:
            return self._run()
        except (MealkitError, OSError) as error:
            gone = isinstance(error, MissingBlobError) and self.prepared.trust
            if not gone and not self.order.store.pruned_since(began):
                raise
        reporter = self.order.reporter
        reporter.note("something that was known is gone from the registry or the cache: once more, without it")
        reporter.restart()
        self.prepared.trust, self.tally = False, self.tally.restarted()
        return self._run()

    def _run(self) -> ImageRecord:
        order, prepared = self.order, self.prepared
        self.known, self.sent, self.bases, self.wheels = set(), {}, {}, {}
        try:
            images = self._images()
            named = prepared.named if prepared.trust else ""
            report = deliver(order, images, [*self.bases.values()], self.tally, known=self.known, named=named)
            if order.attests or order.request.sign_key is not None:
                self._attest(report, images)
        finally:
            for base in self.bases.values():
                base.close()
        if isinstance(order.location, Reference):
            brought = (layer.digest for image in images for layer in image.layers if layer.kind != "recipe")
            Places(order.store).note(order.location, brought)
        return self._record(report, images)

    def _images(self) -> list[Image]:
        """One for each platform; their layers are in the target when this returns, but for those left to the push."""
        images = []
        with ThreadPoolExecutor(4, "mealkit-ask") as executor:
            self.prepared.begin(executor)
            for platform in self.order.platforms:
                base = self.bases[platform] = self.prepared.base(platform)
                need = self.prepared.need(base)
                self.wheels[platform] = need.wheels
                images.append(self.prepared.assemble(base, need, self._layers(base, need)))
        return images

    def _layers(self, base: Base, need: Need) -> tuple[Layer, ...]:
        """The image's layers above its base, each in the target, or left to the push."""
        order, trust = self.order, self.prepared.trust
        last = self.prepared.last(base.platform)
        there: dict[str, Layer] = {}
        if last is not None and trust:
            there = {layer.key: layer for layer in last.image.layers if layer.key}
            self.known |= last.known
        there |= self.sent
        if order.request.verify_cache and trust:
            self._check_cache(base, need, there)
        order.reporter.stage("making layers")
        target = order.target if order.request.engine == "oci" else None
        use_cache = order.request.use_cache
        look = partial(order.tiers.look, trust=trust) if use_cache and target is not None else None
        layers = cook(
            need.ingredients, there, target, order.store, order.reporter, self.tally, use_cache=use_cache, look=look
        )
        here = [layer for layer in layers if layer not in self.tally.left]
        if target is not None:
            self.sent |= {layer.key: layer for layer in here}
        self.known |= {layer.digest for layer in here}
        if need.wheels:
            self._check_wheels(base, need, last)
        return layers

    def _check_cache(self, base: Base, need: Need, there: Mapping[str, Layer]) -> None:
        """Make anew what anybody says to know, and compare, before it is used."""
        from .cache_check import check_claims, claims_of

        order, spec = self.order, self.prepared.described.spec

        def again(store: Store) -> Sequence[Ingredient]:
            return gather(
                order.project, spec, base.python, need.interpreter, need.wheels, store, under=base.debian
            ).ingredients

        order.reporter.stage("checking the cache")
        claims = claims_of(need.ingredients, there, order.tiers.told(need.ingredients), order.store)
        count = check_claims(claims, again, order.store, order.target.open_blob, order.reporter)
        order.reporter.note(f"{count} known layers were made anew and compared: the same bytes")

    def _check_wheels(self, base: Base, need: Need, last: Pulled | None) -> None:
        """No two wheels may bring different files to one place, unless an image has them together already."""
        images = [*self.order.tiers.together]
        images += [frozenset(layer.key for layer in last.image.layers)] if last is not None else []
        wanted = {one.key for one in need.ingredients if one.wheels}
        together = any(wanted <= keys for keys in images)
        check_wheels(need.wheels, base.python.minor, self.order.store, together=together)

    def _attest(self, report: PushReport, images: Sequence[Image]) -> None:
        """Attach to the image what was asked for."""
        from .attestation import Made, attest_build

        order, prepared = self.order, self.prepared
        order.reporter.stage("attaching")
        made = Made(
            order.project, report, tuple(images), self.bases, self.wheels, order.base_name, order.request.engine,
            prepared.lock.digest, digest_bytes(prepared.described.spec.encode()), prepared.revision.result(),
        )  # fmt: skip
        attest_build(
            made, order.target, order.store, order.environment,
            attest=order.attests, key=order.request.sign_key, identity=order.identity,
        )  # fmt: skip

    def _record(self, report: PushReport, images: Sequence[Image]) -> ImageRecord:
        order, prepared, tally = self.order, self.prepared, self.tally
        revision = prepared.revision.result()
        record = ImageRecord(
            url=report.url,
            tags=report.tags,
            platforms={str(platform): digest for platform, digest in report.platforms},
            name=order.project.name,
            version=order.project.version,
            spec_digest=digest_bytes(prepared.described.spec.encode()),
            base=order.base_name,
            base_digest={str(platform): base.digest for platform, base in self.bases.items()},
            lock_digest=prepared.lock.digest,
            revision=revision.commit,
            dirty=revision.dirty,
            size=sum(image.size for image in images),
            layers={**tally.ways},
            bytes_uploaded=tally.sent + report.uploaded.size,
            wheels_downloaded=tally.downloaded,
            bytecode=all(dict(image.config.labels).get("io.mealkit.bytecode") == "true" for image in images),
            builder=mealkit.__version__,
            seconds=round(time.perf_counter() - order.started, 3),
        )
        if order.request.keep_record:
            record.append_to(history_file(order.project.root))
        return record
