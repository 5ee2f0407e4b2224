"""The order: a request with all that it names opened, before anything is built."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mealkit._value import dataclass
from mealkit.errors import UsageError
from mealkit.project import Project, read_project

from .layout import Layout
from .location import open_cache, open_location
from .platform import Platform, host_platform, parse_platform
from .progress import Reporter
from .reference import LayoutLocation, Reference
from .registry import Repository
from .request import BuildRequest, tags_of
from .store import Store, default_store_root
from .tier import Tiers


@dataclass(frozen=True)
class Order:
    """One build's request, and what it is done with.

    Attributes:
        request: What to build.
        project: The recipe.
        platforms: What images are for, in their order.
        base_name: The base as the user named it.
        target: Where images go.
        location: The target's name.
        tags: What the image is to be called there.
        identity: The repository that signatures are for; empty where nothing is signed.
        store: What is kept on this machine.
        tiers: Who knows layers beyond the last image.
        reporter: Told how far the build is.
        started: When the request came, by ``time.perf_counter()``.
    """

    request: BuildRequest
    project: Project
    platforms: tuple[Platform, ...]
    base_name: str
    target: Repository | Layout
    location: Reference | LayoutLocation
    tags: tuple[str, ...]
    identity: str
    store: Store
    tiers: Tiers
    reporter: Reporter
    started: float

    @property
    def environment(self) -> Mapping[str, str]:
        """The process' environment."""
        return self.request.environment

    @property
    def attests(self) -> bool:
        """Whether an SBOM and provenance are attached to the image."""
        return self.request.attest or self.project.image.attest

    def close(self) -> None:
        """Give the connections back."""
        self.tiers.close()
        self.target.close()


def open_order(request: BuildRequest, reporter: Reporter) -> Order:
    """The order of a request; asks nobody yet.

    Raises:
        ProjectError: there is no project, or its settings are wrong.
        UsageError: a name is none, or the engine cannot do what is asked.
    """
    started = time.perf_counter()
    project = read_project(request.project)
    to = request.to or f"oci:{project.root / '.mealkit' / 'images'}"
    target, location = open_location(to, request.environment, push=True)
    if location.digest:
        raise UsageError(f"cannot push to a digest: {to}", where=to, hint="name a repository, with a tag or without")
    tags = tags_of(request, project, location)
    store = Store(default_store_root(dict(request.environment)))
    identity = ""
    if request.sign_key is not None:
        from .attestation import signing_identity

        identity = signing_identity(location, project)  # before anything is built, for it may be refused
    shared, has_tags = open_cache(project.image.cache, location, request.environment, reporter)
    tiers = Tiers(target, store, shared=shared, tags=has_tags)
    named = request.platforms or project.image.platforms
    platforms = tuple(dict.fromkeys(parse_platform(text) for text in named)) or (host_platform(),)
    base_name = request.base or project.image.base
    _check_engine(request, project, len(platforms), base_name)
    return Order(
        request, project, platforms, base_name, target, location, tags, identity, store, tiers, reporter, started
    )


def _check_engine(request: BuildRequest, project: Project, platforms: int, base_name: str) -> None:
    if request.engine == "docker" or project.image.apt or project.image.dockerfile:
        from .engine_build import check_engine_settings

        check_engine_settings(project, request.engine, platforms, base_name)
    if request.engine == "docker" and request.compression != "splice":
        raise UsageError("the Docker engine compresses layers itself", where="--compression", hint="leave it out")
