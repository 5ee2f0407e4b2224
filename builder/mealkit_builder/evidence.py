"""Evidence: all that an image tells of itself and that is attached to it, gathered without pulling a layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mealkit.errors import NotFoundError, RegistryError
from mealkit.spec import LABEL

from .dsse import Malformed, Statement, load_object, parse_statement
from .image import MANIFEST
from .key import PublicKey
from .parse import DOCKER_MANIFEST, config_digest, is_index
from .platform import Platform
from .reference import LayoutLocation, Reference
from .referrer import Place, find_subject
from .signature import Attached, find_attached

CYCLONEDX = "application/vnd.cyclonedx+json"
SPDX = "application/spdx+json"
IN_TOTO = "application/vnd.in-toto+json"
PROVENANCE = "https://slsa.dev/provenance/v1"

PREDICATES = {
    "sbom": ("https://cyclonedx.org/bom", "https://spdx.dev/Document"),
    "provenance": (PROVENANCE,),
}
"""What a policy may require, to the predicate types that are it."""

_MOST = 64  # images in an index


@dataclass(frozen=True)
class Seen:
    """One platform's image, read and not pulled."""

    digest: str
    platform: str
    labels: Mapping[str, str] = field(repr=False)

    @property
    def kind(self) -> str | None:
        """The recipe's kind; None for an image that is no recipe's."""
        try:
            return str(json.loads(self.labels[LABEL])["kind"])
        except (KeyError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Evidence:
    """What can be judged of an image.

    Attributes:
        url: The image by digest.
        repository: ``host/repository``; ``oci:DIR`` for a layout folder.
        digest: Of the manifest or index that the user named.
        images: Each platform's image.
        attached: By digest: what is attached to the named one, and to each platform's.
    """

    url: str
    repository: str
    digest: str
    images: tuple[Seen, ...]
    attached: Mapping[str, Attached] = field(repr=False)

    @property
    def own(self) -> Attached:
        """What is attached to the named digest itself."""
        return self.attached[self.digest]

    def statements(self, kind: str, *, signed: bool) -> Iterator[tuple[str, Statement]]:
        """``(digest, statement)`` of each statement of this kind that is about what it is attached to."""
        for digest, attached in self.attached.items():
            for attestation in attached.attestations:
                statement = attestation.statement
                about = statement.predicate_type in PREDICATES[kind] and digest in statement.subjects
                if about and (attestation.key is not None or not signed):
                    yield digest, statement
            for artifact_type, data in () if signed else attached.documents:
                found = _document(kind, artifact_type, data, digest)
                if found is not None:
                    yield digest, found


def gather(
    place: Place, location: Reference | LayoutLocation, keys: Sequence[PublicKey], platform: Platform | None = None
) -> Evidence:
    """Read an image's documents and what is attached to them.

    Args:
        place: Where it is.
        location: Its name there; a tag is resolved once, so what is judged is what the returned URL names.
        keys: Whose signatures count.
        platform: Only this one's image of several; all of them when None.

    Raises:
        NotFoundError: there is no such image, or a part of it is missing.
        RegistryError: what the place raises; a document that belongs to the image is damaged.
    """
    subject = find_subject(place, location.target)
    found = place.get_manifest(subject.digest)
    assert found is not None
    images = tuple(_images(place, found[0], found[1], subject.digest, platform))
    digests = dict.fromkeys((subject.digest, *(image.digest for image in images)))
    attached = {digest: find_attached(place, digest, keys) for digest in digests}
    return Evidence(place.url(subject.digest), place.name, subject.digest, images, attached)


def _images(place: Place, data: bytes, media_type: str, digest: str, platform: Platform | None) -> Iterator[Seen]:
    if not is_index(media_type):
        yield _seen(place, data, digest)
        return
    entries = _object(data, place.url(digest)).get("manifests")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RegistryError("the image's index is damaged", where=place.url(digest), hint="push the image again")
    if len(entries) > _MOST:
        raise RegistryError(
            f"the index has {len(entries)} images, too many to judge",
            where=place.url(digest),
            hint="name one of them by digest",
        )
    for entry in entries:
        offered = entry.get("platform")
        offered = offered if isinstance(offered, dict) else {}
        if offered.get("os") == "unknown":
            continue  # an attestation of Docker's builder
        told = (offered.get("os"), offered.get("architecture"))
        if platform and all(told) and told != (platform.os, platform.architecture):
            continue
        if entry.get("mediaType") not in (MANIFEST, DOCKER_MANIFEST):
            raise RegistryError(
                "the index holds something else than images, which cannot be judged",
                where=f"{place.url(digest)}: {entry.get('mediaType')}",
                hint="name one of its images by digest",
            )
        found = place.get_manifest(str(entry.get("digest")))
        if found is None:
            raise NotFoundError("a part of the image is missing", where=str(entry.get("digest")), hint="push it again")
        yield _seen(place, found[0], found[2])


def _seen(place: Place, manifest: bytes, digest: str) -> Seen:
    config = _object(place.get_blob(config_digest(manifest)), place.url(digest))
    settings = config.get("config")
    labels = settings.get("Labels") if isinstance(settings, dict) else None
    named = "/".join(str(config.get(part)) for part in ("os", "architecture", "variant") if config.get(part))
    return Seen(digest, named, {str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {})


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        return load_object(data, "image's document")
    except Malformed as error:
        raise RegistryError(str(error), where=where, hint="push the image again") from error


def _document(kind: str, artifact_type: str, data: bytes, digest: str) -> Statement | None:
    """An unsigned document as the statement that it stands for."""
    try:
        if kind == "sbom" and artifact_type in (CYCLONEDX, SPDX):
            return Statement({digest: ""}, PREDICATES["sbom"][artifact_type == SPDX], load_object(data, "SBOM"))
        if kind == "provenance" and artifact_type == IN_TOTO:
            statement = parse_statement(data)
            return statement if statement.predicate_type == PROVENANCE and digest in statement.subjects else None
    except Malformed:
        return None
    return None
