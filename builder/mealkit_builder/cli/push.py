"""``mealkit push``: copy a built image to a registry."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ._options import json_option, project_option, repository_of
from ._output import print_json, size_text
from ._progress import TerminalReporter


@click.command()
@click.argument("url", required=False)
@project_option
@click.option(
    "--to", metavar="PLACE", help="Where to: host/repo[:tag] or oci:DIR.  [default: the project's repository]"
)
@click.option("--tag", "-t", "tags", multiple=True, help="A tag; may be repeated.  [default: those of the build]")
@click.option("--without-attached", is_flag=True, help="Leave signatures, SBOM and provenance behind.")
@json_option
def push(
    url: str | None, project: Path, to: str | None, tags: tuple[str, ...], without_attached: bool, as_json: bool
) -> None:
    """Copy the image URL, by default the last one built here, to a repository; its digest stays.

    What is attached to it goes along: signatures, SBOM, provenance.

    \b
    Examples:
      mealkit build && mealkit push
      mealkit push oci:/srv/images@sha256:… --to registry.example.com/team/shop
    """  # noqa: D301
    from mealkit.errors import UsageError
    from mealkit_builder.copying import copy_image
    from mealkit_builder.location import tag_of
    from mealkit_builder.record import history_file, read_records

    to = to or repository_of(project)
    if url is None:
        records = list(read_records(history_file(project)))
        if not records:
            raise UsageError(
                "nothing was built here yet", where=str(project), hint="run `mealkit build`, or name a URL"
            )
        url = records[-1].url
        # A tag that stands in --to is what the user wants; else the image keeps the names that its build gave it.
        tags = tags or (() if tag_of(to) else records[-1].tags)
    reporter = TerminalReporter(as_json)
    try:
        copied = copy_image(url, to, tags, os.environ, reporter, attached=not without_attached)
    finally:
        reporter.clear()
    if as_json:
        print_json({"url": copied.url, "tags": copied.tags, "uploaded": copied.uploaded, "reused": copied.reused})
    else:
        click.echo(
            f"{size_text(copied.uploaded)} sent, {copied.reused} blobs were there; tags: {', '.join(copied.tags)}"
        )
        click.echo(copied.url)
