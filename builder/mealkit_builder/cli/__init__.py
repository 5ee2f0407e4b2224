"""The ``mealkit`` command: a group whose subcommands are imported only when they run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

import mealkit
from mealkit.errors import MealkitError

from ._output import color, fail, print_error

_COMMANDS = {
    "init": ("init", "Make a new recipe that passes its own tests."),
    "data": ("data", "Look at a dataset before you write a recipe."),
    "check": ("check", "Tell what is wrong with a recipe, with file and line."),
    "lock": ("lock", "Resolve the recipe's requirements into pylock.toml."),
    "build": ("build", "Pack the recipe into an image; print its URL."),
    "pipeline": ("pipeline", "Print a CI pipeline that builds the recipe's image."),
    "push": ("push", "Copy a built image to a registry."),
    "cache": ("cache", "Show and prune what builds keep, here or in a repository."),
    "sign": ("sign", "Sign an image with a local key, or make one."),
    "verify": ("verify", "Check signatures, the policy, and that an image can be reproduced."),
    "sbom": ("sbom", "Print what an image is made of, as CycloneDX or SPDX."),
    "inspect": ("inspect", "Read what an image offers, without pulling it."),
    "tree": ("tree", "Tell what each package weighs in an image."),
    "diff": ("diff", "Tell what one image has otherwise than another."),
    "run": ("run", "Run an image's train, evaluate or score in a container."),
    "train": ("modes", "Train the recipe here, without a container."),
    "evaluate": ("modes", "Evaluate a trained model here."),
    "score": ("modes", "Score a dataset here with a trained model."),
    "batches": ("batches", "List, verify and undo the batches that scoring wrote."),
    "compare": ("compare", "Compare models by what judged them."),
    "report": ("report", "Make a page with plots of a run's result."),
    "describe": ("modes", "Show what the recipe offers: settings, schemas, metrics."),
    "worker": ("modes", "Join a Dask scheduler, and work for runs with --engine."),
    "scheduler": ("modes", "Be the Dask scheduler of runs with --engine."),
    "completion": ("completion", "Print the completion script of a shell."),
}
"""Command name to (module, one line of help): ``--help`` must not import what it lists."""

_SECTIONS = {
    "Write a recipe": ("init", "data", "check", "train", "evaluate", "score", "describe"),
    "Judge models": ("compare", "report"),
    "Build its image": ("lock", "build", "push", "pipeline", "cache"),
    "Trust an image": ("sign", "verify", "sbom"),
    "Use an image": ("inspect", "tree", "diff", "run", "batches"),
    "Work in a cluster": ("scheduler", "worker"),
    "Shell": ("completion",),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help page."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name in the error."""
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " See `mealkit --help`."
            raise click.UsageError(f"there is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what one wants to do, without importing any."""
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, _COMMANDS[name][1]) for name in names], col_max=12)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `mealkit init my-recipe`. Every command explains itself: `mealkit build --help`.",
)
@click.version_option(mealkit.__version__, "-V", "--version", message="mealkit %(version)s")
def cli() -> None:
    """Pack machine-learning recipes into images, and run them anywhere.

    \b
    A recipe goes from source files to an image in a registry without a Docker daemon:
      mealkit init shop-recipe      make a recipe
      mealkit train --input d.csv --model model/      try it here
      mealkit build --push          pack it; prints host/repo@sha256:…
      mealkit inspect URL           read what it offers
      mealkit run URL score --input new.csv --model model/ --output scores/
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; errors become one message, a hint and their exit status."""
    wants_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    try:
        result: Any = cli.main(
            args=list(arguments) if arguments is not None else None,
            prog_name="mealkit",
            standalone_mode=False,
            color=color(),
        )
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        fail_usage(error)
    except MealkitError as error:
        fail(error, as_json=wants_json)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away: nothing is left to tell it
        sys.exit(141)
    except Exception as error:
        print_error(
            f"error[internal]: {type(error).__name__}: {error}",
            hint="this is a bug in mealkit; please report it with the lines above",
            trace=True,
        )
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


def fail_usage(error: click.ClickException) -> None:
    """A wrong command line: click's words in our form, exit status 2."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "mealkit"
    print_error(f"error[usage]: {error.format_message()}", hint=f"see `{command} --help`")
    sys.exit(2)
