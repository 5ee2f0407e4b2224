"""A self-contained HTML page: facts, texts, tables and plots; no script, no network, light and dark."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

MOST_ROWS = 400
"""A table shows at most so many rows, and says how many there are."""

Cell = str | int | float | bool | None

_STYLE = """
:root { color-scheme: light dark;
  --surface: #ffffff; --panel: #f6f7f9; --ink: #1b2330; --faint: #667085; --grid: #e3e7ee;
  --good: #11703c; --bad: #b3261e;
  --series-1: #2563c9; --series-2: #c2570c; --series-3: #15803d;
  --series-4: #8b3fc0; --series-5: #0e7490; --series-6: #be185d; }
@media (prefers-color-scheme: dark) { :root {
  --surface: #11151c; --panel: #1a202a; --ink: #e6eaf1; --faint: #98a3b5; --grid: #2b3442;
  --good: #5fd38d; --bad: #ff8a80;
  --series-1: #7ab0ff; --series-2: #ffab70; --series-3: #6fdc96;
  --series-4: #d0a2ff; --series-5: #5fd0e0; --series-6: #ff93bf; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink); font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--grid); }
p { margin: .4rem 0; max-width: 46rem; }
.note, caption, figcaption, summary { color: var(--faint); font-size: .9rem; }
.warning { border-left: 3px solid var(--bad); padding-left: .75rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 1.25rem 0;
  padding: 1rem 1.25rem;  background: var(--panel); border-radius: .5rem; font-size: .92rem; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
figure { margin: .75rem 0; }
svg.plot { display: block; max-width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
caption { text-align: left; padding-bottom: .25rem; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--grid); text-align: left; vertical-align: top; }
th { font-weight: 600; }
td.number, th.number { text-align: right; }
details { margin: .5rem 0; }
summary { cursor: pointer; }
nav a { color: var(--series-1); margin-right: 1rem; }
@media print { main { max-width: none; } details { display: none; } }
"""

# The browser itself is told to load nothing from anywhere.
_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
"""


@dataclass(frozen=True)
class Grid:
    """Rows of cells to show as a table.

    Attributes:
        columns: The headings.
        rows: Each has as many cells as there are columns; None shows as nothing.
        caption: What the table is, in a line.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a page: a heading, and below it what is there of text, plot and table.

    Attributes:
        title: The heading.
        text: Paragraphs, separated by empty lines; shown as they are, not as HTML.
        plot: SVG text of :mod:`mealkit_runtime.plot`.
        grid: A table; beside a plot it has the plot's numbers, and unfolds.
        warning: Whether the text is one that a reader should not miss.
    """

    title: str
    text: str = ""
    plot: str = ""
    grid: Grid | None = None
    warning: bool = False


def page(title: str, sections: Sequence[Section], facts: Sequence[tuple[str, Cell]] = (), subtitle: str = "") -> str:
    """The page as HTML text.

    Args:
        title: The page's own.
        sections: In order; several get links at the top.
        facts: Names and values that stand above all else; those without a value are left out.
        subtitle: A line below the title.
    """
    parts = [_HEAD, f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"]
    parts.append(f"<h1>{html.escape(title)}</h1>\n")
    if subtitle:
        parts.append(f'<p class="note">{html.escape(subtitle)}</p>\n')
    told = [(name, value) for name, value in facts if value not in (None, "")]
    if told:
        pairs = (f"<dt>{html.escape(name)}</dt><dd>{_text(value)}</dd>" for name, value in told)
        parts.append(f"<dl>\n{chr(10).join(pairs)}\n</dl>\n")
    if len(sections) > 2:
        links = (f'<a href="#part-{number}">{html.escape(one.title)}</a>' for number, one in enumerate(sections, 1))
        parts.append(f"<nav>{' '.join(links)}</nav>\n")
    parts += [_section(number, one) for number, one in enumerate(sections, 1)]
    parts.append("</main>\n</body>\n</html>\n")
    return "".join(parts)


def _section(number: int, section: Section) -> str:
    parts = [f'<section id="part-{number}">\n<h2>{html.escape(section.title)}</h2>\n']
    if section.warning:
        parts.append('<div class="warning">\n')
    parts += [
        f"<p>{html.escape(paragraph.strip())}</p>\n" for paragraph in section.text.split("\n\n") if paragraph.strip()
    ]
    if section.warning:
        parts.append("</div>\n")
    if section.plot:
        parts.append(f'<figure class="wide">\n{section.plot}\n</figure>\n')
    if section.grid is not None:
        table = _table(section.grid)
        parts.append(f"<details>\n<summary>the numbers</summary>\n{table}</details>\n" if section.plot else table)
    parts.append("</section>\n")
    return "".join(parts)


def _table(grid: Grid) -> str:
    numeric = [
        all(_is_number(row[place]) or row[place] is None for row in grid.rows) and bool(grid.rows)
        for place in range(len(grid.columns))
    ]
    caption = grid.caption
    if len(grid.rows) > MOST_ROWS:
        caption = f"{caption} (the first {MOST_ROWS:,} of {len(grid.rows):,} rows)".strip()
    lines = ['<div class="wide"><table>\n']
    if caption:
        lines.append(f"<caption>{html.escape(caption)}</caption>\n")
    heads = (
        f'<th scope="col"{_class(number)}>{html.escape(name)}</th>'
        for name, number in zip(grid.columns, numeric, strict=True)
    )
    lines.append(f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n")
    for row in grid.rows[:MOST_ROWS]:
        cells = (f"<td{_class(number)}>{_text(cell)}</td>" for cell, number in zip(row, numeric, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>\n")
    lines.append("</tbody></table></div>\n")
    return "".join(lines)


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _text(cell: Cell) -> str:
    """A cell as HTML: six significant digits of a number, thousands apart."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if cell.is_integer() and abs(cell) < 1e15 else f"{cell:,.6g}"
    return html.escape(cell)
