"""``mealkit init``: make a new recipe from a template."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="The distribution's name.  [default: the folder's name]")
@click.option(
    "--kind",
    type=click.Choice(["classification", "regression"]),
    default="classification",
    show_default=True,
    help="What the recipe predicts: a class or a number.",
)
def init(folder: Path, name: str | None, kind: str) -> None:
    """Make a new recipe in FOLDER that passes its own tests at once.

    \b
    Example:
      mealkit init churn && cd churn
      mealkit check
      mealkit train --input data/customers.csv --model model/
    """  # noqa: D301
    from mealkit_builder.scaffold import make_recipe

    made = make_recipe(folder, name or re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-"), kind)
    click.echo(f"made {made.name!r} ({kind}) in {folder}: {made.files} files")
    click.echo("next:")
    click.echo(f"  cd {shlex.quote(str(folder))}")
    for line in made.next_steps:
        click.echo(f"  {line}")
