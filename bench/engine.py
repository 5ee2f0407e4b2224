"""The Docker engine as a benchmark uses it: through the docker program, with names that are easy to clean up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from .timing import Timed, run

_TIMEOUT = 600
_ATTEMPTS = 5
_OURS = ("/bench/", "mealkit-bench/")


@dataclass(frozen=True)
class Engine:
    """A docker program and the environment that it runs in.

    Attributes:
        program: Its path.
        environment: Without the user's own configuration.
    """

    program: str
    environment: Mapping[str, str]

    def docker(self, *arguments: str) -> str:
        """Run docker, untimed; returns what it printed."""
        return run([self.program, *arguments], self.environment, Path("/")).output.strip()

    def timed(self, folder: Path, buildkit: bool, *arguments: str) -> Timed:
        """Run docker and time it."""
        environment = {**self.environment, "DOCKER_BUILDKIT": "1" if buildkit else "0"}
        return run([self.program, *arguments], environment, folder)

    def forget_images(self) -> None:
        """Remove all images of benchmarks."""
        for attempt in range(_ATTEMPTS):
            listed = self.docker("images", "--format", "{{.Repository}}:{{.Tag}}@{{.ID}}").splitlines()
            ours = {line.rpartition("@")[2] for line in listed if any(part in line for part in _OURS)}
            try:
                if ours:
                    self.docker("rmi", "-f", *sorted(ours))
                return
            except click.ClickException:
                # The base cannot go before what was built on it, and docker's list tells no order.
                if attempt == _ATTEMPTS - 1:
                    raise

    def forget_all_but_mounts(self) -> None:
        """As on a machine that has built nothing; BuildKit's cache mounts (pip's downloads) stay."""
        self.forget_images()
        for kind in ("regular", "source.local", "internal", "frontend"):
            self.docker("builder", "prune", "-af", "--filter", f"type={kind}")

    def holders(self, diff_id: str) -> tuple[str, ...]:
        """The images that have a layer: while there is one, the layer is not pulled."""
        images = sorted(set(self.docker("images", "-aq", "--no-trunc").split()))
        if not images:
            return ()
        lines = self.docker("image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}", *images).splitlines()
        return tuple(line.split(" ")[0] for line in lines if diff_id in line)

    def forget_all(self) -> None:
        """As on a machine that has built nothing."""
        self.forget_images()
        self.docker("builder", "prune", "-af")


def find_engine(configuration: Path) -> Engine:
    """The first docker program on the PATH whose client has BuildKit, or else the first.

    Raises:
        ClickException: there is no docker, or no engine answers.
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
    environment |= {"DOCKER_CONFIG": str(configuration), "DOCKER_BUILDKIT": "1"}
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    programs = list(dict.fromkeys(found for folder in folders if (found := shutil.which("docker", path=folder))))
    context = configuration / "probe"
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    for program in programs:
        command = [program, "build", "-q", "-t", "mealkit-bench/probe", str(context)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_TIMEOUT, check=False)
        if done.returncode == 0:
            engine = Engine(program, environment)
            engine.docker("rmi", "-f", "mealkit-bench/probe")
            return engine
    raise click.ClickException("no docker program with BuildKit and a running engine; the benchmark needs one")
