"""The dry run: which layers a build would reuse, mount, make, download and upload, and why; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from mealkit._value import asdict, dataclass, replace
from mealkit.errors import UsageError

from .base import Base, write_python
from .ingredient import Ingredient
from .layer import Layer
from .order import Order, open_order
from .place import Places
from .preparation import Preparation
from .progress import Reporter, Silent
from .pull import Pulled
from .reason import Reasons
from .reference import Reference
from .registry import Repository
from .request import BuildRequest
from .store import Store
from .tier import Known, Tiers

Action = Literal["reused", "mounted", "uploaded"]

_BYTECODE = 8  # wheels of numpy, pandas, scipy, scikit-learn and pyarrow weigh seven times their bytecode


@dataclass(frozen=True)
class PlannedLayer:
    """What a build would do with one layer.

    Attributes:
        title: What a person would call it.
        kind: Such as ``wheel`` or ``recipe``.
        action: How it would come to the target.
        size: Its bytes; None: it has to be made to know.
        about: For one to be made, a guess: the bytes of its wheels; for their bytecode an eighth of them.
        made: Whether it would be made.
        reason: Why: what changed, or who knows it.
        download: Wheels that would be fetched for it.
    """

    title: str
    kind: str
    action: Action
    size: int | None
    about: int
    made: bool
    reason: str
    download: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedImage:
    """The image of one platform.

    Attributes:
        platform: What it would run on.
        layers: From the base upwards.
        digest: Its manifest's digest; None while a layer has to be made to know.
        unchanged: Whether the tag names just this image.
    """

    platform: str
    layers: tuple[PlannedLayer, ...]
    digest: str | None
    unchanged: bool


@dataclass(frozen=True)
class Plan:
    """What a build would do.

    Attributes:
        place: The repository or folder.
        tags: The tags that the image would get.
        images: One for each platform.
        downloads: The wheels that would be fetched, and their bytes.
    """

    place: str
    tags: tuple[str, ...]
    images: tuple[PlannedImage, ...]
    downloads: Mapping[str, int]

    def bytes_of(self, action: Action) -> int:
        """The bytes of all layers that go one way, as far as is known; a layer of two platforms counts once."""
        layers = {(one.title, one.kind, one.size): one for image in self.images for one in image.layers}
        return sum(one.about if one.size is None else one.size for one in layers.values() if one.action == action)

    @property
    def exact(self) -> bool:
        """Whether all sizes are known."""
        return all(one.size is not None for image in self.images for one in image.layers)

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        totals = {action: self.bytes_of(action) for action in ("reused", "mounted", "uploaded")}
        download = {"wheels": len(self.downloads), "bytes": sum(self.downloads.values())}
        return {**asdict(self), "bytes": totals, "exact": self.exact, "download": download}


def plan_build(request: BuildRequest, reporter: Reporter | None = None) -> Plan:
    """What a build of this request would do; nothing is written but to the cache of this machine.

    Raises:
        LockError: there is no lock that fits: a dry run makes none.
        UsageError: the image is to be built by the engine ``docker``.
        MealkitError: whatever would stop the build before it makes or moves layers.
    """
    order = open_order(replace(request, locked=True), reporter or Silent())
    try:
        return _plan(order)
    finally:
        order.close()


def _plan(order: Order) -> Plan:
    if order.request.engine == "docker":
        raise UsageError(
            "a dry run needs the engine oci: what docker would do, only docker knows",
            where=str(order.project.file),
            hint="leave --dry-run out",
        )
    prepared = Preparation(order)
    downloads: dict[str, int] = {}
    images = []
    with ThreadPoolExecutor(4, "mealkit-ask") as executor:
        prepared.begin(executor)
        for platform in order.platforms:
            base = prepared.base(platform)
            try:
                planned, missing = _image(order, prepared, base)
            finally:
                base.close()
            images.append(planned)
            downloads |= missing
    return Plan(order.target.name, order.tags, tuple(images), downloads)


def _image(order: Order, prepared: Preparation, base: Base) -> tuple[PlannedImage, dict[str, int]]:
    """What a build would do for one platform, and the wheels that it would fetch."""
    need, last = prepared.need(base), prepared.last(base.platform)
    tiers, store, use_cache = order.tiers, order.store, order.request.use_cache
    there = {layer.key: layer for layer in last.image.layers if layer.key} if last is not None else {}
    unknown = [one for one in need.ingredients if one.key not in there]
    found = tiers.look(unknown, need.ingredients, mount=False) if use_cache else {}
    reasons = Reasons(
        None if last is None else last.image,
        need.packages,
        write_python(base),
        lambda digest: store.blob_path(digest).open("rb") if store.has_blob(digest) else order.target.open_blob(digest),
        lambda digest: store.blob_path(digest).open("rb"),
    )
    planned = _base_layers(base, order.base_name, last, tiers, store, reasons)
    layers: list[Layer | None] = []
    downloads: dict[str, int] = {}
    for one in need.ingredients:
        layer, plan = _ingredient(one, there, found, tiers, store, reasons, use_cache=use_cache, first=last is None)
        layers.append(layer)
        planned.append(plan)
        downloads |= {wheel.filename: wheel.size for wheel in one.wheels if wheel.filename in plan.download}
    known = [layer for layer in layers if layer is not None]
    digest = prepared.assemble(base, need, known).digest if len(known) == len(layers) else None
    unchanged = digest is not None and last is not None and last.manifest_digest == digest
    return PlannedImage(str(base.platform), tuple(planned), digest, unchanged), downloads


def _base_layers(
    base: Base, name: str, last: Pulled | None, tiers: Tiers, store: Store, reasons: Reasons
) -> list[PlannedLayer]:
    target = tiers.target
    mounts: dict[str, str] = {}
    if isinstance(target, Repository):
        here: Reference = target.reference
        mounts = Places(store).others(here) | base.mounts(here)
    planned = []
    for number, layer in enumerate(base.image.layers, 1):
        action: Action
        if last is not None and layer.digest in last.known:
            action, reason = "reused", "in the last image"
        elif target.has_blob(layer.digest, layer.size):
            action, reason = "reused", "the repository has it"
        elif layer.digest in mounts:
            action, reason = "mounted", f"{mounts[layer.digest]} has it; {reasons.base(name, base.digest)}"
        else:
            action, reason = "uploaded", reasons.base(name, base.digest)
        planned.append(PlannedLayer(f"{name} ({number})", "base", action, layer.size, 0, False, reason))
    return planned


_TOLD = {
    "cache tag": "a cache tag tells it",
    "other image": "another image of the folder has it",
    "index": "the repository has it",
}


def _ingredient(
    one: Ingredient,
    there: Mapping[str, Layer],
    found: Mapping[str, Known],
    tiers: Tiers,
    store: Store,
    reasons: Reasons,
    *,
    use_cache: bool,
    first: bool,
) -> tuple[Layer | None, PlannedLayer]:
    kind = one.key.partition("/")[0]

    def planned(action: Action, layer: Layer, reason: str) -> tuple[Layer, PlannedLayer]:
        return layer, PlannedLayer(one.title, kind, action, layer.size, 0, False, reason)

    if one.key in there:
        return planned("reused", there[one.key], "in the last image")
    seen = found.get(one.key)
    if seen is not None and seen.way is not None:
        return planned("reused", seen.layer, _TOLD[seen.by])
    if seen is not None and seen.source:
        return planned("mounted", seen.layer, f"{seen.source} has it; {reasons.why(one, seen.layer)}")
    layer = store.known_layer(one.key) if use_cache else None
    if layer is not None and store.has_blob(layer.digest):
        if first and seen is None and tiers.target.has_blob(layer.digest, layer.size):
            return planned("reused", layer, "the repository has it")
        return planned("uploaded", layer, reasons.why(one, layer))
    missing = tuple(wheel.filename for wheel in one.wheels if not store.has_blob(wheel.sha256))
    about = sum(wheel.size for wheel in one.wheels) // (_BYTECODE if one.compiles else 1)
    why = reasons.why(one, None) if use_cache else "made anew: --no-cache"
    return None, PlannedLayer(one.title, kind, "uploaded", None, about, True, why, missing)
