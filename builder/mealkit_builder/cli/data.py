"""``mealkit data``: look at a dataset before a recipe is written for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._options import json_option
from ._output import print_json
from ._progress import TerminalReporter

if TYPE_CHECKING:
    from mealkit_runtime.profile.value import Profile

_PIECE = 1 << 16
_EVERY = 0.2  # seconds between two words about the progress

uri_argument = click.argument("uri")


def query_options(command: Callable[..., None]) -> Callable[..., None]:
    """The part of the dataset that is read; the same words as those of a run."""
    for option in (
        click.option("--flatten", is_flag=True, help="Make columns with dotted names of nested ones."),
        click.option(
            "--where", metavar="CONDITION", help='Read only rows that fulfil it: "amount > 10 and note is not null".'
        ),
        click.option(
            "--columns", metavar="NAME,…", help="Read only these columns, separated by commas.  [default: all]"
        ),
    ):
        command = option(command)
    return command


@click.group()
def data() -> None:
    """Look at a dataset before you write a recipe: its first rows, and what its columns are like.

    URI is what `--input` takes: a file, folder, glob or Delta table, here or at s3://, gs://, az://, https://.

    \b
    Examples:
      mealkit data preview sales.parquet
      mealkit data profile sales.csv --target weekly_sales
      mealkit data profile 's/*.parquet' --html profile.html
    """  # noqa: D301


@data.command(short_help="Show the first rows, with the columns' types.")
@uri_argument
@click.option("--rows", type=click.IntRange(min=1, max=10_000), default=10, show_default=True, help="How many rows.")
@query_options
@json_option
def preview(uri: str, rows: int, columns: str | None, where: str | None, flatten: bool, as_json: bool) -> None:
    """Show the first rows of the dataset URI, with the columns' types; no more is read than that takes.

    \b
    Examples:
      mealkit data preview sales.parquet
      mealkit data preview visits/ --rows 3 --columns visitor_id,page
      mealkit data preview s3://lake/sales/ --where "store = 7 and markDown > 0"
    """  # noqa: D301
    from mealkit_runtime.preview import preview as read

    found = _Dataset(uri, columns=columns, where=where, flatten=flatten, limit=rows)
    shown = read(
        found.tables(rows), uri=found.source.uri, files=found.files, total=found.total(), text=found.text, rows=rows
    )
    if as_json:
        print_json(shown.to_json())
        return
    from ._preview_screen import show

    show(shown)


@data.command(short_help="Tell what the columns are like, and what to look out for.")
@uri_argument
@click.option("--target", metavar="COLUMN", help="The column that a recipe is to predict: what goes with it?")
@query_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read at most so many rows, the first ones.")
@click.option(
    "--sample",
    type=click.IntRange(min=100, max=10_000_000),
    metavar="N",
    help="Rows kept for quantiles, outliers, ranks and plots; with no more rows than that, all is exact."
    "  [default: 50000]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of that sample.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a page with plots, which needs nothing but a browser.",
)
@click.option(
    "--schema", is_flag=True, help="Print a row schema and the lines of [tool.mealkit] that the data suggest."
)
@json_option
def profile(
    uri: str,
    target: str | None,
    columns: str | None,
    where: str | None,
    flatten: bool,
    limit: int | None,
    sample: int | None,
    seed: int,
    page: Path | None,
    schema: bool,
    as_json: bool,
) -> None:
    """Tell what the columns of the dataset URI are like, and what to look out for before writing a recipe.

    All rows are read once, piece by piece, in bounded memory. Counts, means, deviations and Pearson's correlations are
    those of all rows; quantiles, outliers and ranks those of a sample.

    \b
    Examples:
      mealkit data profile sales.csv --target weekly_sales
      mealkit data profile visits/ --where "day >= '2026-01-01'" --html profile.html
      mealkit data profile sales.csv --target weekly_sales --schema > my_recipe/settings.py
    """  # noqa: D301
    from mealkit_runtime.profile.survey import SAMPLE, survey

    if page is not None:
        from mealkit_runtime.plot import need_matplotlib

        need_matplotlib()  # told before a long pass, not after it
    found = _Dataset(uri, columns=columns, where=where, flatten=flatten, limit=limit)
    with _progress(found.rows(), as_json) as listener:
        told = survey(
            found.tables(_PIECE),
            uri=found.source.uri,
            files=found.files,
            text=found.text,
            target=target,
            size=sample or SAMPLE,
            seed=seed,
            query=found.source.query.to_json(),
            listener=listener,
        )
    if told is None:
        raise found.empty()
    if page is not None:
        _write_page(told, page)
    if schema:
        _print_schema(told, as_json)
    elif as_json:
        print_json(told.to_json())
    else:
        from ._profile_screen import show

        show(told)
        if page is not None:
            click.echo(f"\nthe page: {page}")


class _Dataset:
    """What a command reads of a dataset."""

    def __init__(self, uri: str, **asked: Any) -> None:
        from mealkit_runtime.dataset import locate
        from mealkit_runtime.query import make_query

        self.source = locate(uri, make_query(**asked))
        self.files = len(self.source.files)
        self.text = any(file.format == "csv" for file in self.source.files)

    def tables(self, rows: int) -> Iterator[Any]:
        """Its pieces, as Arrow tables."""
        from mealkit_runtime.dataset import pieces
        from mealkit_runtime.schema import Schema

        return pieces(self.source, Schema(), rows)

    def rows(self) -> int | None:
        """How many rows will be read, where that is known without reading them."""
        from mealkit_runtime.dataset import row_count

        return row_count(self.source)

    def total(self) -> int | None:
        """How many rows there are, whatever the limit."""
        from mealkit_runtime.dataset import row_count

        return row_count(replace(self.source, query=self.source.query.unsampled()))

    def empty(self) -> Exception:
        """The error of a dataset of which no row is read."""
        from mealkit_runtime.dataset import empty

        return empty(self.source)


def _write_page(told: Profile, file: Path) -> None:
    from mealkit.errors import storage_error
    from mealkit_runtime.atomic import write_atomic
    from mealkit_runtime.profile.page import html

    text = html(told)
    try:
        write_atomic(file, text)
    except OSError as error:
        raise storage_error(error, "writing the page", file) from None


@contextmanager
def _progress(total: int | None, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Tells on standard error how many rows were read."""
    reporter = TerminalReporter(quiet)
    told = 0.0

    def listener(rows: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _EVERY:
            told = time.monotonic()
            reporter.stage(f"reading: {rows:,} rows" + (f" of {total:,} ({rows / max(total, 1):.0%})" if total else ""))

    try:
        yield listener
    finally:
        reporter.clear()


def _print_schema(told: Profile, as_json: bool) -> None:
    from mealkit_runtime.profile.skeleton import project, settings

    if as_json:
        print_json({"settings": settings(told), "project": project(told)})
        return
    click.echo(settings(told))
    click.echo("\n# For pyproject.toml:")
    click.echo("".join(f"# {line}\n" for line in project(told).splitlines()), nl=False)
