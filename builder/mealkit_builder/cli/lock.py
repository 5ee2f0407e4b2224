"""``mealkit lock``: resolve a recipe's requirements."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._options import json_option, project_option
from ._output import print_json

if TYPE_CHECKING:
    from mealkit.project import Project

PINS_NAME = "base.lock.toml"


@click.command()
@project_option
@click.option("--upgrade", "-U", is_flag=True, help="Forget older pins and take the newest versions that fit.")
@click.option("--check", is_flag=True, help="Write nothing; fail if the lock is missing or out of date.")
@json_option
def lock(project: Path, upgrade: bool, check: bool, as_json: bool) -> None:
    """Resolve the recipe's requirements into pylock.toml (PEP 751), for all platforms.

    The recipe's requirements and those of mealkit's runtime are resolved together, by uv, so an image never holds
    versions that do not fit. Commit the file: the same lock gives the same image.

    What has no wheel (a source distribution, a git repository, a folder) is built into one, and the lock notes its
    sha256.

    A base of Debian's packages (deb:SUITE) is pinned too, package by package for the project's platforms, in
    base.lock.toml. Commit that as well; --upgrade takes the packages of today.

    \b
    Examples:
      mealkit lock                make or renew it; pins that still fit stay
      mealkit lock --upgrade      the newest versions that fit
      mealkit lock --check        in a pipeline: fail where it does not fit
    """  # noqa: D301
    from mealkit.errors import LockError
    from mealkit.project import read_project
    from mealkit_builder.finishing import complete_lock
    from mealkit_builder.lock import LOCK_NAME, make_lock, read_lock

    recipe = read_project(project)
    base = _lock_base(recipe, upgrade=upgrade, check=check)
    if check:
        found = read_lock(recipe)
        if found is None:
            raise LockError(
                "the lock is missing or does not fit pyproject.toml",
                where=str(recipe.root / LOCK_NAME),
                hint="run `mealkit lock`",
            )
    else:
        found = complete_lock(make_lock(recipe, os.environ, upgrade=upgrade), recipe, os.environ)
    packages = found.text.count("[[packages]]")
    if as_json:
        print_json({"file": str(found.path), "digest": found.digest, "packages": packages, "base": base})
    else:
        click.echo(f"{found.path.name}: {packages} packages, {found.digest}")
        for architecture, count in base.items():
            click.echo(f"{PINS_NAME}: {count} packages for {architecture}")


def _lock_base(recipe: Project, *, upgrade: bool, check: bool) -> dict[str, int]:
    """Pin a base of Debian's packages; returns how many packages each architecture has."""
    from mealkit_builder.reference import DebianLocation, parse_location

    location = parse_location(recipe.image.base)
    if not isinstance(location, DebianLocation):
        return {}
    from mealkit_builder.debian.base import find_pins
    from mealkit_builder.platform import host_platform, parse_platform

    platforms = [parse_platform(text) for text in recipe.image.platforms] or [host_platform()]
    pins = find_pins(
        location.suite, platforms, recipe.image.apt, recipe.root, os.environ, upgrade=upgrade, locked=check
    )
    return {architecture: len(packages) for architecture, packages in pins.packages.items()}
