"""Reading an image back from the documents that a registry, a layout folder or an engine gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mealkit.errors import BaseImageError

from .digest import is_digest
from .image import INDEX, MANIFEST, HistoryLine, Image, ImageConfig, canonical_json
from .layer import GZIP_LAYER, Layer, layer_from_descriptor
from .platform import Platform

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)

# Docker's layer types have the same bytes as OCI's; only the names differ.
_LAYER_TYPES = {
    GZIP_LAYER: GZIP_LAYER,
    "application/vnd.oci.image.layer.v1.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": GZIP_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}
_ANOTHER = "do not use this image; if a registry has it so, tell its owner"
_DEEPEST = 64
_FIELDS = frozenset({"schemaversion", "mediatype", "config", "layers", "manifests", "digest", "size", "urls"})
_KNOWN = ("Env", "Entrypoint", "Cmd", "User", "WorkingDir", "Labels", "StopSignal", "ExposedPorts")
# What Docker's builder wrote about the machine that built; it says nothing about the image.
_DROPPED = ("container", "container_config", "docker_version", "id", "parent", "throwaway")
_TOP = ("created", "architecture", "os", "variant", "config", "rootfs", "history")


def is_index(media_type: str) -> bool:
    """Whether a media type is that of an index over several platforms."""
    return media_type in (INDEX, DOCKER_INDEX)


def image_from_manifest(manifest: bytes, config: bytes) -> Image:
    """The image of a manifest and its config; what we do not know of a base's config is kept.

    Docker's media types become OCI's. History that does not fit the layers is padded, because an engine
    refuses or misreads it otherwise.

    Raises:
        BaseImageError: the documents are damaged, or hold something that cannot be packed again.
    """
    outer = json_object(manifest, "manifest")
    inner = json_object(config, "config")
    try:
        diff_ids = [str(value) for value in inner["rootfs"]["diff_ids"]]
        descriptors = list(outer["layers"])
        if len(diff_ids) != len(descriptors):
            raise BaseImageError(
                f"the image's manifest has {len(descriptors)} layers, its config {len(diff_ids)}",
                hint="the image is damaged; use another one as base",
            )
        for descriptor in descriptors:
            checked_descriptor(descriptor)
        layers = tuple(_layer(descriptor, diff) for descriptor, diff in zip(descriptors, diff_ids, strict=True))
        settings: Mapping[str, Any] = inner.get("config") or {}
        return Image(
            platform=_platform(inner),
            layers=layers,
            config=ImageConfig(
                env=_env(settings.get("Env")),
                entrypoint=_strings(settings.get("Entrypoint")),
                cmd=_strings(settings.get("Cmd")),
                user=str(settings.get("User") or ""),
                working_dir=str(settings.get("WorkingDir") or ""),
                labels=tuple(sorted((str(k), str(v)) for k, v in (settings.get("Labels") or {}).items())),
                stop_signal=str(settings.get("StopSignal") or ""),
                exposed_ports=tuple(sorted(settings.get("ExposedPorts") or ())),
                created=str(inner.get("created") or ""),
                history=_history(inner.get("history") or (), len(layers)),
                other=_rest(settings, _KNOWN),
                other_top=_rest(inner, _TOP + _DROPPED),
            ),
            annotations=tuple(sorted((str(k), str(v)) for k, v in (outer.get("annotations") or {}).items())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, RecursionError) as error:
        raise BaseImageError(
            "the image's manifest or config is damaged", where=type(error).__name__, hint="use another image as base"
        ) from error


def choose_platform(index: bytes, platform: Platform) -> str:
    """The digest of an index's manifest for a platform.

    Raises:
        BaseImageError: the index is damaged or has no such platform; the hint names those that it has.
    """
    entries = json_object(index, "index").get("manifests")
    found: list[str] = []
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not is_digest(str(entry.get("digest"))):
            continue
        offered = _platform(entry.get("platform") or {})
        if offered == platform:
            return str(entry["digest"])
        if offered.os == "linux":  # leaves out attestations, which call themselves unknown/unknown
            found.append(str(offered))
    raise BaseImageError(
        f"the image is not for {platform}",
        hint=f"it is for {', '.join(sorted(set(found))) or 'no platform that is known'}",
    )


def config_digest(manifest: bytes) -> str:
    """The digest of the config that a manifest names.

    Raises:
        BaseImageError: it names none, as Docker's schema 1 and an index do not.
    """
    config = json_object(manifest, "manifest").get("config")
    digest = str(config.get("digest")) if isinstance(config, dict) else ""
    if not is_digest(digest):
        raise BaseImageError(
            "the manifest names no config",
            hint="it is an index, or of Docker's old schema 1; push the image again with a newer tool",
        )
    return digest


def linked_digests(manifest: bytes) -> tuple[str, ...]:
    """The digests of all that a manifest or index needs: config and layers, or manifests.

    Raises:
        BaseImageError: it is not JSON, or names something by what is no digest.
    """
    document = json_object(manifest, "manifest")
    linked: list[object] = [document.get("config")] if document.get("config") else []
    for name in ("layers", "manifests"):
        listed = document.get(name) or []
        if not isinstance(listed, list):
            raise BaseImageError(f"the {name} of the image's manifest are no list", hint=_ANOTHER)
        linked += listed
    return tuple(checked_descriptor(one)[0] for one in linked)


def checked_descriptor(value: object) -> tuple[str, int]:
    """Digest and size of a descriptor, found fit to name a file and to be counted with.

    Raises:
        BaseImageError: it is no descriptor, or its digest or size is none.
    """
    if not isinstance(value, dict):
        raise BaseImageError("a descriptor of the image is no JSON object", hint=_ANOTHER)
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not is_digest(digest):
        raise BaseImageError(
            "the image names something by what is no sha256 digest", where=ascii(digest)[:100], hint=_ANOTHER
        )
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise BaseImageError("a descriptor of the image has no size", where=digest, hint=_ANOTHER)
    return digest, size


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ``data``, which says everything once.

    Raises:
        BaseImageError: it is none, is nested deeper than any image's, or has a key twice: of two readers each could
            take another one.
    """
    try:
        value = json.loads(data, object_pairs_hook=_unique)
        _check_depth(value)
    except RecursionError:
        raise BaseImageError(f"the image's {what} is nested too deep", hint=_ANOTHER) from None
    except _TwiceError as error:
        raise BaseImageError(f"the image's {what} has the key {error} twice", hint=_ANOTHER) from None
    except ValueError as error:
        raise BaseImageError(f"the image's {what} is not JSON", hint=_ANOTHER) from error
    if not isinstance(value, dict):
        raise BaseImageError(f"the image's {what} is not a JSON object", hint=_ANOTHER)
    return value


class _TwiceError(Exception):
    """A key stands twice in an object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(ascii(next(name for name in names if names.count(name) > 1))[:100])
    # Go's decoder, which the engines use, does not tell "Layers" from "layers", and takes the last.
    for name in value:
        if name.lower() in _FIELDS and any(name.lower() == other.lower() for other in value.keys() - {name}):
            raise _TwiceError(ascii(name)[:100])
    return value


def _check_depth(value: object) -> None:
    pending = [(value, 0)]
    while pending:
        one, depth = pending.pop()
        if depth > _DEEPEST:
            raise RecursionError
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        pending += [(part, depth + 1) for part in inner if isinstance(part, dict | list)]


def _layer(descriptor: Mapping[str, object], diff_id: str) -> Layer:
    media_type = str(descriptor.get("mediaType"))
    if media_type not in _LAYER_TYPES:
        raise BaseImageError(
            f"a layer has the type {media_type}, which cannot be packed again",
            where=str(descriptor["digest"]),
            hint="use a base whose layers are tar, tar+gzip or tar+zstd",
        )
    layer = layer_from_descriptor(dict(descriptor) | {"mediaType": _LAYER_TYPES[media_type]}, diff_id)
    if not (is_digest(layer.digest) and is_digest(diff_id)):
        raise BaseImageError("a layer has no sha256 digest", where=layer.digest, hint="use another image as base")
    return layer


def _platform(value: Mapping[str, Any]) -> Platform:
    architecture, variant = str(value.get("architecture") or "unknown"), str(value.get("variant") or "")
    return Platform(
        str(value.get("os") or "unknown"), architecture, "" if (architecture, variant) == ("arm64", "v8") else variant
    )


def _history(lines: Sequence[Mapping[str, Any]], layers: int) -> tuple[HistoryLine, ...]:
    history = tuple(
        HistoryLine(
            created_by=str(line.get("created_by") or ""),
            created=str(line.get("created") or ""),
            comment=str(line.get("comment") or ""),
            author=str(line.get("author") or ""),
            empty_layer=bool(line.get("empty_layer")),
        )
        for line in lines
    )
    missing = layers - sum(not line.empty_layer for line in history)
    if missing < 0:
        history, missing = (), layers
    return (HistoryLine(created_by="base"),) * missing + history


def _env(lines: object) -> tuple[tuple[str, str], ...]:
    pairs = tuple((name, value) for name, _, value in (line.partition("=") for line in _strings(lines)))
    if any(not name or "\0" in name + value for name, value in pairs):
        raise ValueError("a variable without a name, or with a NUL: no process can be started with it")
    return pairs


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(part) for part in value) if isinstance(value, list) else ()


def _rest(value: Mapping[str, Any], known: tuple[str, ...]) -> str:
    rest = {name: part for name, part in value.items() if name not in known and part not in (None, "", [], {})}
    return canonical_json(rest).decode()
