"""``mealkit compare``: results of several models beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mealkit.errors import WorseError

from ._options import json_option
from ._output import fail, print_json, terminal_width

if TYPE_CHECKING:
    from mealkit_runtime.compare import Comparison, Difference

_WAY = {"maximize": "↑", "minimize": "↓"}
_COLOR = {"better": "green", "worse": "red"}


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULT...")
@click.option("--allow-different-data", is_flag=True, help="Compare also what was judged on different data.")
@click.option(
    "--fail-if-worse", "limits", multiple=True, metavar="METRIC[:TOLERANCE]",
    help="End with status 11 when a model is worse than the first in METRIC; the tolerance is a number, "
    "or a part such as 2%. May be repeated.",
)  # fmt: skip
@json_option
def compare(results: tuple[Path, ...], allow_different_data: bool, limits: tuple[str, ...], as_json: bool) -> None:
    """Compare models by their RESULTs: files that `evaluate --result` wrote, or model directories.

    The first is what the others are compared with. Models must have been judged on the same data. Where both were
    evaluated with confidence intervals on the same cases, the change has an interval of its own, found in pairs:
    one that does not hold 0 is marked with *, and is more than chance.

    \b
    Examples:
      mealkit compare today.json candidate.json
      mealkit compare today.json candidate.json --fail-if-worse roc_auc:0.01 --fail-if-worse log_loss:2%
      mealkit compare models/1 models/2 models/3 --json
    """  # noqa: D301
    from mealkit_runtime.compare import check_not_worse, read_judged
    from mealkit_runtime.compare import compare as compare_models

    found = compare_models([read_judged(path) for path in results], allow_different_data=allow_different_data)
    if not as_json:
        show(found)
        check_not_worse(found, limits)
        return
    try:
        check_not_worse(found, limits)
    except WorseError as error:
        print_json({**found.to_json(), "error": error.to_json()})
        fail(error)
    print_json({**found.to_json(), "error": None})


def show(found: Comparison) -> None:
    """The comparison for a person: a row a metric, a column a model."""
    for number, model in enumerate(found.models, 1):
        facts = [model.recipe, model.model[:19], f"{model.cases['cases']:,} cases" if model.cases.get("cases") else ""]
        click.echo(f"{click.style(f'[{number}]', bold=True)} {model.name}  {'  '.join(filter(None, facts))}")
    for table in _tables(found, terminal_width()):
        widths = _widths(table)
        for row in table:
            cells = [
                click.style(text if last else text.ljust(width), fg=color, bold=row is table[0])
                for (text, color), width, last in zip(row, widths, [False] * (len(row) - 1) + [True], strict=True)
            ]
            click.echo("  ".join(cells))
    if found.method != "none":
        how = "in pairs, on the same draws of cases" if found.method == "paired" else "each model's own interval"
        click.echo(f"* more than chance ({how}); ↑ higher is better, ↓ lower is better")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


_Cell = tuple[str, str | None]
"""A text and its colour."""


def _tables(found: Comparison, room: int | None) -> list[list[list[_Cell]]]:
    """All models beside each other; where they do not fit, one table each, if need be without the first's interval."""
    others = list(range(1, len(found.models)))
    ways = ([_table(found, others, own=True)], [_table(found, [one], own=True) for one in others])
    for tables in ways:
        if room is None or all(sum(_widths(one)) + 2 * len(one[0]) - 2 <= room for one in tables):
            return tables
    return [_table(found, [one], own=False) for one in others]


def _table(found: Comparison, others: Sequence[int], *, own: bool) -> list[list[_Cell]]:
    """A row a metric: the first model's value, with its ``own`` interval, and beside it each of the others."""
    head = ["", "[1]", *(cell for place in others for cell in (f"[{place + 1}]", "change", ""))]
    table: list[list[_Cell]] = [[(text, None) for text in head]]
    for metric in found.metrics:
        between = "" if metric.low is None or not own else f"  ({metric.low:.4g} … {metric.high:.4g})"
        row: list[_Cell] = [
            (f"{metric.name} {_WAY[metric.direction]}", None),
            (f"{_number(metric.value)}{between}", None),
        ]
        for place in others:
            other = found.differences[metric.name][place - 1]
            value, change, verdict = _cells(other)
            row += [
                (value, None),
                (change, None),
                (verdict, _COLOR.get(other.verdict) if other.sure is not False else None),
            ]
        table.append(row)
    return table


def _widths(table: Sequence[Sequence[_Cell]]) -> list[int]:
    return [max(len(row[place][0]) for row in table) for place in range(len(table[0]))]


def _cells(other: Difference) -> list[str]:
    if other.verdict == "undefined":
        return [_number(other.value), "", ""]
    between = "" if other.low is None else f" ({other.low:+.4g} … {other.high:+.4g})"
    return [_number(other.value), f"{other.change:+.4g}{between}", f"{other.verdict}{'*' if other.sure else ''}"]


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.6g}"
