"""``mealkit report``: a run's result as an HTML page with plots."""

from __future__ import annotations

from pathlib import Path

import click

from mealkit.errors import storage_error


@click.command()
@click.argument("result", type=click.Path(path_type=Path), metavar="RESULT.json")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where the page goes.  [default: beside the result, as .html]",
)  # fmt: skip
def report(result: Path, output: Path | None) -> None:
    """Make a page of a run's result: metrics with intervals, slices, and the plots that the recipe's kind calls for.

    The result is what `train` or `evaluate` wrote with --result. The page is one HTML file that loads nothing from
    anywhere. It needs matplotlib.

    \b
    Examples:
      mealkit report evaluate.json
      mealkit report evaluate.json -o report.html
    """  # noqa: D301
    from mealkit_runtime.atomic import write_atomic
    from mealkit_runtime.report import read_result
    from mealkit_runtime.report import report as page_of

    text = page_of(read_result(result))
    target = output if output is not None else result.with_suffix(".html")
    try:
        write_atomic(target, text)
    except OSError as error:
        raise storage_error(error, "writing the report", target) from None
    click.echo(str(target))
