"""Signing: what a URL names now gets a signature, by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mealkit.errors import UsageError

from .key import PrivateKey
from .location import open_location
from .parse import is_index, json_object
from .reference import Reference, parse_reference
from .referrer import Place, find_subject
from .signature import sign_image


@dataclass(frozen=True)
class Signed:
    """What was signed.

    Attributes:
        url: The image by digest.
        identity: The repository that it is signed for.
        key: The key's name, ``sha256:HEX``.
        digests: All manifests that have a signature now.
    """

    url: str
    identity: str
    key: str
    digests: tuple[str, ...]


def sign_url(
    url: str, key: PrivateKey, environment: Mapping[str, str], *, identity: str | None = None, recursive: bool = False
) -> Signed:
    """Sign an image in a registry or layout folder.

    Args:
        url: Its name; a tag is resolved once.
        key: Who signs.
        environment: For credentials.
        identity: The repository that it is for; None: the one that it is in.
        recursive: Sign the images of an index too.

    Raises:
        NotFoundError: there is no such image.
        UsageError: the image is in a layout folder and nobody says which repository it is for.
    """
    place, location = open_location(url, environment, push=True)
    try:
        named = check_identity(place, location if isinstance(location, Reference) else None, identity)
        subject = find_subject(place, location.target)
        digests = [subject.digest]
        if recursive and is_index(subject.media_type):
            found = place.get_manifest(subject.digest)
            assert found is not None
            digests += [str(entry["digest"]) for entry in json_object(found[0], "index").get("manifests", ())]
        for digest in digests:
            sign_image(place, find_subject(place, digest), named, key)
        return Signed(place.url(subject.digest), named, key.public.id, tuple(digests))
    finally:
        place.close()


def check_identity(place: Place, location: Reference | None, identity: str | None) -> str:
    """The repository that a signature is for.

    Raises:
        UsageError: nobody says it, or it is no repository's name.
    """
    if identity is not None:
        return parse_reference(identity).name
    if location is None:
        raise UsageError(
            "a layout folder has no name that a signature could be for",
            where=place.name,
            hint="name the repository that the image will be pushed to: --identity host/repository",
        )
    return location.name
