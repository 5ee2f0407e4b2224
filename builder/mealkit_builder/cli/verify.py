"""``mealkit verify``: check an image's signatures, the policy, and that it can be reproduced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._options import json_option, project_option
from ._output import print_json, print_pairs

if TYPE_CHECKING:
    from mealkit_builder.admission import Admitted
    from mealkit_builder.rebuild import Rebuilt


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
@click.option("--rebuild", is_flag=True, help="Also make the image again, from what it records of its inputs.")
@project_option
@json_option
def verify(
    url: str,
    keys: tuple[str, ...],
    identities: tuple[str, ...],
    policy: Path | None,
    rebuild: bool,
    project: Path,
    as_json: bool,
) -> None:
    """Check the image URL: that a key signed it, that the policy allows it, that rebuilding gives the same bytes.

    With a key or a policy no layer is pulled. With --rebuild, or with neither, the image is made again in the
    recipe's folder: from the commit, the time, the base and the platforms that it records. If it comes out otherwise,
    you are told the first layer, file and field that differ. The status is 0 when all is well, 10 when signature or
    policy forbid the image, 6 when it was not reproduced. The URL that is printed is by digest: use that one.

    \b
    Examples:
      mealkit verify registry.example.com/team/shop:1.0.0                   in the recipe's repository
      mealkit verify registry.example.com/team/shop:1.0.0 --key team.pub
      mealkit verify registry.example.com/team/shop:1.0.0 --policy policy.toml --json
    """  # noqa: D301
    from mealkit_builder.policy_file import find_policy

    path = find_policy(policy, os.environ)
    admission = _admit(url, keys, identities, path) if keys or path is not None else None
    if admission is not None:
        url = admission.url  # what was admitted is rebuilt, not what a tag may name by now
    rebuilt = _rebuild(url, project, as_json) if rebuild or admission is None else None
    if as_json:
        told = admission.to_json() if admission is not None else {"url": rebuilt.url if rebuilt is not None else url}
        print_json({**told, "rebuilt": rebuilt.to_json()} if rebuilt else told)
    else:
        if admission is not None:
            show_admission(admission)
            if path is None:
                click.echo("note: there is no policy here; only the signature was checked", err=True)
        if rebuilt is not None and rebuilt.same:
            print_pairs((("rebuilt", f"the same bytes from {rebuilt.revision[:12] or project.resolve()}"),))
            for note in rebuilt.notes:
                click.echo(f"note: {note}", err=True)
    if rebuilt is not None:
        rebuilt.check()
        url = rebuilt.url
    if not as_json:
        click.echo(url)


def _admit(url: str, keys: tuple[str, ...], identities: tuple[str, ...], path: Path | None) -> Admitted:
    """What signatures and the policy say."""
    from mealkit_builder.admission import admit
    from mealkit_builder.key import load_public_key
    from mealkit_builder.policy import read_policy

    trusted = [load_public_key(name, os.environ) for name in keys]
    policy = read_policy(path) if path is not None else None
    return admit(url, os.environ, keys=trusted, identities=identities, policy=policy)


def _rebuild(url: str, project: Path, as_json: bool) -> Rebuilt:
    """What rebuilding gives."""
    from mealkit_builder.rebuild import verify_rebuild

    from ._progress import TerminalReporter

    reporter = TerminalReporter(as_json)
    try:
        return verify_rebuild(url, project, os.environ, reporter)
    finally:
        reporter.clear()


def show_admission(found: Admitted) -> None:
    """Who signed, what is attached, which policy allowed it."""
    signers = [f"{one.key.name} ({one.key.id[:19]}…) for {one.identity}, {one.form}" for one in found.signatures]
    attached = [f"{kind} ({'signed' if signed else 'not signed'})" for kind, signed in found.attestations.items()]
    print_pairs(
        (
            *(("signed by", signer) for signer in signers),
            ("attached", ", ".join(attached)),
            ("policy", found.policy),
        )
    )
