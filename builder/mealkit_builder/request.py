"""The build request: what to build, and where to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mealkit._value import dataclass, field
from mealkit.project import Project

from .reference import LayoutLocation, Reference

if TYPE_CHECKING:
    from .compression import Compression
    from .key import PrivateKey


@dataclass(frozen=True)
class BuildRequest:
    """What to build and where to.

    Attributes:
        project: The recipe's folder.
        to: ``host/repo[:tag]`` or ``oci:DIR[:tag]``; None: a layout folder in the project's ``.mealkit``.
        tags: Names that the image gets; none: the recipe's version, and ``latest``.
        base: Another base than the project's.
        base_pin: Where the base really is, by digest; the image is still told to be made on ``base``.
        platforms: Other platforms than the project's.
        secrets: For the engine ``docker``: what steps of the Dockerfile may mount, content by ID.
        bytecode: Whether to put the packages' bytecode into the image.
        engine: ``oci``, or ``docker`` for a Dockerfile.
        use_cache: Whether layers of the last image, of cache tags and of the local index are taken.
        compression: ``splice``; or ``gzip`` or ``zstd``, for consumers that cannot read a gzip file of many members.
        verify_cache: Whether layers that are known are made anew, and compared, before they are used.
        keep_record: Whether the record is kept in ``.mealkit``.
        locked: Refuse to build when the lock is missing or out of date, instead of making it.
        attest: Attach an SBOM for each platform, and provenance; as ``[tool.mealkit.image] attest`` says too.
        sign_key: Signs the image, and what is attached to it.
        environment: The process' environment.
    """

    project: Path
    to: str | None = None
    tags: tuple[str, ...] = ()
    base: str | None = None
    base_pin: str | None = None
    platforms: tuple[str, ...] = ()
    engine: Literal["oci", "docker"] = "oci"
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    bytecode: bool = True
    use_cache: bool = True
    compression: Compression = "splice"
    verify_cache: bool = False
    keep_record: bool = True
    locked: bool = False
    attest: bool = False
    sign_key: PrivateKey | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def tags_of(request: BuildRequest, project: Project, location: Reference | LayoutLocation) -> tuple[str, ...]:
    """Named tags; else the location's; else the version and ``latest``."""
    if request.tags:
        return tuple(dict.fromkeys(request.tags))
    if location.tag:
        return (location.tag,)
    return (re.sub(r"[^A-Za-z0-9_.-]", "_", project.version), "latest")
