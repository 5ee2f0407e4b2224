"""``mealkit run``: run an image's mode in a container, without an engine by the process runner, or on a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mealkit.errors import UsageError

from ._cluster import check_place, cluster_options, print_manifests


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@click.option(
    "--runner",
    type=click.Choice(["auto", "container", "process"]),
    default="auto",
    show_default=True,
    help="container: the Docker engine. process: no engine, from the image's unpacked files. auto: what there is.",
)
@click.option("--user", help="Who runs it, UID:GID.  [default: you, so that outputs are yours]")
@click.option("--network", default="none", show_default=True, help="none, bridge, host, or one of the engine's.")
@click.option("--memory", help="Limit of memory, such as 2g.")
@click.option("--cpus", type=float, help="Limit of processors, such as 1.5.")
@click.option(
    "--gpus", metavar="all|N|device=ID,…", help="GPUs for the container; the engine needs its vendor's toolkit."
)
@click.option("--shm-size", default="256m", show_default=True, help="Size of /dev/shm.")
@click.option("--env", "-e", "env", multiple=True, metavar="NAME[=VALUE]", help="A variable; may be repeated.")
@click.option("--policy", type=click.Path(path_type=Path), metavar="FILE", help="Which images may run; see `verify`.")
@cluster_options
@click.argument("url")
@click.argument("mode")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    runner: str,
    user: str | None,
    network: str,
    memory: str | None,
    cpus: float | None,
    gpus: str | None,
    shm_size: str,
    env: tuple[str, ...],
    policy: Path | None,
    url: str,
    mode: str,
    arguments: tuple[str, ...],
    kubernetes: bool,
    dry_run: bool,
    **cluster: Any,
) -> int:
    """Run MODE (train, evaluate, score, describe) of the image URL; ARGUMENTS are the mode's own.

    Paths among the arguments are this machine's: inputs are mounted read-only, outputs so that they can be written. The
    container has no network, a read-only root and no capabilities, and runs as you. Where there is a policy, an image
    that it does not allow is refused.

    With --kubernetes --dry-run the manifests of a Job are printed instead; paths are then those in its volumes.

    \b
    Examples:
      mealkit run URL describe
      mealkit run URL train --input visits.csv --model model/ --set learning_rate=0.05
      mealkit run --memory 2g URL score --input new/ --model model/ --output scores/
      mealkit run URL train --help
      mealkit run --kubernetes --dry-run URL train --input s3://shop/visits/ … | kubectl apply -f -
    """  # noqa: D301
    from mealkit_builder.container import RunOptions, run_image
    from mealkit_builder.engine import engine_available
    from mealkit_builder.policy_file import find_policy
    from mealkit_builder.process import run_process

    if mode.startswith("-"):
        raise UsageError(f"{mode} stands where the mode should be", hint="write options of `run` before the URL")
    check_place(kubernetes=kubernetes, dry_run=dry_run)
    policy = find_policy(policy, os.environ)
    if policy is not None:
        from mealkit_builder.admission import admit_by_policy
        from mealkit_builder.platform import host_platform

        url = admit_by_policy(url, os.environ, policy, host_platform())
    options = RunOptions(
        user=user, network=network, memory=memory, cpus=cpus, gpus=gpus, env=_environment(env), shm_size=shm_size
    )
    if kubernetes:
        return print_manifests(url, mode, arguments, options, cluster)
    use_engine = runner == "container" or (runner == "auto" and engine_available(os.environ))
    click.echo(f"runner: {'container' if use_engine else 'process (no container engine answers)'}", err=True)
    return (run_image if use_engine else run_process)(url, mode, arguments, options, environment=os.environ)


def _environment(pairs: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE``, or ``NAME`` alone for the value that it has here."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and name not in os.environ:
            raise UsageError(f"{name} is not set here", where="--env", hint=f"write --env {name}=VALUE")
        values[name] = value if equals else os.environ[name]
    return values
