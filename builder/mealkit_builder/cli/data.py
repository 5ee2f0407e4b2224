"""``mealkit data``: look at a dataset before a recipe is written for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
columns_option = click.option(
    "--columns", metavar="NAME,…", help="Read only these columns, separated by commas.  [default: all]"
)


@click.group()
def data() -> None:
    """Look at a dataset before you write a recipe: its first rows, and what its columns are like.

    URI is what `--input` takes: a file, a folder or a glob.

    \b
    Examples:
      mealkit data preview sales.parquet
      mealkit data profile sales.csv --target weekly_sales
      mealkit data profile 's/*.parquet' --html profile.html
    """  # noqa: D301


@data.command(short_help="Show the first rows, with the columns' types.")
@uri_argument
@click.option("--rows", type=click.IntRange(min=1, max=10_000), default=10, show_default=True, help="How many rows.")
@columns_option
@json_option
def preview(uri: str, rows: int, columns: str | None, as_json: bool) -> None:
    """Show the first rows of the dataset URI, with the columns' types; no more is read than that takes.

    \b
    Examples:
      mealkit data preview sales.parquet
      mealkit data preview visits/ --rows 3 --columns visitor_id,page
      mealkit data preview sales.csv --json
    """  # noqa: D301
    from mealkit_runtime.preview import preview as read

    found = _Dataset(uri, columns)
    shown = read(found.tables(rows), uri=uri, files=found.files, total=found.rows(), text=found.text, rows=rows)
    if as_json:
        print_json(shown.to_json())
        return
    from ._preview_screen import show

    show(shown)


@data.command(short_help="Tell what the columns are like, and what to look out for.")
@uri_argument
@click.option("--target", metavar="COLUMN", help="The column that a recipe is to predict: what goes with it?")
@columns_option
@click.option(
    "--sample",
    type=click.IntRange(min=100, max=10_000_000),
    metavar="N",
    help="Rows kept for quantiles, outliers, ranks and plots; with no more rows than that, all is exact."
    "  [default: 50000]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of that sample.")
@click.option(
    "--schema", is_flag=True, help="Print a row schema and the lines of [tool.mealkit] that the data suggest."
)
@json_option
def profile(
    uri: str, target: str | None, columns: str | None, sample: int | None, seed: int, schema: bool, as_json: bool
) -> None:
    """Tell what the columns of the dataset URI are like, and what to look out for before writing a recipe.

    All rows are read once, piece by piece, in bounded memory. Counts, means, deviations and Pearson's correlations are
    those of all rows; quantiles, outliers and ranks those of a sample.

    \b
    Examples:
      mealkit data profile sales.csv --target weekly_sales
      mealkit data profile visits/ --columns visitor_id,page,ordered --sample 200000
      mealkit data profile sales.csv --target weekly_sales --schema > my_recipe/settings.py
    """  # noqa: D301
    from mealkit_runtime.profile.survey import SAMPLE, survey

    found = _Dataset(uri, columns)
    with _progress(found.rows(), as_json) as listener:
        told = survey(
            found.tables(_PIECE),
            uri=uri,
            files=found.files,
            text=found.text,
            target=target,
            size=sample or SAMPLE,
            seed=seed,
            query=found.query,
            listener=listener,
        )
    if told is None:
        raise found.empty()
    if schema:
        _print_schema(told, as_json)
    elif as_json:
        print_json(told.to_json())
    else:
        from ._profile_screen import show

        show(told)


class _Dataset:
    """What a command reads of a dataset."""

    def __init__(self, uri: str, columns: str | None) -> None:
        from mealkit_runtime.dataset import format_of, locate

        self.source = locate(uri)
        self.names = tuple(name.strip() for name in columns.split(",") if name.strip()) if columns else ()
        self.files = len(self.source.files)
        self.text = any(format_of(path) == "csv" for path in self.source.files)
        self.query: dict[str, Any] = {"columns": list(self.names)} if self.names else {}

    def tables(self, rows: int) -> Iterator[Any]:
        """Its pieces, as Arrow tables."""
        from mealkit_runtime.column import Column
        from mealkit_runtime.dataset import pieces
        from mealkit_runtime.schema import Schema

        schema = Schema(tuple(map(Column, self.names)), open=not self.names)
        return pieces(self.source, schema, rows)

    def rows(self) -> int | None:
        """How many rows it has, where that is known without reading it."""
        from mealkit_runtime.dataset import row_count

        return row_count(self.source)

    def empty(self) -> Exception:
        """The error of a dataset without rows."""
        from mealkit_runtime.dataset import empty

        return empty(self.source)


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
