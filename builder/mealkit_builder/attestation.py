"""Attestation: what a build attaches to its image when asked to – an SBOM for each platform, provenance, signatures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile, ZipFile

import mealkit
from mealkit.errors import UsageError
from mealkit.project import Project

from .base import Base
from .bill import Bill, Debian, Known, make_bill, wheel_purl
from .cyclonedx import to_cyclonedx
from .dpkg import base_packages
from .dsse import Statement, statement_bytes
from .evidence import CYCLONEDX, IN_TOTO, PREDICATES
from .image import Image
from .key import PrivateKey
from .licence import licence_of
from .platform import Platform
from .provenance import BUILDER, BUILDER_VARIABLE, make_provenance, source_descriptor
from .pull import pull_image
from .push import PushReport
from .reference import LayoutLocation, Reference, parse_location
from .referrer import Artifact, Place, Subject, attach, find_subject
from .revision import Revision, read_remote
from .signature import sign_image, signed_statement
from .store import Store
from .wheel import WheelFile

_FACTS = 1  # the version of what is remembered of wheels


@dataclass(frozen=True)
class Made:
    """What a build made, and from what.

    Attributes:
        project: The recipe.
        report: Of the push: digests.
        images: One a platform, in the order of ``report.platforms``.
        bases: What they stand on.
        wheels: What they have installed.
        base_name: The base as the user named it.
        engine: ``oci`` or ``docker``.
        lock_digest: sha256 of the lock file.
        spec_digest: Of the recipe's specification.
        revision: The source's commit, and the image's time.
    """

    project: Project
    report: PushReport
    images: tuple[Image, ...]
    bases: Mapping[Platform, Base]
    wheels: Mapping[Platform, tuple[WheelFile, ...]]
    base_name: str
    engine: str
    lock_digest: str
    spec_digest: str
    revision: Revision


def signing_identity(location: Reference | LayoutLocation, project: Project) -> str:
    """The repository that a build's signatures are for: the target's; for a layout folder, the project's.

    Raises:
        UsageError: it is a layout folder, and the project names no repository of a registry.
    """
    if isinstance(location, Reference):
        return location.name
    named = parse_location(project.image.repository) if project.image.repository else None
    if isinstance(named, Reference):
        return named.name
    raise UsageError(
        "a layout folder has no name that a signature could be for",
        where=f"{project.file}: tool.mealkit.image.repository",
        hint='set repository = "host/repo" there, or sign later: mealkit sign URL --key FILE --identity host/repo',
    )


def attest_build(
    made: Made,
    place: Place,
    store: Store,
    environment: Mapping[str, str],
    *,
    attest: bool,
    key: PrivateKey | None = None,
    identity: str = "",
) -> None:
    """Attach what was asked for to an image that was just pushed; a second time changes nothing.

    Args:
        made: The build.
        place: Where the image is.
        store: Where wheels and facts are.
        environment: May name the builder.
        attest: Attach an SBOM to each platform's image, and provenance to what the tags name.
        key: Signs the image, and what is attached; None: nothing is signed.
        identity: The repository that signatures are for.
    """
    subject = find_subject(place, made.report.digest)
    if attest:
        for (platform, digest), image in zip(made.report.platforms, made.images, strict=True):
            found = image if made.engine == "oci" else _pulled(place, digest, image)
            bill = _bill(found, digest, made.bases[platform], made.wheels[platform], store)
            inner = find_subject(place, digest)
            attach(place, inner, _sbom(to_cyclonedx(bill), inner, key, identity))
        provenance = build_provenance(made, environment, identity)
        plain = Artifact(IN_TOTO, statement_bytes(provenance), {"in-toto.io/predicate-type": provenance.predicate_type})
        attach(place, subject, [plain if key is None else signed_statement(provenance, key)])
    if key is not None:
        sign_image(place, subject, identity, key)


def build_provenance(made: Made, environment: Mapping[str, str], identity: str) -> Statement:
    """The provenance of a build."""
    image, revision = made.project.image, made.revision
    digests = (made.report.digest, *(digest for _, digest in made.report.platforms))
    parameters: dict[str, Any] = {
        "base": made.base_name,
        "platforms": [str(platform) for platform, _ in made.report.platforms],
        "engine": made.engine,
        "bytecode": all(one.config.label_map.get("io.mealkit.bytecode") == "true" for one in made.images),
    }
    parameters |= {"python": image.python} if image.python else {}
    internal = {
        "mealkit": mealkit.__version__,
        "specification": made.spec_digest,
        "sourceDateEpoch": revision.time,
        "python": {str(platform): base.python.version or base.python.minor for platform, base in made.bases.items()},
    }
    source = None
    if revision.commit is not None:
        source = source_descriptor(revision.commit, revision.dirty, read_remote(made.project.root))
    return make_provenance(
        dict.fromkeys(digests, identity),
        project={"name": made.project.name, "version": made.project.version},
        parameters=parameters,
        internal=internal,
        source=source,
        lock_digest=made.lock_digest,
        bases={str(platform): (made.base_name, base.digest) for platform, base in made.bases.items()},
        wheels=[wheel for wheels in made.wheels.values() for wheel in wheels],
        debian=[package for base in made.bases.values() for package in _pinned(base)],
        builder=environment.get(BUILDER_VARIABLE) or BUILDER,
    )


def _pulled(place: Place, digest: str, image: Image) -> Image:
    """What an engine made; its layers are its own."""
    pulled = pull_image(place, digest, image.platform)
    return pulled.image if pulled is not None else image


def _bill(image: Image, digest: str, base: Base, wheels: Sequence[WheelFile], store: Store) -> Bill:
    """The bill of an image that was built here: with the sha256 of each wheel, and what the wheels' metadata tell."""
    return make_bill(
        image,
        digest,
        wheels={
            (wheel.name, wheel.version): Known(wheel.sha256, _licence(wheel, store), wheel_purl(wheel))
            for wheel in wheels
        },
        debian=_pinned(base) or base_packages(base.image, base.image.digest, base.open_layer, store),
        python=base.python.version or base.python.minor,
    )


def _sbom(data: bytes, subject: Subject, key: PrivateKey | None, identity: str) -> list[Artifact]:
    """The plain document, which scanners look for, and where there is a key also what it signed."""
    documents = [Artifact(CYCLONEDX, data)]
    if key is not None:
        statement = Statement({subject.digest: identity}, PREDICATES["sbom"][0], json.loads(data))
        documents.append(signed_statement(statement, key))
    return documents


def _pinned(base: Base) -> tuple[Debian, ...]:
    """The packages of a base ``deb:``, which its pins tell; none of any other."""
    if base.debian is None:
        return ()
    suite = base.name.removeprefix("deb:")
    return tuple(
        Debian(pin.name, pin.version, pin.built_for, release=suite, sha256=pin.sha256) for pin in base.debian.pins
    )


def _licence(wheel: WheelFile, store: Store) -> str:
    """The licence of a wheel whose file is, or was, on this machine; else nothing."""
    known = store.read_fact("licences", f"{_FACTS}-{wheel.sha256}")
    if not isinstance(known, str):
        metadata = _metadata(wheel, store)
        if metadata is None:
            return ""
        known = licence_of(metadata)
        store.write_fact("licences", f"{_FACTS}-{wheel.sha256}", known)
    return known


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
