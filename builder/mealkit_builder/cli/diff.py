"""``mealkit diff``: what one image has otherwise than another."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ._options import json_option
from ._output import print_json, size_text

if TYPE_CHECKING:
    from mealkit_builder.difference import Change, Difference, FileChange

_FEW = 20


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--platform", help="Which image of several, such as linux/arm64.  [default: this machine's]")
@click.option("--all", "everything", is_flag=True, help="List every file, also those of packages.")
@click.option("--exit-code", is_flag=True, help="End with status 1 when the images differ.")
@json_option
def diff(before: str, after: str, platform: str | None, everything: bool, exit_code: bool, as_json: bool) -> int:
    """Tell what the image AFTER has otherwise than the image BEFORE.

    Compared are settings, the recipe's specification, layers, packages and files. Layers that both images have are
    not opened.

    \b
    Examples:
      mealkit diff registry.example.com/team/shop:1.2.0 registry.example.com/team/shop:1.3.0
      mealkit diff registry.example.com/team/shop:1.3.0 oci:.mealkit/images --exit-code
    """  # noqa: D301
    from mealkit_builder.difference import compare_images
    from mealkit_builder.platform import parse_platform
    from mealkit_builder.remote import open_image
    from mealkit_builder.store import Store, default_store_root

    wanted = parse_platform(platform) if platform else None
    store = Store(default_store_root(os.environ))
    with open_image(before, os.environ, wanted, store) as one, open_image(after, os.environ, wanted, store) as other:
        found = compare_images(one.pulled.image, other.pulled.image, one.open_layer, other.open_layer)
        if as_json:
            print_json({"before": one.url, "after": other.url, **found.to_json()})
        else:
            click.echo(f"{click.style('---', fg='red')} {one.url}")
            click.echo(f"{click.style('+++', fg='green')} {other.url}")
            show(found, everything)
    return 1 if exit_code and not found.empty else 0


def show(found: Difference, everything: bool) -> None:
    """The difference for a person, the most telling first."""
    if found.empty:
        click.echo(f"the images are the same: {found.same_layers} layers, {size_text(found.same_size)}")
        return
    _section("recipe", found.spec)
    _section("settings", found.settings)
    _section("packages", found.packages)
    _section("layers", found.layers)
    _files(found, everything)
    click.echo(f"the same: {found.same_layers} layers, {size_text(found.same_size)}")


def _section(title: str, changes: Iterable[Change]) -> None:
    shown = list(changes)
    if not shown:
        return
    click.secho(title, bold=True)
    for change in shown:
        if change.before is None:
            click.echo(f"  {click.style('+', fg='green')} {change.name}: {change.after}")
        elif change.after is None:
            click.echo(f"  {click.style('-', fg='red')} {change.name}: {change.before}")
        else:
            click.echo(f"  {click.style('~', fg='yellow')} {change.name}: {change.before} -> {change.after}")


def _files(found: Difference, everything: bool) -> None:
    """Files by their layer; those of other people's packages are counted unless all are wanted."""
    if not found.files:
        return
    click.secho("files", bold=True)
    by_owner: dict[str, list[FileChange]] = {}
    for change in found.files:
        by_owner.setdefault(change.owner, []).append(change)
    for owner, changes in by_owner.items():
        click.echo(f"  {owner}: {len(changes)}")
        shown = changes if everything else changes[:_FEW]
        for change in shown:
            lone = change.fields[0] if change.fields[0].name == "path" else None
            mark = "~" if lone is None else "+" if lone.before is None else "-"
            color = {"~": "yellow", "+": "green", "-": "red"}[mark]
            what = "" if lone else f"  ({', '.join(one.name for one in change.fields)})"
            click.echo(f"    {click.style(mark, fg=color)} {change.path}{what}")
        if len(shown) < len(changes):
            click.echo(f"    … and {len(changes) - len(shown)} more (--all)")
