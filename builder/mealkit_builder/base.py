"""The base: what an image starts from, whatever place it comes from, and the Python in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO, Protocol

from mealkit._value import asdict, dataclass, field, replace
from mealkit.errors import BaseImageError, NotFoundError, UnreachableError
from mealkit.project import ImageSettings

from .digest import digest_bytes, is_digest
from .image import MANIFEST, Image
from .parse import json_object
from .platform import Platform
from .pull import Pulled, Source, pull_image
from .python_in_base import BasePython
from .reference import DebianLocation, EngineLocation, HostLocation, Reference, parse_location
from .store import Store

if TYPE_CHECKING:
    from .debian.base import DebianSource
    from .debian.pin import Pins

__all__ = ["Base", "BasePython", "read_python", "resolve_base", "write_python"]

Recall = Callable[[str], BasePython | None]

_FACTS = 1  # the version of what is remembered about a base


class LayerSource(Protocol):
    """Where a base's layers can be read."""

    def open_blob(self, digest: str) -> BinaryIO:
        """A layer's compressed bytes as a stream."""

    def close(self) -> None:
        """Give connections back."""


@dataclass(frozen=True)
class Base:
    """A base image for one platform, found but not fetched.

    A base of Debian's packages has no layers in ``image``: they are ingredients, made when nobody has them.

    Attributes:
        name: As the user wrote it.
        reference: The same with the digest that it was resolved to.
        digest: The manifest's (or, for several platforms, the index's) digest.
        platform: What it runs on.
        image: Its layers and config.
        python: Its interpreter.
        source: Where the bytes of its layers are.
        repository: The repository it is in, from which the same registry can mount its layers; None: in none.
        python_key: What ``python`` is remembered under; empty for ``host`` and ``deb:``.
        debian: What makes the layers of a base ``deb:``.
    """

    name: str
    reference: str
    digest: str
    platform: Platform
    image: Image
    python: BasePython
    source: LayerSource = field(repr=False, compare=False)
    repository: Reference | None = None
    python_key: str = ""
    debian: DebianSource | None = field(default=None, repr=False, compare=False)

    def open_layer(self, digest: str) -> BinaryIO:
        """A layer's compressed bytes, for a target that does not have it."""
        return self.source.open_blob(digest)

    def mounts(self, target: object) -> dict[str, str]:
        """Layer digest to the repository that ``target`` can mount it from: empty unless on one registry."""
        source = self.repository
        if source is None or not isinstance(target, Reference) or target.host != source.host:
            return {}
        return {layer.digest: source.repository for layer in self.image.layers}

    def close(self) -> None:
        """Give connections back."""
        self.source.close()


class StoreSource:
    """Layers whose bytes are in the store: those of ``host`` and ``docker:`` bases."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open_blob(self, digest: str) -> BinaryIO:
        """A layer's compressed bytes."""
        return self._store.blob_path(digest).open("rb")

    def close(self) -> None:
        """Nothing is held open."""


def resolve_base(
    spec: str,
    platform: Platform,
    settings: ImageSettings,
    store: Store,
    environment: Mapping[str, str] = os.environ,
    recall: Recall = lambda key: None,
    pins: Pins | None = None,
) -> Base:
    """The base that a user named, for a platform.

    A registry or a layout folder is asked for manifest and config, and once for what is needed to find Python;
    layers are not fetched. ``docker:`` and ``host`` bases become layers in ``store``, once.

    Args:
        spec: A registry reference, ``oci:DIR[:TAG]``, ``docker:NAME``, ``deb:SUITE`` or ``host``.
        platform: What the image shall run on.
        settings: ``python`` names the interpreter where it cannot be found.
        store: Keeps what is learned.
        environment: For credentials and the engine's address.
        recall: What else may know a base's Python by its key, asked before any layer is read.
        pins: The packages of a base ``deb:``; see :func:`.debian.base.find_pins`.

    Raises:
        BaseImageError: the base is for another platform, has no usable Python, or cannot be read.
        NotFoundError: there is no such image.
        UsageError: ``spec`` is none of these.
    """
    location = parse_location(spec)
    if isinstance(location, HostLocation):
        from .host_base import host_base

        image, python = host_base(platform, settings.python, store)
        return Base(spec, f"host@{image.digest}", image.digest, platform, image, python, StoreSource(store))
    if isinstance(location, EngineLocation):
        from .engine_base import engine_image

        image = engine_image(location.image, store, environment)
        _check_platform(image, platform, spec)
        python, key = _python(image, image.digest, StoreSource(store), settings, store, spec)
        return Base(
            spec, f"{spec}@{image.digest}", image.digest, platform, image, python, StoreSource(store), python_key=key
        )
    if isinstance(location, DebianLocation):
        if pins is None:
            raise BaseImageError("the packages of the base are not pinned", where=spec, hint="run `mealkit lock`")
        return _debian_base(location, platform, pins, store, environment)
    from .location import open_location

    source, _ = open_location(spec, environment)
    pulled = _pull(CachedSource(source, store), location.target, platform, spec)
    image = replace(pulled.image, layers=tuple(replace(layer, kind="base") for layer in pulled.image.layers))
    _check_platform(image, platform, spec)
    python, key = _python(image, pulled.manifest_digest, source, settings, store, spec, recall)
    return Base(
        spec,
        source.url(pulled.digest),
        pulled.digest,
        platform,
        image,
        python,
        source,
        location if isinstance(location, Reference) else None,
        key,
    )


def _debian_base(
    location: DebianLocation, platform: Platform, pins: Pins, store: Store, environment: Mapping[str, str]
) -> Base:
    from .debian.base import DebianSource, debian_architecture, debian_image, python_of

    architecture = debian_architecture(platform)
    packages = pins.packages[architecture]
    python = python_of(packages, location.suite)
    digest = pins.digest(architecture)
    return Base(
        name=str(location),
        reference=f"{location}@{digest}",
        digest=digest,
        platform=platform,
        image=debian_image(platform, python),
        python=python,
        source=StoreSource(store),
        debian=DebianSource(location.suite, packages, store, environment),
    )


class CachedSource:
    """A source whose documents, once read by digest, come from the store: a digest never means another thing."""

    def __init__(self, source: Source, store: Store) -> None:
        self._source = source
        self._store = store

    def get_manifest(self, reference: str) -> tuple[bytes, str, str] | None:
        """As :meth:`.pull.Source.get_manifest`; a tag is always asked for."""
        if is_digest(reference) and self._store.has_blob(reference):
            data = self._store.blob_path(reference).read_bytes()
            return data, str(json_object(data, "manifest").get("mediaType") or MANIFEST), reference
        found = self._source.get_manifest(reference)
        if found is not None:
            self._store.add_blob(found[2], found[0])
        return found

    def get_blob(self, digest: str) -> bytes:
        """As :meth:`.pull.Source.get_blob`."""
        if self._store.has_blob(digest):
            data = self._store.blob_path(digest).read_bytes()
            if digest_bytes(data) == digest:  # else the cache was damaged
                return data
        data = self._source.get_blob(digest)
        self._store.add_blob(digest, data)
        return data

    def open_blob(self, digest: str) -> BinaryIO:
        """As :meth:`.pull.Source.open_blob`; layers are not kept."""
        return self._source.open_blob(digest)


def _pull(source: Source, target: str, platform: Platform, name: str) -> Pulled:
    kind, _, suite = name.partition(":")
    other = f"; to start from Debian's packages, without a registry, write deb:{suite}" if kind == "debian" else ""
    try:
        pulled = pull_image(source, target, platform)
    except BaseImageError as error:
        error.where = error.where or name
        raise
    except UnreachableError as error:
        error.hint = f"{error.hint}{other}"
        raise
    if pulled is None:
        hint = f"check the name and the tag; `docker pull` it to compare{other}"
        raise NotFoundError("there is no such base image", where=name, hint=hint)
    return pulled


def _check_platform(image: Image, platform: Platform, name: str) -> None:
    if (image.platform.os, image.platform.architecture) != (platform.os, platform.architecture):
        raise BaseImageError(
            f"the base is for {image.platform}, not for {platform}",
            where=name,
            hint=f"use a base that has {platform}, or build with --platform {image.platform}",
        )


def _python(
    image: Image,
    digest: str,
    source: LayerSource,
    settings: ImageSettings,
    store: Store,
    where: str,
    recall: Recall = lambda key: None,
) -> tuple[BasePython, str]:
    """The interpreter and its fact's key: the base's layers are looked into only once, on whichever machine."""
    named = settings.python
    promised = bool(settings.apt or settings.dockerfile)
    key = f"{_FACTS}-{digest}-{(named or '').strip('/')}" + ("+" if promised else "")
    known = store.read_fact("bases", key)
    if isinstance(known, dict):
        return BasePython(**{**known, "libc_version": tuple(known["libc_version"])}), key
    python = recall(key)
    if python is None:
        from .python_in_base import find_python

        python = find_python(image, source.open_blob, named, where, promised=promised)
    store.write_fact("bases", key, asdict(python))
    return python, key


def write_python(base: Base) -> str:
    """What is known of the base's Python, as a label of the image that is made on it; empty for ``host``."""
    if not base.python_key:
        return ""
    return json.dumps({"key": base.python_key, **asdict(base.python)}, sort_keys=True, separators=(",", ":"))


def read_python(label: str, key: str) -> BasePython | None:
    """What an earlier image's label knows of the base's Python; None when that was another base."""
    try:
        value = json.loads(label)
        if value.pop("key") != key:
            return None
        return BasePython(**{**value, "libc_version": tuple(value["libc_version"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
