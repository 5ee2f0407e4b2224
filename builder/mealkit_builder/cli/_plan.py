"""What ``mealkit build --dry-run`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._output import print_json, size_text
from ._progress import TerminalReporter

if TYPE_CHECKING:
    from mealkit_builder.dry_run import Plan, PlannedLayer
    from mealkit_builder.request import BuildRequest

_COLOURS = {"reused": "green", "mounted": "cyan", "uploaded": "yellow"}


def run_dry(request: BuildRequest, reporter: TerminalReporter, as_json: bool) -> None:
    """Plan a build and print the plan."""
    from mealkit_builder.dry_run import plan_build

    try:
        plan = plan_build(request, reporter)
    finally:
        reporter.clear()
    if as_json:
        print_json(plan.to_json())
    else:
        show(plan)


def show(plan: Plan) -> None:
    """The plan for a person: a line for each layer, and a sum."""
    for image in plan.images:
        if len(plan.images) > 1:
            click.echo(click.style(image.platform, bold=True))
        sizes = [_size(one) for one in image.layers]
        wide, long = max(map(len, sizes)), max(len(one.title) for one in image.layers)
        for one, size in zip(image.layers, sizes, strict=True):
            way = click.style(f"{one.action:8}", fg=_COLOURS[one.action])
            made = "make" if one.made else ""
            click.echo(f"{way}  {made:4}  {size:>{wide}}  {one.title:{long}}  {one.reason}")
    count = sum(one.action == "uploaded" for image in plan.images for one in image.layers)
    about = "" if plan.exact else "about "
    click.echo(
        f"{_count(count, 'layer')} would be uploaded, {about}{size_text(plan.bytes_of('uploaded'))}; "
        f"{size_text(plan.bytes_of('mounted'))} mounted, {size_text(plan.bytes_of('reused'))} reused; "
        f"{_count(len(plan.downloads), 'wheel')} downloaded, {size_text(sum(plan.downloads.values()))}"
    )
    if all(image.unchanged for image in plan.images):
        click.echo(f"{plan.place} has this image already: {', '.join(plan.tags)}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _size(one: PlannedLayer) -> str:
    if one.size is not None:
        return size_text(one.size)
    return f"~{size_text(one.about)}" if one.about else "?"
