"""Provenance: how an image was made and from what, as a SLSA v1 statement; nothing in it depends on when or where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mealkit

from .bill import Debian, debian_purl, oci_purl, plain_remote, wheel_purl
from .dsse import Statement
from .evidence import PROVENANCE
from .wheel import WheelFile

BUILD_TYPE = "urn:mealkit:build:recipe:v1"
"""What a build of this type takes and does is described in docs/reference/supply-chain.md."""

BUILDER = "urn:mealkit:builder"
BUILDER_VARIABLE = "MEALKIT_BUILDER_ID"


def make_provenance(
    subjects: Mapping[str, str],
    *,
    project: Mapping[str, Any],
    parameters: Mapping[str, Any],
    internal: Mapping[str, Any],
    source: Mapping[str, Any] | None,
    lock_digest: str,
    bases: Mapping[str, tuple[str, str]],
    wheels: Sequence[WheelFile],
    debian: Sequence[Debian] = (),
    builder: str,
) -> Statement:
    """The statement of one build.

    Args:
        subjects: Digests of the index and of each image, to the repository that they were made for.
        project: The recipe's name and version.
        parameters: What the user asked for: the base, platforms, engine, bytecode.
        internal: What followed from that and from the machine.
        source: The commit as a resource descriptor; None outside git.
        lock_digest: Of ``pylock.toml``.
        bases: Platform to the base's name and digest.
        wheels: All wheels of all platforms.
        debian: The pinned packages of a base ``deb:``, with their sha256.
        builder: Who builds: a URI that stands for a service, or :data:`BUILDER`.
    """
    dependencies: list[dict[str, Any]] = [dict(source)] if source else []
    dependencies.append({"name": "pylock.toml", "digest": {"sha256": lock_digest.removeprefix("sha256:")}})
    for platform, (name, digest) in sorted(bases.items()):
        dependencies.append(
            {
                "name": f"base {platform}",
                "uri": oci_purl(name, digest),
                "digest": {"sha256": digest.removeprefix("sha256:")},
            }
        )
    unique = {wheel.sha256: wheel for wheel in wheels}
    for wheel in sorted(unique.values(), key=lambda one: (one.name, one.filename, one.sha256)):
        dependencies.append(
            {"name": wheel.filename, "uri": wheel_purl(wheel), "digest": {"sha256": wheel.sha256}}
            | ({"annotations": {"builtFrom": wheel.origin.name}} if wheel.origin is not None else {})
        )
    for package in sorted(debian, key=lambda one: (one.name, one.architecture)):
        dependencies.append({"name": package.name, "uri": debian_purl(package), "digest": {"sha256": package.sha256}})
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"project": dict(project), **parameters},
            "internalParameters": dict(internal),
            "resolvedDependencies": dependencies,
        },
        "runDetails": {"builder": {"id": builder, "version": {"mealkit": mealkit.__version__}}},
    }
    return Statement(dict(subjects), PROVENANCE, predicate)


def source_descriptor(commit: str, dirty: bool, remote: str) -> dict[str, Any]:
    """The commit as SLSA's resource descriptor; ``remote`` is git's name of it, and loses all that could let one in."""
    value: dict[str, Any] = {"name": "source", "digest": {"gitCommit": commit}}
    address = plain_remote(remote)
    if address:
        value["uri"] = f"git+{address}@{commit}"
    return value | ({"annotations": {"dirty": True}} if dirty else {})
