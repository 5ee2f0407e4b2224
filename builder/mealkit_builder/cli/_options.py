"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from mealkit.errors import UsageError

project_option = click.option(
    "--project",
    "-C",
    "project",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="The recipe's folder, which has its pyproject.toml.  [default: here]",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines.")


def repository_of(project: Path) -> str:
    """The repository that a recipe's project names.

    Raises:
        UsageError: it names none.
    """
    from mealkit.project import read_project

    recipe = read_project(project)
    if recipe.image.repository is None:
        raise UsageError(
            "the project names no repository to push to",
            where=f"{recipe.file}: tool.mealkit.image.repository",
            hint='set repository = "host/repo" there, or name one with --to',
        )
    return recipe.image.repository
