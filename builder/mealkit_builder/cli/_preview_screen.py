"""The first rows of a dataset on a terminal: wide tables are folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ._cell import cell, clip, plain

if TYPE_CHECKING:
    from mealkit_runtime.preview import Preview

_WIDEST = 32
_SPACE = 2


def show(preview: Preview) -> None:
    """Print it, folded to the terminal's width."""
    console = Console(highlight=False)
    many = "1 file" if preview.files == 1 else f"{preview.files:,} files"
    of = f" of {preview.total:,}" if preview.total is not None else ""
    head = Text(plain(preview.uri), style="bold")
    rows = "row" if len(preview.rows) == 1 and not of else f"{len(preview.rows):,}{of} rows"
    head.append(f": the first {rows}, {len(preview.columns):,} columns, {many}", style="default")
    console.print(head, soft_wrap=True)
    number = len(str(len(preview.rows)))
    widths = [_width(preview, place) for place in range(len(preview.columns))]
    for first, last in fold(widths, console.width - number - _SPACE):
        if last - first < len(widths):
            title = f"column {first + 1}" if last - first == 1 else f"columns {first + 1}–{last}"
            console.print(Text(f"{title} of {len(widths)}", style="dim"))
        console.print(_table(preview, first, last, widths))


def fold(widths: list[int], room: int) -> list[tuple[int, int]]:
    """Runs of columns (first, last + 1) that fit; a column wider than the room has a run of its own."""
    runs: list[tuple[int, int]] = []
    first, used = 0, 0
    for place, width in enumerate(widths):
        if place > first and used + width + _SPACE > room:
            runs.append((first, place))
            first, used = place, 0
        used += width + _SPACE
    return [*runs, (first, len(widths))] if widths else []


def _width(preview: Preview, place: int) -> int:
    column = preview.columns[place]
    cells = [cell_len(cell(row[place], _WIDEST).plain) for row in preview.rows]
    heads = [cell_len(plain(column.name)), cell_len(_below(column.type, column.missing))]
    return min(max([*cells, *heads]), _WIDEST)


def _below(kind: str, missing: int) -> str:
    return f"{kind}, {missing:,} missing" if missing else kind


def _table(preview: Preview, first: int, last: int, widths: list[int]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    for place in range(first, last):
        column = preview.columns[place]
        head = Text(clip(plain(column.name), widths[place]), style="bold")
        head.append("\n" + clip(_below(column.type, column.missing), widths[place]), style="dim")
        right = column.type in ("int", "float")
        table.add_column(head, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for number, row in enumerate(preview.rows, 1):
        table.add_row(str(number), *(cell(row[place], widths[place]) for place in range(first, last)))
    return table
