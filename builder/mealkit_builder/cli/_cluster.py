"""``mealkit run --kubernetes``: the options of a run on a cluster, and the manifests that they ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mealkit.errors import UsageError

if TYPE_CHECKING:
    from mealkit_builder.container import RunOptions

_OPTIONS = (
    click.option("--kubernetes", is_flag=True, help="Run it on a Kubernetes cluster: print the manifests (--dry-run)."),
    click.option("--dry-run", is_flag=True, help="Print the manifests to standard output, and do nothing else."),
    click.option("--namespace", metavar="NAME", help="Cluster: the namespace.  [default: kubectl's]"),
    click.option(
        "--volume",
        "volumes",
        multiple=True,
        metavar="CLAIM:/PATH[:ro]",
        help="Cluster: mount the PersistentVolumeClaim CLAIM at /PATH; may be repeated.",
    ),
    click.option(
        "--env-from",
        multiple=True,
        metavar="SECRET",
        help="Cluster: the keys of a Secret as variables, such as credentials; may be repeated.",
    ),
    click.option("--pull-secret", "pull_secrets", multiple=True, metavar="SECRET", help="Cluster: to pull the image."),
    click.option("--service-account", metavar="NAME", help="Cluster: the run's identity, such as at a cloud."),
    click.option(
        "--parallelism",
        type=click.IntRange(min=1),
        metavar="M",
        help="Cluster: with --shard auto/N, so many shards at once.  [default: all]",
    ),
    click.option(
        "--dask-workers",
        type=click.IntRange(min=1, max=10_000),
        metavar="N",
        help="Cluster: train or score on N pods, with a Dask scheduler of their own.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0, max=100),
        metavar="N",
        help="Cluster: how often a pod is replaced after a passing fault.  [default: 3; a Dask worker: 1]",
    ),
    click.option(
        "--deadline", type=click.IntRange(min=1), metavar="SECONDS", help="Cluster: end the run after so long."
    ),
)
_ONLY_CLUSTER = (
    "namespace", "volumes", "env_from", "pull_secrets", "service_account", "parallelism", "dask_workers", "retries",
    "deadline",
)  # fmt: skip
_ONLY_HERE = ("runner", "network")


def cluster_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options of a run on a cluster."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_place(*, kubernetes: bool, dry_run: bool) -> None:
    """Refuse options that mean nothing where the run shall be.

    Raises:
        UsageError: there is one.
    """
    if kubernetes and not dry_run:
        raise UsageError(
            "mealkit does not speak to a cluster itself",
            where="--kubernetes",
            hint="mealkit run --kubernetes --dry-run … | kubectl apply -f -",
        )
    if dry_run and not kubernetes:
        raise UsageError("what would run is told for a cluster only", where="--dry-run", hint="add --kubernetes")
    context = click.get_current_context()
    for option in context.command.params:
        wrong = option.name in (_ONLY_HERE if kubernetes else _ONLY_CLUSTER)
        if wrong and context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
            where = "on this machine" if kubernetes else "on a cluster"
            hint = "leave it out" if kubernetes else "leave it out, or add --kubernetes --dry-run"
            raise UsageError(f"{option.opts[0]} is for a run {where}", where=option.opts[0], hint=hint)


def print_manifests(
    url: str, mode: str, arguments: Sequence[str], options: RunOptions, cluster: Mapping[str, Any]
) -> int:
    """Print a run's manifests to standard output, and what it will be called to standard error."""
    from mealkit_builder.cluster import ClusterOptions, parse_claim, plan_run
    from mealkit_builder.kubernetes import manifests
    from mealkit_builder.remote import inspect_image
    from mealkit_builder.yaml_text import to_yaml

    facts = dict(cluster)
    facts["claims"] = tuple(map(parse_claim, facts.pop("volumes")))
    planned = plan_run(inspect_image(url, os.environ), mode, arguments, options, ClusterOptions(**facts), os.environ)
    click.echo(to_yaml(manifests(planned)), nl=False)
    click.echo(f"job {planned.name}, run id {planned.run_id or planned.name}", err=True)
    return 0
