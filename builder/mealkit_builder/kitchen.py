"""The kitchen: makes the ingredients that nobody has, fetching and sending side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from threading import Semaphore
from typing import Any, BinaryIO

from mealkit._value import dataclass, field
from mealkit.errors import Stopped, storage_error

from .cache_tag import is_shared
from .ingredient import Ingredient
from .layer import Layer
from .progress import Reporter
from .store import Store
from .target import Moved, Target
from .tier import Known
from .wheel import WheelFile

_MAKERS = 3
"""Threads that splice and send: sending waits for the network."""

_SPLICERS = 2
"""How many of them splice at a time: each brings a thread that inflates, and more would wait for the interpreter."""

_SMALL = 256 << 10
"""Bytes of layers that are not worth threads of their own."""

Look = Callable[[Sequence[Ingredient], Sequence[Ingredient]], Mapping[str, Known]]
"""Finds out what is known of some of all ingredients; see :meth:`.tier.Tiers.look`."""


@dataclass
class Tally:
    """How the layers came to the target.

    Attributes:
        ways: How many layers were reused, mounted and uploaded.
        sent: Bytes of those that were uploaded.
        downloaded: How many wheels were fetched.
        new: Keys of the layers that the target did not have before.
        told: Told how each layer came.
        left: Small layers that are left to the push, which sends them beside the image's config.
    """

    ways: dict[str, int] = field(default_factory=lambda: {"reused": 0, "mounted": 0, "uploaded": 0})
    sent: int = 0
    downloaded: int = 0
    new: set[str] = field(default_factory=set)
    told: Callable[[Moved], None] = lambda way: None
    left: set[Layer] = field(default_factory=set)

    def add(self, way: Moved, layer: Layer) -> None:
        """Count one layer."""
        self.told(way)
        self.ways[way] += 1
        if way != "reused":
            self.new.add(layer.key)
        if way == "uploaded":
            self.sent += layer.size

    def restarted(self) -> Tally:
        """The tally of a build that begins anew: how layers come is counted afresh, what has moved has moved."""
        return Tally(sent=self.sent, downloaded=self.downloaded, new=self.new, told=self.told)

    def settle(self, moved: Mapping[str, Moved]) -> None:
        """Count the layers that were left, as they came at last; their bytes are in the push's own report."""
        for layer in self.left:
            way = moved[layer.digest]
            self.ways[way] += 1
            if way != "reused":
                self.new.add(layer.key)


def cook(
    ingredients: Sequence[Ingredient],
    known: Mapping[str, Layer],
    target: Target | None,
    store: Store,
    reporter: Reporter,
    tally: Tally,
    *,
    use_cache: bool = True,
    look: Look | None = None,
) -> tuple[Layer, ...]:
    """The layer of each ingredient, in order; every one is in the target (or the store) when this returns.

    Args:
        ingredients: What the image needs.
        known: Layers by key that the target already has.
        target: Where the layers go; None: only into the store.
        store: Where layers and wheels are kept.
        reporter: Told of bytes.
        tally: Counts how the layers came.
        use_cache: Whether layers of the local index are taken.
        look: Finds out where the layers that ``known`` lacks may be; asked only when there are any.
    """
    reporter.layers(len(ingredients))
    layers = {one.key: known[one.key] for one in ingredients if one.key in known}
    for layer in layers.values():
        tally.add("reused", layer)
    unknown = [one for one in ingredients if one.key not in known]
    wanted: list[Ingredient] = []
    to_send: list[Layer] = []
    found = look(unknown, ingredients) if look is not None and unknown else {}
    absent = {seen.layer for seen in found.values() if seen.way is None}
    for one in unknown:
        seen = found.get(one.key)
        if seen is not None and seen.way is not None:
            layers[one.key] = seen.layer
            tally.add(seen.way, seen.layer)
            continue
        cached = store.known_layer(one.key) if use_cache else None
        if cached is not None and store.has_blob(cached.digest):
            store.use(cached.digest)
            to_send.append(cached)
        else:
            wanted.append(one)
    # What is small and made already is left to the push: most builds end here. But a layer that a cache tag may name
    # must be there before the tag is, which is written beside the push.
    small = sum(layer.size for layer in to_send) <= _SMALL and not any(is_shared(layer.key) for layer in to_send)
    if target is not None and known and not wanted and small:
        tally.left.update(to_send)
        reporter.layers(-len(to_send))
        layers |= {layer.key: layer for layer in to_send}
        return tuple(layers[one.key] for one in ingredients)
    if not wanted and len(to_send) <= 1:
        for layer in to_send:
            layers[layer.key] = layer
            _send(layer, target, store, reporter, tally, probe=not known and layer not in absent)
        return tuple(layers[one.key] for one in ingredients)
    if wanted and not any(one.wheels for one in wanted) and len(wanted) + len(to_send) <= 1:
        layer = wanted[0].make(())
        store.remember(layer)
        layers[layer.key] = layer
        _send(layer, target, store, reporter, tally, probe=not known)
        return tuple(layers[one.key] for one in ingredients)
    layers |= _cook_aside(wanted, to_send, absent, target, store, reporter, tally)
    return tuple(layers[one.key] for one in ingredients)


def _cook_aside(
    wanted: Sequence[Ingredient],
    to_send: Sequence[Layer],
    absent: Collection[Layer],
    target: Target | None,
    store: Store,
    reporter: Reporter,
    tally: Tally,
) -> dict[str, Layer]:
    """Fetch, make and send in threads; the first error stops what has not begun."""
    from .download import Fetch  # a warm build fetches nothing, and need not import what does
    from .memory import share_arenas

    share_arenas()

    wheels: dict[str, WheelFile] = {wheel.sha256: wheel for one in wanted for wheel in one.wheels}
    fetch = Fetch(tuple(wheels.values()), store, lambda wheel, size: reporter.moved("download", size))
    tally.downloaded += fetch.downloaded
    reporter.expect("download", fetch.total)
    makers = ThreadPoolExecutor(_MAKERS, "mealkit-make")
    # Compiling brings processes of its own for all cores: one at a time.
    compiler = ThreadPoolExecutor(1, "mealkit-compile")

    def stop() -> None:
        """Begin nothing more, and end what is being sent."""
        for pool in (compiler, makers):
            pool.shutdown(wait=False, cancel_futures=True)
        if target is not None:
            target.close()

    try:
        splicers = Semaphore(_SPLICERS)

        def make(one: Ingredient) -> Layer:
            wheels = [fetch.get(wheel) for wheel in one.wheels]
            with nullcontext() if one.compiles else splicers:
                layer = one.make(wheels)
            store.remember(layer)
            return layer

        def send(layer: Layer) -> Layer:
            _send(layer, target, store, reporter, tally, probe=layer not in absent)
            return layer

        def compile_then_send(one: Ingredient) -> Future[Layer]:
            return makers.submit(send, make(one))

        sent = [makers.submit(send, layer) for layer in to_send]
        compiled = [compiler.submit(compile_then_send, one) for one in wanted if one.compiles]
        made = [makers.submit(lambda one=one: send(make(one))) for one in wanted if not one.compiles]  # type: ignore[misc]
        first: list[Future[Any]] = [*sent, *made, *compiled]
        done = _settle(first, stop)[: len(sent) + len(made)]
        done += _settle([job.result() for job in compiled], stop)
    except BaseException:
        stop()
        raise
    finally:
        compiler.shutdown(cancel_futures=True)
        makers.shutdown(cancel_futures=True)
        fetch.close()
    return {layer.key: layer for layer in done}


def _settle(jobs: Sequence[Future[Any]], stop: Callable[[], None]) -> list[Any]:
    """The jobs' results; the first error stops the others, and of several the first ingredient's is told."""
    wait(jobs, return_when=FIRST_EXCEPTION)
    if any(job.done() and not job.cancelled() and job.exception() for job in jobs):
        stop()
        errors = [job.exception() for job in jobs if not job.cancelled()]
        raise next(error for error in errors if error is not None and not isinstance(error, Stopped))
    return [job.result() for job in jobs]


def _send(
    layer: Layer, target: Target | None, store: Store, reporter: Reporter, tally: Tally, *, probe: bool = True
) -> None:
    if target is None:
        return
    reporter.expect("upload", layer.size)
    way = target.put_blob(
        layer.digest,
        layer.size,
        opener(store, layer.digest),
        progress=lambda size: reporter.moved("upload", size),
        known_absent=not probe,
    )
    if way != "uploaded":
        reporter.expect("upload", -layer.size)
    tally.add(way, layer)


def opener(store: Store, digest: str) -> Callable[[], BinaryIO]:
    """Opens a blob of the store, again and again."""
    path = store.blob_path(digest)

    def open_blob() -> BinaryIO:
        try:
            return path.open("rb")
        except OSError as error:
            raise storage_error(error, "a layer is gone from mealkit's cache", path) from error

    return open_blob
