"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

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
