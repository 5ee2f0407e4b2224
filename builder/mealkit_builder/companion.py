"""Companions: what is attached to an image – signatures, SBOM, provenance – copied along with it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from .image import MANIFEST
from .parse import linked_digests
from .referrer import Place, attach_manifests, list_referrers, put_small_blob, referrers_tag
from .signature_tag import SUFFIXES, add_layers


def copy_companions(source: Place, target: Place, subjects: Iterable[str]) -> int:
    """Copy what is attached to images from one place to another; returns how many documents that were.

    What the target has attached stays. A document that the source lists and does not have is passed over.
    """
    count = 0
    for digest in subjects:
        manifests = []
        for referrer in list_referrers(source, digest):
            found = source.get_manifest(referrer.digest)
            if found is not None and found[1] == MANIFEST:
                _copy_blobs(found[0], source, target)
                manifests.append(found[0])
        if manifests:
            attach_manifests(target, digest, manifests)
        count += len(manifests)
        for suffix in SUFFIXES:
            tag = referrers_tag(digest) + suffix
            found = source.get_manifest(tag)
            if found is None or found[1] != MANIFEST:
                continue
            count += 1
            _copy_blobs(found[0], source, target)
            if target.get_manifest(tag) is None:
                target.put_manifest(found[0], MANIFEST, tag)
            else:
                add_layers(target, tag, json.loads(found[0]).get("layers") or [])
    return count


def _copy_blobs(manifest: bytes, source: Place, target: Place) -> None:
    for digest in dict.fromkeys(linked_digests(manifest)):
        if not target.has_blob(digest):
            put_small_blob(target, source.get_blob(digest))
