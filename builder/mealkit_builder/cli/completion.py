"""``mealkit completion``: the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  mealkit completion bash > ~/.local/share/bash-completion/completions/mealkit
    zsh:   mealkit completion zsh > ~/.zfunc/_mealkit     (with ~/.zfunc in fpath)
    fish:  mealkit completion fish > ~/.config/fish/completions/mealkit.fish
    """  # noqa: D301
    from . import cli

    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(cli, {}, "mealkit", "_MEALKIT_COMPLETE").source())
