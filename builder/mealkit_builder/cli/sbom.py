"""``mealkit sbom``: tell what an image is made of."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.argument("url")
@click.option(
    "--format", "form", type=click.Choice(["cyclonedx", "spdx"]), default="cyclonedx", show_default=True,
    help="CycloneDX 1.6 or SPDX 2.3, both as JSON.",
)  # fmt: skip
@click.option("--platform", help="Which image of several, such as linux/arm64.  [default: this machine's]")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write it to FILE.")
def sbom(url: str, form: str, platform: str | None, output: Path | None) -> None:
    """Print the software bill of materials of the image URL; no layer is pulled.

    The SBOM that `mealkit build --attest` attached is preferred: it has every wheel's sha256, licences, and the
    packages of the base's distribution. Without one it is made from the image's labels and annotations.

    \b
    Examples:
      mealkit sbom registry.example.com/team/shop:1.0.0
      mealkit sbom oci:.mealkit/images --format spdx -o shop.spdx.json
    """  # noqa: D301
    from mealkit.errors import storage_error
    from mealkit_builder.platform import parse_platform
    from mealkit_builder.sbom import read_sbom

    found = read_sbom(
        url, os.environ, "spdx" if form == "spdx" else "cyclonedx", parse_platform(platform) if platform else None
    )
    if output is None:
        click.echo(found.data)
    else:
        try:
            output.write_bytes(found.data + b"\n")
        except OSError as error:
            raise storage_error(error, "cannot write the SBOM", output) from error
    if not found.attached:
        click.echo("note: no SBOM is attached to the image; this one is made from its labels", err=True)
