"""``mealkit build``: pack a recipe into an image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._options import json_option, project_option, repository_of
from ._output import print_json, print_pairs, size_text
from ._progress import TerminalReporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from mealkit_builder.record import ImageRecord


@click.command()
@project_option
@click.option("--push", is_flag=True, help="Push to the project's repository ([tool.mealkit.image] repository).")
@click.option("--to", metavar="PLACE", help="Push to this repository (host/repo[:tag]) or layout folder (oci:DIR).")
@click.option("--tag", "-t", "tags", multiple=True, help="A tag; may be repeated.  [default: the version, and latest]")
@click.option("--base", help="Another base image: a reference, oci:DIR[:TAG], docker:NAME, deb:SUITE, or host.")
@click.option("--platform", "platforms", multiple=True, help="Such as linux/arm64; may be repeated.")
@click.option(
    "--engine",
    type=click.Choice(["oci", "docker"]),
    default="oci",
    show_default=True,
    help="oci: mealkit's own, no daemon. docker: a Dockerfile built by the Docker engine.",
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="id=ID,src=FILE",
    help="Lend FILE (or env=VARIABLE) to steps of the engine docker; never stored. May be repeated.",
)
@click.option("--load", is_flag=True, help="Also bring the image to the local Docker engine, as NAME:TAG.")
@click.option("--locked", is_flag=True, help="Fail when the lock is missing or out of date.")
@click.option("--no-cache", is_flag=True, help="Make every layer anew; use and believe nothing that is known.")
@click.option("--verify-cache", is_flag=True, help="Make known layers anew too, and compare them before they are used.")
@click.option("--no-bytecode", is_flag=True, help="Leave the packages' bytecode out: smaller, but slower to start.")
@click.option(
    "--compression",
    type=click.Choice(["splice", "gzip", "zstd"]),
    default="splice",
    show_default=True,
    help="How layers are compressed. gzip: one gzip member, for readers of no more. zstd: smaller, for newer engines.",
)
@click.option("--attest", is_flag=True, help="Attach an SBOM and provenance to the image.")
@click.option("--sign-key", metavar="FILE", help="Sign the image with this private key (PEM, or env://NAME).")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Add the image's record to FILE too.")
@click.option(
    "--digest-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the image's digest to FILE."
)
@click.option(
    "--metadata-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write digest, names and record to FILE as JSON, as docker buildx does.",
)
@click.option("--dry-run", is_flag=True, help="Build nothing; tell which layers would move, and why.")
@click.option("--quiet", "-q", is_flag=True, help="Print the URL only.")
@json_option
def build(
    project: Path,
    push: bool,
    to: str | None,
    tags: tuple[str, ...],
    base: str | None,
    platforms: tuple[str, ...],
    engine: str,
    secrets: tuple[str, ...],
    load: bool,
    locked: bool,
    no_cache: bool,
    verify_cache: bool,
    no_bytecode: bool,
    compression: str,
    attest: bool,
    sign_key: str | None,
    record: Path | None,
    digest_file: Path | None,
    metadata_file: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Pack the recipe into an image, and print the image's URL.

    Without --push or --to the image goes into a layout folder, .mealkit/images in the recipe's folder. Layers that the
    place has already are neither made nor sent again. The same inputs give the same digest.

    \b
    Examples:
      mealkit build                            to .mealkit/images
      mealkit build --push                     to the project's repository
      mealkit build --to localhost:5000/shop   to another one
      mealkit build --to oci:/srv/images --json
      mealkit build --push --attest --sign-key team.key
      mealkit build --load && docker run --rm churn describe
      mealkit build --push --dry-run           which layers would move, and why
    """  # noqa: D301
    from mealkit_builder.build import BuildRequest
    from mealkit_builder.build import build as build_image

    if no_cache and verify_cache:
        raise click.UsageError("--no-cache and --verify-cache exclude each other: without a cache nothing is compared.")
    if push and to is None:
        to = repository_of(project)
    key = None
    if sign_key is not None:
        from mealkit_builder.key import load_private_key

        from .sign import ask

        key = load_private_key(sign_key, os.environ, ask)
    lent: dict[str, bytes] = {}
    if secrets:
        from mealkit.errors import UsageError
        from mealkit_builder.buildkit import parse_secrets

        if engine != "docker":
            raise UsageError("only the engine docker lends secrets", where="--secret", hint="add --engine docker")
        lent = parse_secrets(secrets, os.environ)
    request = BuildRequest(
        project=project,
        to=to,
        tags=tags,
        base=base,
        platforms=platforms,
        engine=engine,  # type: ignore[arg-type]  # click checked it
        secrets=lent,
        bytecode=not no_bytecode,
        use_cache=not no_cache,
        verify_cache=verify_cache,
        compression=compression,  # type: ignore[arg-type]  # click checked it
        locked=locked,
        attest=attest,
        sign_key=key,
        environment=dict(os.environ),
    )
    reporter = TerminalReporter(quiet or as_json)
    if dry_run:
        from ._plan import run_dry

        run_dry(request, reporter, as_json)
        return
    try:
        made = build_image(request, reporter)
        names = load_built(made, reporter.stage) if load else ()
    finally:
        reporter.clear()
    if record is not None:
        made.append_to(record)
    if digest_file is not None or metadata_file is not None:
        from mealkit_builder.receipt import write_digest, write_metadata

        if digest_file is not None:
            write_digest(made, digest_file)
        if metadata_file is not None:
            write_metadata(made, metadata_file)
    if as_json:
        import json

        print_json(json.loads(made.to_json()))
    elif quiet:
        click.echo(made.url)
    else:
        show(made, names)


def load_built(made: ImageRecord, report: Callable[[str], None]) -> tuple[str, ...]:
    """The image's names in the local engine, which has it then; layers that the engine has do not move."""
    from mealkit_builder.engine import connect
    from mealkit_builder.engine_load import ensure_image, name_image
    from mealkit_builder.reference import parse_location

    client = connect(os.environ)
    try:
        image = ensure_image(client, parse_location(made.url), report)
        return name_image(client, image, made.name.lower(), made.tags)
    finally:
        client.close()


def show(made: ImageRecord, names: tuple[str, ...] = ()) -> None:
    """What was built, for a person; the URL stands last, alone, where scripts and eyes look for it."""
    ways = ", ".join(f"{count} {way}" for way, count in made.layers.items() if count)
    print_pairs(
        (
            ("recipe", f"{made.name} {made.version}"),
            ("base", made.base),
            ("platforms", ", ".join(made.platforms)),
            ("tags", ", ".join(made.tags)),
            ("size", size_text(made.size)),
            (
                "layers",
                ways and f"{ways}; {size_text(made.bytes_uploaded)} sent; {made.wheels_downloaded} wheels downloaded",
            ),
            ("source", f"{made.revision[:12]}{' with changes' if made.dirty else ''}" if made.revision else None),
            ("loaded", ", ".join(names)),
            ("time", f"{made.seconds:.2f} s"),
        )
    )
    click.echo(made.url)
