"""``mealkit lock``: resolve a recipe's requirements."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ._options import json_option, project_option
from ._output import print_json


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
    """
    from mealkit.errors import LockError
    from mealkit.project import read_project
    from mealkit_builder.finishing import complete_lock
    from mealkit_builder.lock import LOCK_NAME, make_lock, read_lock

    recipe = read_project(project)
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
        print_json({"file": str(found.path), "digest": found.digest, "packages": packages})
    else:
        click.echo(f"{found.path.name}: {packages} packages, {found.digest}")
