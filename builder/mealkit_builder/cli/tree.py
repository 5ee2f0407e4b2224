"""``mealkit tree``: what each package weighs in an image."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ._options import json_option
from ._output import print_json, size_text
from ._progress import TerminalReporter

if TYPE_CHECKING:
    from mealkit_builder.package_size import Weights

_BAR = 20


@click.command()
@click.argument("url")
@click.option("--platform", help="Which image of several, such as linux/arm64.  [default: this machine's]")
@click.option("--top", type=click.IntRange(min=1), help="Only the heaviest N packages.", metavar="N")
@json_option
def tree(url: str, platform: str | None, top: int | None, as_json: bool) -> None:
    """Tell what each package weighs in the image URL: its files and their bytecode, unpacked.

    The layers above the base are read once; those that are on this machine are not pulled.

    \b
    Examples:
      mealkit tree oci:.mealkit/images
      mealkit tree registry.example.com/team/shop:1.2.0 --top 10
    """  # noqa: D301
    from mealkit_builder.package_size import weigh
    from mealkit_builder.platform import parse_platform
    from mealkit_builder.remote import open_image
    from mealkit_builder.store import Store, default_store_root

    reporter = TerminalReporter(as_json)
    store = Store(default_store_root(os.environ))
    with open_image(url, os.environ, parse_platform(platform) if platform else None, store) as found:
        try:
            weights = weigh(
                found.pulled.image,
                found.open_layer,
                lambda layer: reporter.stage(f"reading {layer.title or layer.kind}"),
            )
        finally:
            reporter.clear()
        if as_json:
            packages = [{**asdict(package), "total": package.total} for package in weights.packages[:top]]
            print_json(
                {
                    "url": found.url,
                    "size": weights.size,
                    "base": {"layers": weights.base, "size": weights.base_size},
                    "packages": packages,
                }
            )
            return
        show(weights, top)
        click.echo(found.url)


def show(weights: Weights, top: int | None) -> None:
    """A table, the heaviest first, and the sums."""
    shown = weights.packages[:top]
    whole = sum(one.total for one in weights.packages) or 1
    rows = [("package", "files", "size", "bytecode", "share")]
    for one in shown:
        share, bar = 100 * one.total / whole, "█" * round(_BAR * one.total / whole)
        name = f"{one.name} {one.version}".strip()
        rows.append(
            (name, f"{one.files:,}", size_text(one.size), size_text(one.bytecode), f"{share:4.1f} % {bar}".rstrip())
        )
    first, *widths = (max(len(row[column]) for row in rows) for column in range(4))
    for place, row in enumerate(rows):
        cells = (text.rjust(width) for text, width in zip(row[1:4], widths, strict=True))
        click.secho("  ".join((row[0].ljust(first), *cells, row[4])), bold=place == 0)
    if top is not None and top < len(weights.packages):
        click.echo(f"… and {len(weights.packages) - top} more")
    click.echo(
        f"{len(weights.packages)} packages: {size_text(whole)} unpacked; base: {weights.base} layers, "
        f"{size_text(weights.base_size)} compressed; the image: {size_text(weights.size)} compressed"
    )
