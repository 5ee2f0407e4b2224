"""Modes of the runtime on this machine, without a container: ``mealkit train``, ``evaluate``, ``score`` and others."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from ._options import project_option


def _mode(name: str, doc: str) -> click.Command:
    @click.command(
        name,
        help=doc,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    @project_option
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(project: Path, arguments: tuple[str, ...]) -> int:
        return run_mode(name, project, arguments)

    return run


def run_mode(mode: str, project: Path, arguments: tuple[str, ...]) -> int:
    """Hand the arguments to the runtime, which explains them itself; returns its exit status."""
    from mealkit_runtime.command import main

    if {"-h", "--help"} & set(arguments):
        status = main([mode, *arguments], spec=None, prog="mealkit")
        click.echo("\nthe recipe is that of this folder, or of the one that --project DIR names")
        return status
    import sys

    from mealkit.describe import describe_project
    from mealkit.project import read_project

    gc.set_threshold(700, 10, 10)  # the recipe's code runs as in an image: with Python's own setting
    recipe = read_project(project)
    spec = describe_project(recipe)
    # The recipe's modules come from its folder for the rest of this process: joblib's workers inherit the path.
    sys.path.insert(0, str(recipe.source))
    return main([mode, *arguments], spec=spec, prog="mealkit")


train = _mode("train", "Train the recipe here, without a container.")
evaluate = _mode("evaluate", "Evaluate a trained model here.")
score = _mode("score", "Score a dataset here with a trained model.")
describe = _mode("describe", "Show what the recipe offers: settings, schemas, metrics.")
worker = _mode("worker", "Join a Dask scheduler, and work for runs of the recipe with --engine.")


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def scheduler(arguments: tuple[str, ...]) -> int:
    """Be the Dask scheduler of runs with --engine; it needs no recipe."""
    from mealkit_runtime.command import main

    return main(["scheduler", *arguments], spec=None, prog="mealkit")
