"""The tiers: where a layer that the repository's last image does not have may be known, or be, already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from mealkit._value import dataclass, replace
from mealkit.errors import MealkitError

from .cache_tag import (
    CACHE_CONFIG,
    CACHE_CONFIG_DIGEST,
    cache_manifest,
    is_locked,
    is_shared,
    layer_tag,
    lock_tag,
    read_cache_manifest,
)
from .image import MANIFEST
from .layer import Layer
from .layout import Layout
from .place import Places
from .registry import Repository
from .store import Store

if TYPE_CHECKING:
    from .ingredient import Ingredient

T = TypeVar("T")
U = TypeVar("U")

_WORKERS = 8  # as many as a transport keeps connections
_TELLERS = 4  # beside those that push
_log = logging.getLogger("mealkit_builder.tier")

Teller = Literal["cache tag", "other image", "index"]


@dataclass(frozen=True)
class Known:
    """A layer that somebody knows.

    Attributes:
        layer: What it is.
        way: How it came to be in the target; None: it is not there.
        by: Who knew it: a cache tag of the repository, another image of a layout folder, or this machine's index.
        source: A repository that it can be mounted from, where that was not tried.
    """

    layer: Layer
    way: Literal["reused", "mounted"] | None
    by: Teller
    source: str = ""


class Tiers:
    """What is known beyond the last image of the target; asked only for what that leaves open.

    Nothing that is found is believed: a layer counts as there when the target itself says so. An answer that is
    damaged, or none at all, only means that the layer is made.

    Args:
        target: Where the image goes.
        store: Has this machine's index.
        shared: The repository that holds the cache tags of several recipes; the target itself when None.
        tags: Whether cache tags are read and written.
    """

    def __init__(
        self, target: Repository | Layout, store: Store, *, shared: Repository | None = None, tags: bool = True
    ) -> None:
        self.target = target
        self.store = store
        self._keeper = (shared or target) if tags and isinstance(target, Repository) else None
        self._shared = shared
        self._lacking: set[str] = set()
        self.together: list[frozenset[str]] = []
        """Keys of layers that one lock's tag told: they were in one image."""

    def close(self) -> None:
        """Give the shared repository's connections back."""
        if self._shared is not None:
            self._shared.close()

    @property
    def untold(self) -> bool:
        """Whether a lock that was asked for has no tag that tells all of it."""
        return bool(self._lacking)

    def told(self, whole: Sequence[Ingredient]) -> dict[str, tuple[Layer, Teller]]:
        """All that cache tags, or the other images of a layout folder, tell of an image's layers."""
        return self._told([one for one in whole if is_shared(one.key)], whole, {})

    def look(
        self,
        ingredients: Sequence[Ingredient],
        whole: Sequence[Ingredient],
        *,
        trust: bool = True,
        mount: bool = True,
    ) -> dict[str, Known]:
        """What is known of ingredients, by key; those that are found in another repository are mounted.

        Args:
            ingredients: What the last image does not have.
            whole: All that the image needs, which names the lock.
            trust: Whether others than this machine are asked.
            mount: Whether to mount; else the place is only told.
        """
        shared = [one for one in ingredients if is_shared(one.key)]
        if not shared:
            return {}
        index = {one.key: layer for one in shared if (layer := self.store.known_layer(one.key)) is not None}
        told: dict[str, tuple[Layer, Teller]] = {key: (layer, "index") for key, layer in index.items()}
        for key, (layer, by) in (self._told(shared, whole, index) if trust else {}).items():
            # This machine's own knowledge comes first: it made that layer.
            if key not in index or _same(index[key], layer):
                told[key] = (index.get(key, layer), by)
        places = Places(self.store)
        here = self.target.reference if isinstance(self.target, Repository) else None
        others = places.others(here) if here is not None else {}
        own = places.known(here) if here is not None else frozenset()
        titles = {one.key: one.title for one in shared}

        def find(key: str) -> Known:
            layer, by = told[key]
            # Only what a layer's bytes are is taken from others; its name follows from the key.
            layer = replace(layer, key=key, kind=key.partition("/")[0], title=titles[key])
            source = others.get(layer.digest, "")
            if by == "cache tag" and self._shared is not None:
                source = self._shared.reference.repository
            # What this machine knows from elsewhere only is most likely not here: a mount tells, for one request less.
            elsewhere = by == "index" and bool(source) and layer.digest not in own
            if elsewhere and mount and self._mounted(layer, source):
                return Known(layer, "mounted", by)
            if not (elsewhere and not mount) and self.target.has_blob(layer.digest, layer.size):
                return Known(layer, "reused", by)
            if source and mount and not elsewhere and self._mounted(layer, source):
                return Known(layer, "mounted", by)
            return Known(layer, None, by, "" if mount else source)

        return dict(zip(told, _side_by_side(find, [*told]), strict=True))

    def _mounted(self, layer: Layer, source: str) -> bool:
        return isinstance(self.target, Repository) and self.target.mount_blob(layer.digest, source)

    def _told(
        self, shared: Sequence[Ingredient], whole: Sequence[Ingredient], index: Mapping[str, Layer]
    ) -> dict[str, tuple[Layer, Teller]]:
        """What others than this machine say."""
        if isinstance(self.target, Layout):
            wanted = {one.key for one in shared}
            return {key: (layer, "other image") for key, layer in _in_layout(self.target).items() if key in wanted}
        if self._keeper is None:
            return {}
        found: dict[str, Layer] = {}
        if any(is_locked(one.key) for one in shared):
            locked = {one.key for one in whole if is_locked(one.key)}
            found = self._ask(lock_tag(locked))
            if found.keys() >= locked:
                self.together.append(frozenset(locked))
            else:
                self._lacking.add(lock_tag(locked))
        left = [one.key for one in shared if one.key not in found and one.key not in index]
        for answer in _side_by_side(lambda key: self._ask(layer_tag(key)), left):
            found |= answer
        return {key: (found[key], "cache tag") for key in (one.key for one in shared) if key in found}

    def _ask(self, tag: str) -> dict[str, Layer]:
        """What a cache tag tells; nothing when it is missing, damaged, or cannot be read."""
        assert self._keeper is not None
        try:
            answer = self._keeper.get_manifest(tag)
        except MealkitError as error:
            _log.debug("the cache tag %s cannot be read: %s", tag, error.message)
            return {}
        return read_cache_manifest(answer[0]) if answer is not None else {}

    def tell(self, images: Iterable[Sequence[Layer]], new: Collection[str]) -> str | None:
        """Write cache tags: one for each layer that is new in the repository, and one for a lock that nobody told.

        Never raises for what a registry says, because the image does not need them.

        Args:
            images: For each platform, the layers above the base.
            new: Keys of layers that came to the repository just now, all blobs of which are there.

        Returns:
            Why not all tags could be written; None when they are.
        """
        keeper = self._keeper
        if not isinstance(keeper, Repository):
            return None
        manifests: dict[str, list[Layer]] = {}
        for layers in images:
            locked = [layer for layer in layers if is_locked(layer.key)]
            fresh = [layer for layer in layers if layer.key in new and is_shared(layer.key)]
            manifests |= {layer_tag(layer.key): [layer] for layer in fresh}
            tag = lock_tag(layer.key for layer in locked)
            if tag in self._lacking or any(layer in fresh for layer in locked):
                manifests[tag] = locked
        if not manifests:
            return None
        try:
            self._bring_config(keeper)
            if self._shared is not None:
                self._bring_layers({layer.digest: layer for layers in manifests.values() for layer in layers})
            _side_by_side(
                lambda tag: keeper.put_manifest(cache_manifest(manifests[tag]), MANIFEST, tag), [*manifests], _TELLERS
            )
        except MealkitError as error:
            _log.debug("cache tags cannot be written: %s", error.message)
            return error.message
        return None

    @staticmethod
    def _bring_config(keeper: Repository) -> None:
        import io

        keeper.put_blob(CACHE_CONFIG_DIGEST, len(CACHE_CONFIG), lambda: io.BytesIO(CACHE_CONFIG))

    def _bring_layers(self, layers: Mapping[str, Layer]) -> None:
        """Mount the layers into the shared repository, whose manifests may name only what it has."""
        assert self._shared is not None
        assert isinstance(self.target, Repository)
        shared, source = self._shared, self.target.reference.repository

        def bring(layer: Layer) -> None:
            if not shared.has_blob(layer.digest, layer.size):
                shared.mount_blob(layer.digest, source)

        _side_by_side(bring, [*layers.values()], _TELLERS)


def _same(one: Layer, other: Layer) -> bool:
    return (one.digest, one.size, one.diff_id) == (other.digest, other.size, other.diff_id)


def _in_layout(layout: Layout) -> dict[str, Layer]:
    """The layers of all images in a folder by key, for there every image can be read at once: no tags are needed."""
    from .pull import pull_any

    found: dict[str, Layer] = {}
    for tag in layout.list_tags():
        try:
            for image in pull_any(layout, tag):
                found |= {layer.key: layer for layer in image.layers if layer.key}
        except MealkitError as error:
            _log.debug("%s in %s tells no layers: %s", tag, layout.name, error.message)
    return found


def _side_by_side(work: Callable[[T], U], of: Sequence[T], workers: int = _WORKERS) -> list[U]:
    """The results in order; the first error ends what has not begun."""
    if len(of) <= 1:
        return [work(one) for one in of]
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(workers, len(of)), "mealkit-tier")
    try:
        return list(pool.map(work, of))
    finally:
        pool.shutdown(cancel_futures=True)
