"""``mealkit verify``: check an image's signatures, and whether the policy allows it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ._options import json_option
from ._output import print_json, print_pairs


@click.command()
@click.argument("url")
@click.option(
    "--key", "keys", multiple=True, metavar="FILE", help="A public key that may have signed; may be repeated."
)
@click.option(
    "--identity", "identities", multiple=True, metavar="REPOSITORY",
    help="A repository that the signature may be for; may be repeated.  [default: the URL's]",
)  # fmt: skip
@click.option(
    "--policy", type=click.Path(path_type=Path), metavar="FILE",
    help="The policy.  [default: $MEALKIT_POLICY, else ~/.config/mealkit/policy.toml]",
)  # fmt: skip
@json_option
def verify(url: str, keys: tuple[str, ...], identities: tuple[str, ...], policy: Path | None, as_json: bool) -> None:
    """Check that a key signed the image URL, and that the policy allows it. No layer is pulled.

    The status is 0 when all is well, 10 when it is not. The URL that is printed is by digest: use that one.

    \b
    Examples:
      mealkit verify registry.example.com/team/shop:1.0.0 --key team.pub
      mealkit verify registry.example.com/team/shop:1.0.0 --policy policy.toml --json
    """  # noqa: D301
    from mealkit.errors import UsageError
    from mealkit_builder.admission import admit
    from mealkit_builder.key import load_public_key
    from mealkit_builder.policy import read_policy
    from mealkit_builder.policy_file import find_policy

    path = find_policy(policy, os.environ)
    if not keys and path is None:
        raise UsageError(
            "there is nothing to verify the image against",
            hint="name a public key with --key, or a policy with --policy",
        )
    trusted = [load_public_key(name, os.environ) for name in keys]
    found = admit(
        url, os.environ, keys=trusted, identities=identities, policy=read_policy(path) if path is not None else None
    )
    if as_json:
        print_json(found.to_json())
        return
    if path is None:
        click.echo("note: there is no policy here; only the signature was checked", err=True)
    signers = [f"{one.key.name} ({one.key.id[:19]}…) for {one.identity}, {one.form}" for one in found.signatures]
    attached = [f"{kind} ({'signed' if signed else 'not signed'})" for kind, signed in found.attestations.items()]
    print_pairs(
        (
            *(("signed by", signer) for signer in signers),
            ("attached", ", ".join(attached)),
            ("policy", found.policy),
        )
    )
    click.echo(found.url)
