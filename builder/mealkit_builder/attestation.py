"""Attestation: what a build attaches to its image when asked to – an SBOM for each platform, provenance, signatures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zipfile import BadZipFile, ZipFile

from .base import Base
from .bill import Bill, make_bill
from .cyclonedx import to_cyclonedx
from .dpkg import base_packages
from .dsse import Statement, statement_bytes
from .evidence import CYCLONEDX, IN_TOTO, PREDICATES
from .image import Image
from .key import PrivateKey
from .licence import licence_of
from .referrer import Artifact, Place, Subject, attach, find_subject
from .signature import sign_image, signed_statement
from .store import Store
from .wheel import WheelFile


@dataclass(frozen=True)
class Part:
    """One platform's image with what it was made from."""

    image: Image
    base: Base
    wheels: tuple[WheelFile, ...]


def attest(
    place: Place,
    digest: str,
    parts: Sequence[Part],
    provenance: Statement | None,
    store: Store,
    *,
    key: PrivateKey | None = None,
    identity: str = "",
) -> None:
    """Attach what was asked for to an image that was just pushed.

    Args:
        place: Where it is.
        digest: Of its manifest, or of the index.
        parts: Its platforms.
        provenance: How it was made; with it each platform's image gets an SBOM too; None: neither.
        store: Where wheels and facts are.
        key: Signs the image, and what is attached; None: nothing is signed.
        identity: The repository that signatures are for.
    """
    subject = find_subject(place, digest)
    if provenance is not None:
        for part in parts:
            bill = bill_of(part, store)
            inner = subject if part.image.digest == digest else find_subject(place, part.image.digest)
            attach(place, inner, _sbom(to_cyclonedx(bill), inner, key, identity))
        plain = Artifact(IN_TOTO, statement_bytes(provenance), {"in-toto.io/predicate-type": provenance.predicate_type})
        attach(place, subject, [plain if key is None else signed_statement(provenance, key)])
    if key is not None:
        sign_image(place, subject, identity, key)


def bill_of(part: Part, store: Store) -> Bill:
    """The bill of an image that was built here: with the sha256 of each wheel, and what the wheels' metadata tell."""
    base = part.base
    return make_bill(
        part.image,
        part.image.digest,
        hashes={(wheel.name, wheel.version): wheel.sha256 for wheel in part.wheels},
        licences=_licences(part.wheels, store),
        debian=base_packages(base.image, base.image.digest, base.open_layer, store),
    )


def _sbom(data: bytes, subject: Subject, key: PrivateKey | None, identity: str) -> list[Artifact]:
    """The plain document, which scanners look for, and where there is a key also what it signed."""
    documents = [Artifact(CYCLONEDX, data)]
    if key is not None:
        statement = Statement({subject.digest: identity}, PREDICATES["sbom"][0], json.loads(data))
        documents.append(signed_statement(statement, key))
    return documents


def _licences(wheels: Sequence[WheelFile], store: Store) -> Mapping[tuple[str, str], str]:
    """Licences of the wheels whose files are, or were, on this machine."""
    found = {}
    for wheel in wheels:
        known = store.read_fact("licences", wheel.sha256)
        if not isinstance(known, str):
            metadata = _metadata(wheel, store)
            if metadata is None:
                continue
            known = licence_of(metadata)
            store.write_fact("licences", wheel.sha256, known)
        found[wheel.name, wheel.version] = known
    return found


def _metadata(wheel: WheelFile, store: Store) -> str | None:
    path = store.blob_path(wheel.sha256)
    try:
        with ZipFile(path) as archive:
            name = next(
                one for one in archive.namelist() if one.endswith(".dist-info/METADATA") and one.count("/") == 1
            )
            return archive.read(name).decode(errors="replace")
    except (OSError, BadZipFile, StopIteration, ValueError):
        return None
