"""What the commands print: errors, tables and JSON, plain where the output is not a terminal."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable
from typing import NoReturn

import click

from mealkit.errors import MealkitError, RecipeError, harmless


def color() -> bool | None:
    """For click: never colours where ``NO_COLOR`` is set (no-color.org), else where there is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def print_error(message: str, *, where: str | None = None, hint: str | None = None, trace: bool = False) -> None:
    """An error on standard error: the message in red, where and hint below."""
    if trace:
        traceback.print_exc()
    head, _, rest = harmless(message).partition(":")
    click.echo(click.style(head + ":", fg="red", bold=True) + rest, err=True, color=color())
    if where:
        click.echo(f"  at: {harmless(where)}", err=True)
    if hint:
        click.echo(click.style("hint:", fg="cyan") + f" {harmless(hint)}", err=True, color=color())


def fail(error: MealkitError, *, as_json: bool = False) -> NoReturn:
    """Tell an error and end with its exit status; with ``--json`` also as JSON on standard output."""
    if isinstance(error, RecipeError) and error.__cause__ is not None:
        # The recipe's own code failed: its author needs the way there.
        traceback.print_exception(error.__cause__)
    print_error(f"error[{error.code}]: {error.message}", where=error.where, hint=error.hint)
    if as_json:
        print_json({"error": error.to_json()})
    sys.exit(error.exit_code)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values in two columns; empty values are left out."""
    rows = [(name, str(value)) for name, value in pairs if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {value}")


def size_text(size: float) -> str:
    """A number of bytes as people write it: ``1.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def terminal_width() -> int | None:
    """The columns of the terminal; None: there is none, and a line may be of any length."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
