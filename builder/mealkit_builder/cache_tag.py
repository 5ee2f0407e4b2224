"""Cache tags: small manifests in a repository that tell which layer a key names, so that nobody makes it again.

A *lock's* tag lists all layers of a set of wheels, so that one request tells a fresh machine everything; a *layer's*
tag lists one, for what another lock shares with it. Their names are hashes of keys, so that who wants a layer can ask
for it without knowing who made it. A registry that removes what no tag holds keeps the layers as long as the tags.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from mealkit.errors import BaseImageError

from .digest import digest_bytes, is_digest
from .image import MANIFEST, canonical_json
from .layer import KEY_ANNOTATION, Layer, layer_from_descriptor
from .parse import json_object

CACHE_TYPE = "application/vnd.mealkit.cache.v1+json"
"""The media type of a cache manifest's config, which is what tells it from an image."""

CACHE_CONFIG = b"{}"
CACHE_CONFIG_DIGEST = digest_bytes(CACHE_CONFIG)
DIFF_ID_ANNOTATION = "io.mealkit.layer.diff-id"

_PREFIX = "mealkit-cache-"
_NAME = re.compile(rf"{_PREFIX}(lock|layer)-[0-9a-f]{{40}}\Z")
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_OF_ONE_RECIPE = "recipe/"


def is_cache_tag(tag: str) -> bool:
    """Whether a tag is one of ours; no user's is likely to be."""
    return _NAME.match(tag) is not None


def is_shared(key: str) -> bool:
    """Whether the layer of a key may be in more than one recipe's images; only those get tags."""
    return bool(key) and not key.startswith(_OF_ONE_RECIPE)


def is_locked(key: str) -> bool:
    """Whether the layer of a key follows from a lock: wheels, and their bytecode."""
    return key.partition("/")[0] in ("wheel", "wheels", "bytecode")


def layer_tag(key: str) -> str:
    """The tag that tells the layer of a key."""
    return _name("layer", key)


def lock_tag(keys: Iterable[str]) -> str:
    """The tag that tells all layers of a set of wheels, named by the keys of the wheels' layers.

    Those hold the wheels' hashes, the Python and the layout; the bytecode follows, but for who compiled it, so it does
    not count: a machine with another interpreter finds the wheels, and asks for the bytecode's layers one by one.
    """
    return _name("lock", "\n".join(sorted(key for key in keys if is_locked(key) and not key.startswith("bytecode/"))))


def _name(kind: str, text: str) -> str:
    return f"{_PREFIX}{kind}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def cache_manifest(layers: Iterable[Layer]) -> bytes:
    """The manifest behind a tag: descriptors with key and diff ID; the same layers give the same bytes."""
    entries = []
    for layer in sorted(layers, key=lambda layer: layer.key):
        descriptor = layer.descriptor()
        annotations = dict(descriptor["annotations"])  # type: ignore[call-overload]
        entries.append({**descriptor, "annotations": {**annotations, DIFF_ID_ANNOTATION: layer.diff_id}})
    config = {"mediaType": CACHE_TYPE, "digest": CACHE_CONFIG_DIGEST, "size": len(CACHE_CONFIG)}
    return canonical_json({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": entries})


def read_cache_manifest(data: bytes) -> dict[str, Layer]:
    """The layers by key; what is damaged, or no cache manifest at all, tells nothing."""
    try:
        document = json_object(data, "cache manifest")
        if document["config"]["mediaType"] != CACHE_TYPE:
            return {}
        found = [_layer(entry) for entry in document["layers"]]
    except (BaseImageError, KeyError, TypeError, ValueError, AttributeError, AssertionError):
        return {}
    return {layer.key: layer for layer in found if layer is not None}


def _layer(entry: dict[str, object]) -> Layer | None:
    annotations = entry["annotations"]
    assert isinstance(annotations, dict)
    diff_id = str(annotations[DIFF_ID_ANNOTATION])
    layer = layer_from_descriptor(entry, diff_id)
    sound = (
        is_digest(layer.digest)
        and is_digest(diff_id)
        and layer.size > 0
        and layer.media_type.startswith(_LAYER_TYPE)
        and bool(annotations.get(KEY_ANNOTATION))
        and bool(layer.kind)
    )
    return layer if sound else None
