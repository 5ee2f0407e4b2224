"""Pipelines: files for CI systems and clusters that build a recipe's image with no daemon and no privilege."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mealkit
from mealkit.errors import UsageError
from mealkit.project import Project

from .reference import Reference, parse_location

PLACES = {
    "github": (".github/workflows/mealkit.yml", "github.yml"),
    "gitlab": (".gitlab-ci.yml", "gitlab.yml"),
    "tekton": ("tekton/mealkit-build.yaml", "tekton.yaml"),
    "kubernetes": ("kubernetes/mealkit-build.yaml", "kubernetes.yaml"),
}
"""Where each kind of file usually stands, and its template."""


def render_pipeline(kind: str, project: Project, repository: str | None = None) -> str:
    """A pipeline's file for a recipe.

    Args:
        kind: One of :data:`PLACES`.
        project: The recipe.
        repository: Where images go; else the project's.

    Raises:
        UsageError: no repository is named, or it is none of a registry.
    """
    named = repository or project.image.repository
    if named is None:
        raise UsageError(
            "the project names no repository to push to",
            where=f"{project.file}: tool.mealkit.image.repository",
            hint='set repository = "host/repo" there, or name one with --to',
        )
    location = parse_location(named)
    if not isinstance(location, Reference):
        raise UsageError(f"{named!r} is no repository of a registry", where=named, hint="write host/repository")
    from jinja2 import Environment, StrictUndefined

    from mealkit_templates import files

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    text = dict(files("pipeline"))[f"{PLACES[kind][1]}.jinja"]
    top = _git(project.root, "rev-parse", "--show-toplevel")
    folder = project.root.resolve().relative_to(Path(top).resolve()).as_posix() if top else "."
    return environment.from_string(text).render(
        name=project.name.lower().replace("_", "-").replace(".", "-"),
        folder=folder,
        host=location.host,
        repository=location.name,
        python=_minor(project),
        source=_without_credentials(_git(project.root, "remote", "get-url", "origin"))
        or "https://example.com/team/recipe.git",
        mealkit_version=mealkit.__version__,
    )


def _minor(project: Project) -> str:
    """The Python of the base, where its name tells; else a common one that the project allows."""
    import re

    from packaging.specifiers import SpecifierSet

    named = re.search(r"python:?(3\.[0-9]+)", project.image.base)
    if named:
        return named[1]
    allowed = SpecifierSet(project.requires_python)
    return next((minor for minor in ("3.12", "3.11", "3.13", "3.14") if f"{minor}.9" in allowed), "3.12")


def _without_credentials(address: str) -> str:
    """A git remote's address without a user's name and password; one that is no https address is left out."""
    scheme, separator, rest = address.partition("://")
    if scheme != "https" or not separator:
        return ""
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
