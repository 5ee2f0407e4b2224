"""``mealkit pipeline``: files for CI systems and clusters."""

from __future__ import annotations

from pathlib import Path

import click

from ._options import project_option


@click.command()
@click.argument("kind", type=click.Choice(["github", "gitlab", "tekton", "kubernetes"]))
@project_option
@click.option("--to", metavar="PLACE", help="Where images go: host/repo.  [default: the project's repository]")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write it to FILE, which must be new."
)
def pipeline(kind: str, project: Path, to: str | None, output: Path | None) -> None:
    """Print a pipeline of KIND that builds the recipe's image, with no Docker daemon and no privilege.

    \b
    Examples:
      mealkit pipeline github -o .github/workflows/mealkit.yml
      mealkit pipeline kubernetes --to registry.example.com/team/shop | kubectl apply -f -
    """  # noqa: D301
    from mealkit.errors import UsageError, storage_error
    from mealkit.project import read_project
    from mealkit_builder.pipeline import PLACES, render_pipeline

    text = render_pipeline(kind, read_project(project), to)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            "the file is there already",
            where=str(output),
            hint=f"name another one, such as {PLACES[kind][0]}, or print and compare",
        ) from None
    except OSError as error:
        raise storage_error(error, "cannot write the pipeline", output) from error
    click.echo(f"made {output}")
