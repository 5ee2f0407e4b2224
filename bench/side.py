"""The two sides of a benchmark: what each does to bring the recipe into a registry, and what it can forget."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import click

from .engine import Engine
from .registry import Place
from .source import Source
from .timing import Timed, run


@dataclass(frozen=True)
class Built:
    """An image in the registry.

    Attributes:
        timed: From the first process' start to the recorded URL.
        url: The image by digest.
        facts: What the side itself tells, such as mealkit's record.
    """

    timed: Timed
    url: str
    facts: Mapping[str, object] = field(default_factory=dict)


class Side(Protocol):
    """One way to build.

    Attributes:
        name: What the report calls it.
        keeps: Whether a build leaves anything that makes the next one quicker.
    """

    name: str
    keeps: bool

    def forget(self, *, keep_wheels: bool = False) -> None:
        """As on a fresh machine; but wheels may be on its disk."""

    def build(self, place: Place, *, fresh: bool = False) -> Built:
        """Bring the sources as they are into the registry; ``fresh``: on a machine that knows nothing."""

    def first_is_there(self, place: Place) -> None:
        """Told when the registry has this side's first image."""


class Mealkit:
    """``mealkit build --to``, as installed: with bytecode of its own modules."""

    name = "mealkit"
    keeps = True

    def __init__(self, source: Source, cache: Path, wheels: Path) -> None:
        self.source = source
        self.cache = cache
        self.wheels = wheels
        self.program = str(Path(sys.executable).with_name("mealkit"))

    @property
    def environment(self) -> dict[str, str]:
        """This process', without what would slow Python down or change the build."""
        taken = ("PYTHON", "MEALKIT_", "SOURCE_DATE_EPOCH", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(taken)}
        return {**kept, "MEALKIT_CACHE": str(self.cache), "DOCKER_CONFIG": str(self.cache / "none")}

    def forget(self, *, keep_wheels: bool = False) -> None:
        """Empty the cache, or leave nothing but wheels in it."""
        shutil.rmtree(self.source.project / ".mealkit", ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)
        if keep_wheels:
            shutil.copytree(self.wheels, self.cache, copy_function=os.link)

    def build(self, place: Place, *, fresh: bool = False, repository: str = "bench/mealkit") -> Built:
        """Its own record tells the URL."""
        command = [self.program, "build", "--json", "--to", f"{place.host}/{repository}", "--base", place.base]
        timed = run(command, self.environment, self.source.project)
        record = json.loads(timed.output)
        return Built(timed, record["url"], record)

    def first_is_there(self, place: Place) -> None:
        """Nothing is to be done: any image of the repository tells which layers there are."""


class Docker:
    """``docker build`` and ``docker push``, with the classic builder or with BuildKit.

    BuildKit keeps pip's downloads in a cache mount, and writes its inline cache, from which a fresh machine builds.
    """

    keeps = True

    def __init__(self, source: Source, engine: Engine, *, buildkit: bool) -> None:
        self.name = "docker buildkit" if buildkit else "docker classic"
        self.repository = f"bench/{self.name.replace(' ', '-')}"
        self.source = source
        self.engine = engine
        self.buildkit = buildkit

    def forget(self, *, keep_wheels: bool = False) -> None:
        """Remove images, the base too, and the build cache.

        BuildKit's cache mount stays: it holds pip's downloads, and the only build that runs pip with it is "w".
        """
        self.engine.forget_all_but_mounts()

    def build(self, place: Place, *, fresh: bool = False) -> Built:
        """Build, push, and read the digest that the push prints."""
        name = f"{place.host}/{self.repository}:latest"
        # pip reaches the index through the host's network: a bridge would only cost.
        build = ["build", "-q", "--network", "host", "--build-arg", f"BASE={place.base}", "-t", name]
        if self.buildkit:
            build += ["-f", "Dockerfile.buildkit", "--build-arg", "BUILDKIT_INLINE_CACHE=1"]
        if fresh:
            build += ["--cache-from", f"{place.host}/{self.repository}:cache"]
        timed = self.engine.timed(self.source.context, self.buildkit, *build, ".")
        timed += self.engine.timed(self.source.context, self.buildkit, "push", name)
        found = re.findall(r"digest: (sha256:[0-9a-f]{64}) ", timed.output)
        if not found:
            raise click.ClickException(f"docker push told no digest:\n{timed.output}")
        return Built(timed, f"{name.removesuffix(':latest')}@{found[-1]}")

    def first_is_there(self, place: Place) -> None:
        """Keep the image's inline cache under a tag of its own.

        Seen with BuildKit of 20.10: an image that was built from an inline cache is none for the next fresh machine,
        which then runs pip again. A user who knows that keeps a tag for the cache.
        """
        if self.buildkit:
            place.copy_tag(self.repository, "latest", "cache")
