"""``mealkit check``: tell what is wrong with a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from ._options import json_option, project_option
from ._output import print_error, print_json


@click.command()
@project_option
@json_option
def check(project: Path, as_json: bool) -> int:
    """Import everything that the recipe names and tell all that is wrong, with file and line.

    Run it where the recipe's requirements are installed. The exit status is that of the first error.

    \b
    Examples:
      mealkit check
      mealkit check -C recipes/shop --json
    """  # noqa: D301
    from mealkit_builder.checking import check_recipe

    findings = list(check_recipe(project))
    errors = [finding.error for finding in findings if finding.error is not None]
    if as_json:
        rows = [{"what": f.what, "detail": f.detail, "error": f.error.to_json() if f.error else None} for f in findings]
        print_json({"ok": not errors, "findings": rows})
        return errors[0].exit_code if errors else 0
    for finding in findings:
        if finding.error is None:
            click.echo(f"{click.style('ok', fg='green')}    {finding.what:<16}{finding.detail}")
        else:
            click.echo(f"{click.style('error', fg='red')} {finding.what}")
            print_error(
                f"error[{finding.error.code}]: {finding.error.message}",
                where=finding.error.where,
                hint=finding.error.hint,
            )
    return errors[0].exit_code if errors else 0
