"""The image: a platform, layers and a config, and the pure verbs that turn it into OCI documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mealkit._value import dataclass, field, replace

from .digest import digest_bytes
from .layer import Layer
from .platform import Platform

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HistoryLine:
    """One line of what ``docker history`` shows."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, object]:
        """The line as in an image config: the fields that are not empty."""
        value: dict[str, object] = {
            name: text
            for name, text in (
                ("created", self.created),
                ("created_by", self.created_by),
                ("comment", self.comment),
                ("author", self.author),
            )
            if text
        }
        return value | {"empty_layer": True} if self.empty_layer else value


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image starts, and what the image says about itself.

    Attributes:
        env: Environment variables in order, as pairs; see :func:`set_env`.
        entrypoint: The program and its fixed arguments.
        cmd: Default arguments.
        user: ``UID[:GID]`` or a name.
        working_dir: Where the program starts.
        labels: Labels as pairs, sorted by name; see :func:`set_labels`.
        stop_signal: Such as ``SIGTERM``.
        exposed_ports: Such as ``8080/tcp``.
        created: The image's time as RFC 3339 text; empty leaves it out.
        history: One line for each layer, and for steps that made none.
        other: Fields of a base's ``config`` object that we do not know, as JSON text; kept as they are.
        other_top: The same of the document's top level.
    """

    env: Pairs = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    labels: Pairs = ()
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    created: str = ""
    history: tuple[HistoryLine, ...] = ()
    other: str = "{}"
    other_top: str = "{}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables as a mapping, in order."""
        return dict(self.env)

    @property
    def label_map(self) -> dict[str, str]:
        """The labels as a mapping."""
        return dict(self.labels)


@dataclass(frozen=True)
class Image:
    """An image for one platform; its manifest, and so its digest, is a pure function of it."""

    platform: Platform
    layers: tuple[Layer, ...] = ()
    config: ImageConfig = field(default_factory=ImageConfig)
    annotations: Pairs = ()

    @property
    def digest(self) -> str:
        """The digest of the image's manifest."""
        return digest_bytes(manifest_bytes(self))

    @property
    def size(self) -> int:
        """Bytes of all layers, compressed."""
        return sum(layer.size for layer in self.layers)


def set_env(config: ImageConfig, values: Mapping[str, str]) -> ImageConfig:
    """``config`` with variables set: known names keep their place, new ones go to the end."""
    return replace(config, env=tuple((config.environment | dict(values)).items()))


def set_labels(config: ImageConfig, values: Mapping[str, str]) -> ImageConfig:
    """``config`` with labels set; those of the base stay unless they are named here."""
    return replace(config, labels=tuple(sorted((config.label_map | dict(values)).items())))


def annotate(image: Image, values: Mapping[str, str]) -> Image:
    """``image`` with annotations set on its manifest."""
    return replace(image, annotations=tuple(sorted((dict(image.annotations) | dict(values)).items())))


def append(image: Image, *layers: Layer) -> Image:
    """``image`` with layers on top, each with a line of history."""
    lines = tuple(HistoryLine(created_by=f"mealkit: {layer.title or layer.kind or layer.digest}") for layer in layers)
    config = replace(image.config, history=image.config.history + lines)
    return replace(image, layers=image.layers + layers, config=config)


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8: one value, one spelling, one digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def config_bytes(image: Image) -> bytes:
    """The image's config document (OCI image specification, "Image Configuration")."""
    config = image.config
    inner: dict[str, object] = dict(json.loads(config.other))
    for name, value in (
        ("Env", [f"{key}={text}" for key, text in config.env]),
        ("Entrypoint", list(config.entrypoint)),
        ("Cmd", list(config.cmd)),
        ("User", config.user),
        ("WorkingDir", config.working_dir),
        ("Labels", config.label_map),
        ("StopSignal", config.stop_signal),
        ("ExposedPorts", {port: {} for port in config.exposed_ports}),
    ):
        if value:
            inner[name] = value
    document: dict[str, object] = dict(json.loads(config.other_top))
    document |= image.platform.to_json()
    document |= {
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
        "history": [line.to_json() for line in config.history],
    }
    if config.created:
        document["created"] = config.created
    return canonical_json(document)


def manifest_bytes(image: Image) -> bytes:
    """The image's manifest; its digest is the image's name."""
    config = config_bytes(image)
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_bytes(config), "size": len(config)},
        "layers": [layer.descriptor() for layer in image.layers],
    }
    if image.annotations:
        document["annotations"] = dict(image.annotations)
    return canonical_json(document)


def index_bytes(images: Sequence[Image]) -> bytes:
    """An image index over images for several platforms, in the order of the platforms."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [_index_entry(image) for image in sorted(images, key=lambda image: image.platform)],
    }
    return canonical_json(document)


def _index_entry(image: Image) -> dict[str, object]:
    data = manifest_bytes(image)
    return {
        "mediaType": MANIFEST,
        "digest": digest_bytes(data),
        "size": len(data),
        "platform": image.platform.to_json(),
    }
