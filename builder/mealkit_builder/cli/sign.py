"""``mealkit sign``: sign an image with a local key, or make one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ._options import json_option
from ._output import print_json, print_pairs


@click.command()
@click.argument("url", required=False)
@click.option("--key", metavar="FILE", help="The private key: a PEM file (ECDSA P-256), or env://NAME.")
@click.option("--identity", metavar="REPOSITORY", help="The repository that it is for.  [default: the URL's]")
@click.option("--recursive", is_flag=True, help="Sign each platform's image of an index too, not only the index.")
@click.option("--generate-key", metavar="NAME", type=click.Path(path_type=Path), help="Make NAME.key and NAME.pub.")
@json_option
def sign(
    url: str | None, key: str | None, identity: str | None, recursive: bool, generate_key: Path | None, as_json: bool
) -> None:
    """Sign the image URL: what it names now is signed, by digest, in both forms that cosign reads.

    The key's password is asked for, or taken from MEALKIT_KEY_PASSWORD, or from the file that MEALKIT_KEY_PASSWORD_FILE
    names. An image in a layout folder is signed for the repository that it will be pushed to: name it with --identity.

    \b
    Examples:
      mealkit sign --generate-key team                     team.key for you alone, team.pub for all
      mealkit sign registry.example.com/team/shop:1.0.0 --key team.key
      mealkit sign oci:.mealkit/images --key team.key --identity registry.example.com/team/shop
      mealkit verify registry.example.com/team/shop:1.0.0 --key team.pub
      cosign verify --key team.pub --insecure-ignore-tlog registry.example.com/team/shop:1.0.0
    """  # noqa: D301
    from mealkit.errors import UsageError
    from mealkit_builder.key import load_private_key
    from mealkit_builder.signing import sign_url

    if generate_key is not None:
        _generate(generate_key, as_json)
        return
    if url is None or key is None:
        raise UsageError("sign needs an image and a key", hint="mealkit sign URL --key FILE, or --generate-key NAME")
    signed = sign_url(url, load_private_key(key, os.environ, ask), os.environ, identity=identity, recursive=recursive)
    if as_json:
        print_json({"url": signed.url, "identity": signed.identity, "key": signed.key, "digests": signed.digests})
        return
    print_pairs((("signed for", signed.identity), ("key", signed.key), ("images", len(signed.digests))))
    click.echo(signed.url)


def ask(prompt: str) -> str:
    """A password from a person at a terminal; empty where there is none."""
    if not sys.stdin.isatty():
        return ""
    return str(click.prompt(prompt.removesuffix(": "), hide_input=True, err=True, default="", show_default=False))


def _generate(stem: Path, as_json: bool) -> None:
    from mealkit_builder.key import find_password, generate_key

    def twice(prompt: str) -> str:
        if not sys.stdin.isatty():
            return ""
        return str(click.prompt(prompt.removesuffix(": "), hide_input=True, confirmation_prompt=True, err=True))

    private, public = generate_key(stem, find_password(os.environ, twice, f"new password for {stem}.key: "))
    if as_json:
        print_json({"private": str(private), "public": str(public)})
        return
    click.echo(f"{private}  keep it secret; it is encrypted with your password")
    click.echo(f"{public}  give it to all who verify")
