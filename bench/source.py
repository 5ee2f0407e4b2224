"""The same recipe twice: as a project for mealkit, and as a build context for docker."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mealkit.project import Project, read_project
from mealkit_builder.lock import make_lock, read_lock
from mealkit_builder.platform import host_platform
from mealkit_builder.selection import select_wheels
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

ROOT = Path(__file__).parents[1]
NEW_DEPENDENCY = "tabulate"
"""What scenario (d) adds: one small wheel without requirements of its own."""

_LIBC = ("glibc", (2, 36))  # of Debian bookworm, the base
_IGNORED = shutil.ignore_patterns("__pycache__", ".mealkit", "*.egg-info")

_DOCKERFILE = """\
ARG BASE
FROM ${{BASE}}
COPY requirements.txt /tmp/requirements.txt
RUN {mount}{install} -r /tmp/requirements.txt
COPY mealkit/ {site}/
COPY recipe/ {site}/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/python3", "-m", "mealkit_runtime"]
"""
_PIP = "pip install --quiet --disable-pip-version-check --break-system-packages --no-deps"
_UV = (
    "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "
    "/uv pip install --quiet --no-cache --system --break-system-packages --compile-bytecode --no-deps"
)


@dataclass
class Source:
    """A recipe's sources, which scenarios edit; both sides always hold the same.

    Attributes:
        project: The folder that mealkit builds: a git repository, with a lock.
        context: The folder that docker builds.
        minor: The Python of the base.
        environment: For the resolver.
    """

    project: Path
    context: Path
    minor: str
    environment: Mapping[str, str]
    _edits: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def prepare(self, recipe: Path) -> None:
        """Copy the recipe, lock it, and write docker's files with the pins of the lock."""
        shutil.copytree(recipe, self.project, ignore=_IGNORED)
        for path in self.project.rglob("*"):
            path.touch()
        read_lock(self._project()) or make_lock(self._project(), self.environment)
        for command in (
            ("init", "-q"),
            ("add", "."),
            ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "the recipe"),
        ):
            subprocess.run(["git", *command], cwd=self.project, check=True)
        self.original = (self.project / "pyproject.toml").read_text(), (self.project / "pylock.toml").read_text()
        self._write_context()

    def wheels(self) -> tuple[WheelFile, ...]:
        """What the lock selects for the base."""
        project = self._project()
        lock = read_lock(project) or make_lock(project, self.environment)
        with tempfile.TemporaryDirectory(prefix="mealkit-bench-") as folder:
            return select_wheels(lock, self.minor, host_platform(), *_LIBC, Store(Path(folder)))

    def edit(self) -> None:
        """Change one source file, in another way each time."""
        number = next(self._edits)
        for root in (self.project, self.context / "recipe"):
            file = min(root.glob("*/model.py"), default=None) or min(root.glob("*/__init__.py"))
            text = re.sub(r"\n# edit \d+\n\Z", "\n", file.read_text(encoding="utf-8"))
            file.write_text(f"{text.rstrip()}\n# edit {number}\n", encoding="utf-8")

    def require(self, pin: str | None) -> None:
        """Add a dependency (mealkit's lock is then out of date, and its build makes it anew); None: take it away."""
        manifest, lock = self.original
        (self.project / "pylock.toml").write_text(lock, encoding="utf-8")
        pins = "".join(f"{wheel.name}=={wheel.version}\n" for wheel in self._pinned)
        if pin is not None:
            manifest = manifest.replace("dependencies = [", f'dependencies = ["{pin}", ', 1)
            pins += f"{pin}\n"
        (self.project / "pyproject.toml").write_text(manifest, encoding="utf-8")
        (self.context / "requirements.txt").write_text(pins, encoding="utf-8")

    def new_pin(self) -> str:
        """The dependency that scenario (d) adds, at the version that the resolver takes."""
        self.require(NEW_DEPENDENCY)
        make_lock(self._project(), self.environment)
        found = next(wheel for wheel in self.wheels() if wheel.name == NEW_DEPENDENCY)
        self.require(None)
        return f"{found.name}=={found.version}"

    def _project(self) -> Project:
        return read_project(self.project)

    def _write_context(self) -> None:
        self._pinned = self.wheels()
        project = self._project()
        for package in project.packages:
            shutil.copytree(project.source / package, self.context / "recipe" / package, ignore=_IGNORED)
        for folder, package in (("sdk", "mealkit"), ("runtime", "mealkit_runtime")):
            shutil.copytree(ROOT / folder / package, self.context / "mealkit" / package, ignore=_IGNORED)
        site = f"/usr/local/lib/python{self.minor}/dist-packages"
        cached = "--mount=type=cache,target=/root/.cache/pip "
        with_uv = "--mount=from=tool,target=/uv,source=/uv "
        files = {
            "Dockerfile": _DOCKERFILE.format(mount="", install=_PIP + " --no-cache-dir", site=site),
            "Dockerfile.buildkit": _DOCKERFILE.format(mount=cached, install=_PIP, site=site),
            "Dockerfile.uv": _DOCKERFILE.format(mount=with_uv, install=_UV, site=site).replace(
                "FROM ${BASE}", "FROM mealkit-bench/uv AS tool\nFROM ${BASE}"
            ),
            ".dockerignore": "**/__pycache__\n",
        }
        for name, text in files.items():
            (self.context / name).write_text(text, encoding="utf-8")
        self.require(None)
