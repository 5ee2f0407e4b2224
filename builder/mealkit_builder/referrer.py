"""Referrers: documents attached to an image, listed by the registry or, where it cannot, under a tag."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mealkit.errors import MealkitError, NotFoundError, RegistryError, RetryableError

from .digest import digest_bytes, is_digest
from .image import INDEX, MANIFEST, canonical_json
from .layout import Layout
from .registry import Repository
from .target import MissingBlobError

EMPTY = "application/vnd.oci.empty.v1+json"
_EMPTY_BLOB = b"{}"
_TRIES = 6
_SETTLE = 0.1  # seconds; longer than most registries take between a read and a write of somebody else
_LIMIT = 200  # documents of one image; a longer list is somebody's mischief

Place = Repository | Layout
Change = Callable[[dict[str, Any] | None], dict[str, Any] | None]


@dataclass(frozen=True)
class Subject:
    """The manifest or index that documents are attached to."""

    digest: str
    media_type: str
    size: int

    def descriptor(self) -> dict[str, object]:
        """As a manifest's ``subject``."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Artifact:
    """A document to attach.

    Attributes:
        artifact_type: What clients look for.
        data: The document.
        annotations: For the list of referrers.
        media_type: Of ``data``; the artifact's type where it is empty.
    """

    artifact_type: str
    data: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)
    media_type: str = ""

    def manifest(self, subject: Subject) -> bytes:
        """The artifact's manifest (OCI image specification, "Guidelines for Artifact Usage")."""
        layer = {
            "mediaType": self.media_type or self.artifact_type,
            "digest": digest_bytes(self.data),
            "size": len(self.data),
        }
        config = {"mediaType": EMPTY, "digest": digest_bytes(_EMPTY_BLOB), "size": len(_EMPTY_BLOB)}
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": self.artifact_type,
            "config": config,
            "layers": [layer],
            "subject": subject.descriptor(),
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return canonical_json(document)


@dataclass(frozen=True)
class Referrer:
    """An attached document as a list names it; nothing in it is checked until :func:`read_artifact`."""

    digest: str
    artifact_type: str
    annotations: Mapping[str, str] = field(default_factory=dict)


def find_subject(place: Place, reference: str) -> Subject:
    """The manifest or index of a tag or digest.

    Raises:
        NotFoundError: there is none.
    """
    found = place.get_manifest(reference)
    if found is None:
        raise NotFoundError(
            f"there is no image {reference!r}", where=place.name, hint="check the tag or digest; was it pushed?"
        )
    return Subject(found[2], found[1], len(found[0]))


def referrers_tag(digest: str) -> str:
    """The tag of the list where the registry keeps none: ``sha256-HEX`` (OCI distribution specification)."""
    return digest.replace(":", "-")


def attach(place: Place, subject: Subject, artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    """Attach documents to an image; returns their manifests' digests. What is attached already stays as it is."""
    put_small_blob(place, _EMPTY_BLOB)
    manifests = []
    for artifact in artifacts:
        put_small_blob(place, artifact.data)
        manifests.append(artifact.manifest(subject))
    return attach_manifests(place, subject.digest, manifests)


def attach_manifests(place: Place, subject: str, manifests: Sequence[bytes]) -> tuple[str, ...]:
    """Attach documents whose blobs are there, and keep the list under the tag where the registry does not."""
    unlisted = [data for data in manifests if not place.put_referrer(data, MANIFEST, subject)]
    if unlisted:
        entries = [_entry(data) for data in unlisted]
        tag = referrers_tag(subject)
        try:
            update_tag(place, tag, INDEX, partial(_with_entries, entries=entries, keep=lambda digest: True))
        except MissingBlobError:
            # The list names documents that somebody removed: no registry takes it again like that.
            there = partial(_with_entries, entries=entries, keep=lambda digest: place.get_manifest(digest) is not None)
            update_tag(place, tag, INDEX, there)
    return tuple(digest_bytes(data) for data in manifests)


def list_referrers(place: Place, digest: str) -> tuple[Referrer, ...]:
    """All that is attached to a manifest; a list that is damaged is an empty one."""
    entries = place.get_referrers(digest)
    if entries is None:
        entries = (read_document(place, referrers_tag(digest)) or {}).get("manifests")
    found: dict[str, Referrer] = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and is_digest(str(entry.get("digest"))):
            told = entry.get("annotations")
            annotations = {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}
            one = Referrer(str(entry["digest"]), str(entry.get("artifactType") or ""), annotations)
            found.setdefault(one.digest, one)
    return tuple(sorted(found.values(), key=lambda one: one.digest))[:_LIMIT]


def read_artifact(place: Place, referrer: Referrer, subject: str) -> bytes | None:
    """The document of a referrer, checked to be of this subject; None where it is missing, or another's."""
    manifest = read_document(place, referrer.digest)
    if (
        manifest is None
        or not isinstance(manifest.get("subject"), dict)
        or manifest["subject"].get("digest") != subject
    ):
        return None
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
        return None
    return read_blob(place, str(layers[0].get("digest")))


def read_blob(place: Place, digest: str) -> bytes | None:
    """A small blob of an attached document; None where there is none, or one with other bytes."""
    try:
        return place.get_blob(digest) if is_digest(digest) else None
    except RetryableError:
        raise
    except RegistryError:
        return None


def put_small_blob(place: Place, data: bytes) -> None:
    """Bring a document's bytes to the place."""
    place.put_blob(digest_bytes(data), len(data), partial(io.BytesIO, data))


def update_tag(place: Place, tag: str, media_type: str, change: Change) -> None:
    """Read the document of a tag, change it, write it; and again, until what is there needs no change.

    In a folder that is done under a lock. A registry has no way to write only if nobody else did, so there the document
    is read again a while later: whoever was overwritten in between adds its part once more. Two writers that overwrite
    each other wait for different times.

    Args:
        place: Where.
        tag: Whose document.
        media_type: Of the document.
        change: The new document for the old (or none); None when that is right already.

    Raises:
        RetryableError: others keep overwriting it.
    """
    if isinstance(place, Layout):
        with place.updating():
            changed = change(read_document(place, tag))
            if changed is not None:
                place.put_manifest(canonical_json(changed), media_type, tag)
        return
    for attempt in range(_TRIES):
        changed = change(read_document(place, tag))
        if changed is None:
            return
        place.put_manifest(canonical_json(changed), media_type, tag)
        time.sleep(_SETTLE * (1 + attempt) * (0.5 + random.random()))  # noqa: S311 - not a secret
    if change(read_document(place, tag)) is not None:
        raise RetryableError(
            f"others keep writing the tag {tag} at the same time", where=place.name, hint="run the same command again"
        )


def read_document(place: Place, reference: str) -> dict[str, Any] | None:
    """The JSON object of a tag or digest; None where there is none, or a damaged one."""
    try:
        found = place.get_manifest(reference)
        value = json.loads(found[0]) if found is not None else None
    except RetryableError:
        raise
    except (MealkitError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _entry(manifest: bytes) -> dict[str, Any]:
    document = json.loads(manifest)
    entry = {"mediaType": MANIFEST, "digest": digest_bytes(manifest), "size": len(manifest)}
    for name in ("artifactType", "annotations"):
        if document.get(name):
            entry[name] = document[name]
    return entry


def _with_entries(
    old: dict[str, Any] | None, entries: Sequence[Mapping[str, Any]], keep: Callable[[str], bool]
) -> dict[str, Any] | None:
    listed = old.get("manifests") if old else None
    known = {
        str(entry["digest"]): entry
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and is_digest(str(entry.get("digest"))) and keep(str(entry["digest"]))
    }
    new = [entry for entry in entries if entry["digest"] not in known]
    if not new:
        return None
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*known.values(), *new]}
