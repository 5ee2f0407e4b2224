"""``mealkit inspect``: read what an image offers."""

from __future__ import annotations

import json
import os

import click

from ._options import json_option
from ._output import print_json, print_pairs, size_text


@click.command()
@click.argument("url")
@click.option("--platform", help="Which image of several, such as linux/arm64.  [default: this machine's]")
@json_option
def inspect(url: str, platform: str | None, as_json: bool) -> None:
    """Read the recipe behind URL from the image's labels; no layer is pulled.

    \b
    Examples:
      mealkit inspect registry.example.com/team/shop@sha256:…
      mealkit inspect oci:.mealkit/images:latest --json
    """  # noqa: D301
    from mealkit_builder.platform import parse_platform
    from mealkit_builder.remote import inspect_image

    found = inspect_image(url, os.environ, parse_platform(platform) if platform else None)
    spec, image = found.spec, found.pulled.image
    if as_json:
        layers = [{"title": layer.title, "kind": layer.kind, "size": layer.size, "digest": layer.digest}
                  for layer in image.layers]  # fmt: skip
        print_json(
            {
                "url": found.url,
                "platform": str(image.platform),
                "size": image.size,
                "labels": {k: v for k, v in image.config.labels if k != "io.mealkit.recipe"},
                "recipe": json.loads(spec.to_json()),
                "layers": layers,
            }
        )
        return
    from mealkit_runtime.describe import describe

    labels = image.config.label_map
    click.echo(describe(spec))
    click.echo()
    print_pairs(
        (
            ("platform", image.platform),
            ("base", labels.get("org.opencontainers.image.base.name")),
            ("source", labels.get("org.opencontainers.image.revision")),
            ("size", f"{size_text(image.size)} in {len(image.layers)} layers"),
        )
    )
    click.echo(found.url)
