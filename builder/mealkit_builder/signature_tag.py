"""The tag form of signatures: an image manifest under a tag of its own, whose layers are the signed payloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .digest import digest_bytes, is_digest
from .image import CONFIG, MANIFEST, canonical_json
from .referrer import Place, put_small_blob, update_tag
from .target import MissingBlobError

SUFFIXES = (".sig", ".att")
"""What follows ``sha256-HEX`` in the tags of signatures and of attestations."""


def add_layers(place: Place, tag: str, layers: Sequence[Mapping[str, Any]]) -> None:
    """Add layers, whose blobs are there, to the manifest of a tag, unless it has them."""
    try:
        update_tag(place, tag, MANIFEST, partial(_with_layers, place, layers, lambda digest: True))
    except MissingBlobError:
        # It names payloads that somebody removed: no registry takes it again like that.
        update_tag(place, tag, MANIFEST, partial(_with_layers, place, layers, place.has_blob))


def _with_layers(
    place: Place, wanted: Sequence[Mapping[str, Any]], keep: Callable[[str], bool], old: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    listed = old.get("layers") if old else None
    known = [
        one
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and is_digest(str(one.get("digest"))) and keep(str(one["digest"]))
    ]
    names = {_name(one) for one in known}
    new = [dict(one) for one in wanted if _name(one) not in names]
    if not new:
        return None
    layers = [*known, *new]
    # An image config, as cosign writes it: some registries take no other with image layers.
    config = canonical_json(
        {
            "architecture": "",
            "config": {},
            "created": "0001-01-01T00:00:00Z",
            "history": [{"created": "0001-01-01T00:00:00Z"} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
    )
    put_small_blob(place, config)
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_bytes(config), "size": len(config)},
        "layers": layers,
    }


def _name(layer: Mapping[str, Any]) -> tuple[str, str]:
    """One payload may be signed by several keys: the signature is in the annotations."""
    return str(layer.get("digest")), str(layer.get("annotations"))
