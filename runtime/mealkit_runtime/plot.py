"""Plots as SVG text for :mod:`mealkit_runtime.page`: drawn by matplotlib, coloured by the page, the same each time.

Every colour that is drawn stands for a variable of the page's style sheet, so a plot is readable in light and in dark.
Texts stay texts. What is drawn has a size of its own and shrinks with the page.
"""

from __future__ import annotations

import html
import importlib.util
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

from mealkit.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = tuple[str, Sequence[float], Sequence[float]]
"""A line to draw: its name, its x and its y."""

SERIES = 6
"""So many colours there are for the lines of one plot."""

_COLORS = {"ink": "#010203", "faint": "#010204", "grid": "#010205", "surface": "#010206"}
_COLORS |= {f"series-{number + 1}": f"#0102{16 + number:02x}" for number in range(SERIES)}
"""What is drawn for each variable of the page."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mealkit",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "text.color": _COLORS["ink"],
    "axes.labelcolor": _COLORS["ink"],
    "axes.titlecolor": _COLORS["ink"],
    "axes.edgecolor": _COLORS["faint"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _COLORS["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": _COLORS["faint"],
    "ytick.color": _COLORS["faint"],
    "xtick.labelcolor": _COLORS["ink"],
    "ytick.labelcolor": _COLORS["ink"],
    "legend.frameon": False,
    "legend.labelcolor": _COLORS["ink"],
    "lines.linewidth": 1.8,
}
_MOST_POINTS = 2_000
_MOST_BARS = 40
_LONG = 28


def need_matplotlib() -> None:
    """Check that plots can be drawn here, before work is done for them.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "plots need matplotlib, which is not installed",
            hint="add matplotlib to the recipe's dependencies; outside of an image install mealkit-runtime[report]",
        )


def line(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    unit_square: bool = False,
    markers: bool = False,
) -> str:
    """Lines through points; several have a legend.

    Args:
        lines: At most :data:`SERIES` of them have a colour of their own.
        title: What the plot shows, for those who cannot see it; it is not drawn.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        diagonal: Draw y = x, for comparison.
        unit_square: Both axes go from 0 to 1.
        markers: Also mark each point.
    """
    with _axes(4.8 if unit_square else 6.4, 4.2 if unit_square else 3.6) as (axes, drawn):
        for number, (name, x, y) in enumerate(lines):
            color = _series(number)
            axes.plot(_numbers(x), _numbers(y), color=color, label=name, marker="o" if markers else None, markersize=4)
        if unit_square:
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.02, 1.02)
            axes.set_aspect("equal")
        if diagonal:
            _diagonal(axes)
        if len(lines) > 1:
            axes.legend()
        _label(axes, x_label, y_label)
    return _svg(drawn, title)


def scatter(
    x: Sequence[float],
    y: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    zero: bool = False,
) -> str:
    """Points; of more than 2,000 evenly chosen ones.

    Args:
        x: Where they are, horizontally.
        y: Where they are, vertically.
        title: What the plot shows, for those who cannot see it.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        diagonal: Draw y = x, for comparison.
        zero: Draw y = 0, for comparison.
    """
    step = max(1, math.ceil(len(x) / _MOST_POINTS))
    with _axes(5.2, 4.2) as (axes, drawn):
        axes.plot(
            _numbers(x[::step]), _numbers(y[::step]), linestyle="none", marker="o", markersize=4,
            markeredgewidth=0, color=_series(0), alpha=0.55,
        )  # fmt: skip
        if diagonal:
            _diagonal(axes)
        if zero:
            axes.axhline(0, color=_COLORS["faint"], linewidth=1, linestyle=(0, (4, 3)))
        _label(axes, x_label, y_label)
    return _svg(drawn, title)


def bars(
    names: Sequence[str],
    values: Sequence[float | None],
    *,
    title: str,
    x_label: str,
    low: Sequence[float | None] | None = None,
    high: Sequence[float | None] | None = None,
    reference: float | None = None,
    points: bool = False,
) -> str:
    """One horizontal bar a name, the first on top; at most 40.

    Args:
        names: Long ones are cut.
        values: None draws nothing.
        title: What the plot shows, for those who cannot see it.
        x_label: Of the horizontal axis.
        low: The lower ends of the values' intervals.
        high: The upper ends.
        reference: A value to compare with, drawn across all bars.
        points: Points instead of bars, for values that do not begin at 0.
    """
    names, values = names[:_MOST_BARS], values[:_MOST_BARS]
    rows = list(range(len(names)))
    with _axes(6.4, 0.7 + 0.34 * max(len(names), 2)) as (axes, drawn):
        widths = [math.nan if value is None else float(value) for value in values]
        if points:
            axes.plot(widths, rows, linestyle="none", marker="o", markersize=6, color=_series(0))
        else:
            axes.barh(rows, widths, height=0.62, color=_series(0), alpha=0.85)
        for row, (start, end) in enumerate(zip(low or (), high or (), strict=True)):
            if start is not None and end is not None and row < len(rows):
                axes.plot([start, end], [row, row], color=_COLORS["ink"], linewidth=1.4, marker="|", markersize=7)
        if reference is not None:
            axes.axvline(reference, color=_series(1), linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_yticks(rows, [_cut(name) for name in names])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        _label(axes, x_label, "")
    return _svg(drawn, title)


def matrix(
    cells: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    by_row: bool = False,
    diverging: bool = False,
    form: str = ",.3g",
) -> str:
    """A table of numbers whose cells are the stronger coloured the larger they are.

    Args:
        cells: One sequence a row; NaN leaves a cell empty.
        rows: Names of the rows.
        columns: Names of the columns.
        title: What the plot shows, for those who cannot see it.
        x_label: What the columns are.
        y_label: What the rows are.
        by_row: The colour tells the cell's part of its row, instead of the largest cell.
        diverging: Negative numbers have another colour (a correlation).
        form: How the numbers are written, as of :func:`format`.
    """
    from matplotlib.patches import Rectangle

    wide, high = max(len(columns), 1), max(len(rows), 1)
    written = wide <= 16
    with _axes(2.2 + min(0.62 * wide, 9), 1.2 + min(0.42 * high, 9)) as (axes, drawn):
        largest = max((abs(cell) for row in cells for cell in row if not math.isnan(cell)), default=0) or 1
        for top, row in enumerate(cells):
            whole = sum(abs(cell) for cell in row if not math.isnan(cell)) or 1 if by_row else largest
            for left, cell in enumerate(row):
                if math.isnan(cell):
                    continue
                color = _series(1 if diverging and cell < 0 else 0)
                strength = 0.04 + 0.54 * min(abs(cell) / whole, 1)
                axes.add_patch(Rectangle((left, top), 1, 1, facecolor=color, edgecolor="none", alpha=strength))
                if written:
                    axes.text(left + 0.5, top + 0.5, format(cell, form), ha="center", va="center", fontsize=9)
        axes.set_xlim(0, wide)
        axes.set_ylim(high, 0)
        turned = 0 if sum(len(_cut(name)) for name in columns) <= 8 * wide else 35
        names = [_cut(name) for name in columns]
        places = [place + 0.5 for place in range(wide)]
        axes.set_xticks(places, names, rotation=turned, ha="right" if turned else "center")
        axes.set_yticks([place + 0.5 for place in range(high)], [_cut(name) for name in rows])
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        _label(axes, x_label, y_label)
    return _svg(drawn, title)


def histogram(
    counts: Sequence[float], edges: Sequence[float], *, title: str, x_label: str, y_label: str = "cases"
) -> str:
    """Counts between edges, of which there is one more.

    Args:
        counts: One a bin.
        edges: In rising order, one more than counts.
        title: What the plot shows, for those who cannot see it.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
    """
    with _axes(6.4, 3.0) as (axes, drawn):
        axes.stairs(_numbers(counts), _numbers(edges), fill=True, color=_series(0), alpha=0.85)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        _label(axes, x_label, y_label)
    return _svg(drawn, title)


def colors() -> Mapping[str, str]:
    """The page's variables, each with the colour that plots draw for it."""
    return dict(_COLORS)


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Axes, StringIO]]:
    """Axes to draw on, and the text that has the drawing after the block; sizes in inches, as matplotlib's."""
    need_matplotlib()
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn = StringIO()
    # The style of whoever runs this (a matplotlibrc, a notebook) does not count.
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot(), drawn
        with warnings.catch_warnings():
            # Texts stay texts: it is the browser that needs a font with their letters.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def _svg(drawn: StringIO, title: str) -> str:
    """A drawing as an element of a page: no prologue, no metadata, no style for others, colours of the page."""
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s*<defs>\s*<style type="text/css">.*?</style>\s*</defs>', "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([A-Za-z_][\w.-]*)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = text.replace("xlink:href", "href")
    for name, color in _COLORS.items():
        text = text.replace(color, f"var(--{name})")
    head, _, body = text.partition(">")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    assert size is not None, "matplotlib writes the size of a drawing into its viewBox"
    head = (
        f'<svg class="plot" role="img" aria-label="{html.escape(title)}" width="{float(size[1]) * 4 / 3:.0f}" '
        f'viewBox="0 0 {size[1]} {size[2]}"'
    )
    return f"{head}>{body}".strip()


def _series(number: int) -> str:
    return _COLORS[f"series-{number % SERIES + 1}"]


def _diagonal(axes: Axes) -> None:
    limits = axes.get_xlim(), axes.get_ylim()
    axes.axline((0, 0), slope=1, color=_COLORS["faint"], linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _numbers(values: Sequence[float]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _cut(name: Any) -> str:
    text = " ".join(str(name).split()) or "(empty)"
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
