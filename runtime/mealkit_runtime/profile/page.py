"""A profile as a self-contained HTML page: warnings, a table of all columns, and plots of each."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mealkit_runtime import plot
from mealkit_runtime.page import Cell, Grid, Section, page

from .value import Association, ColumnProfile, Correlations, Profile, Target
from .wording import characters, number, percent

_PLOTTED = 60
"""So many columns have plots."""

_CORRELATED = 30
_TELLING = 0.02
"""Most frequent values are drawn where the first of them has more than this share of the rows."""


def html(profile: Profile) -> str:
    """The page.

    Raises:
        UsageError: matplotlib is not installed.
    """
    plot.need_matplotlib()
    return page(profile.uri, list(_sections(profile)), _facts(profile), "what the dataset is like")


def _facts(profile: Profile) -> list[tuple[str, Cell]]:
    asked = ", ".join(f"{name}: {value}" for name, value in profile.query.items())
    return [
        ("rows", profile.rows),
        ("columns", len(profile.columns)),
        ("files", profile.files),
        ("asked for", asked),
        ("target", profile.target.column if profile.target else None),
        (
            "sample",
            f"{profile.sample:,} rows, seed {profile.seed}" if profile.sampled else "all rows: everything is exact",
        ),
    ]


def _sections(profile: Profile) -> Iterator[Section]:
    if profile.findings:
        yield Section("Look out", "\n\n".join(finding.text for finding in profile.findings), warning=True)
    yield Section("Columns", grid=_overview(profile))
    if any(column.missing for column in profile.columns):
        yield _missing(profile)
    if profile.target is not None:
        yield from _target(profile.target)
    if profile.correlations is not None:
        yield _correlations(profile.correlations)
    by_name = {one.column: one for one in profile.target.associations} if profile.target else {}
    for column in profile.columns[:_PLOTTED]:
        yield _column(profile, column, by_name.get(column.name))


def _overview(profile: Profile) -> Grid:
    rows: list[tuple[Cell, ...]] = []
    for column in profile.columns:
        numbers = column.numbers
        least: Cell = _tidy(numbers.minimum) if numbers else None
        greatest: Cell = _tidy(numbers.maximum) if numbers else None
        distinct = None if column.distinct is None else f"{'' if column.distinct_exact else '≈ '}{column.distinct:,}"
        rows.append(
            (
                column.name,
                column.kind,
                percent(column.missing / profile.rows) if column.missing else None,
                distinct,
                least,
                _tidy(numbers.quantiles.get("0.5")) if numbers else None,
                greatest,
                _tidy(numbers.mean) if numbers else None,
                _tidy(numbers.std) if numbers else None,
                _values(column),
            )
        )
    heads = (
        "column",
        "type",
        "missing",
        "distinct",
        "least",
        "median",
        "greatest",
        "mean",
        "std",
        "values",
    )
    return Grid(heads, tuple(rows))


def _values(column: ColumnProfile) -> str | None:
    if column.times is not None:
        return f"{column.times.first} … {column.times.last}"
    if column.numbers is not None or not column.top:
        return None
    return ", ".join(one.value[:20] for one in column.top[:3])


def _tidy(value: float | None) -> float | None:
    """A large number without what follows its point."""
    return value if value is None or not 1e4 <= abs(value) < 1e15 else float(round(value))


def _missing(profile: Profile) -> Section:
    columns = [column for column in profile.columns if column.missing and column.missing_by_part]
    parts = max((len(column.missing_by_part) for column in columns), default=0)
    names = [f"{100 * part // max(parts, 1)} %" for part in range(parts)]
    shown = columns[:_CORRELATED]
    drawn = plot.matrix(
        [column.missing_by_part for column in shown],
        [column.name for column in shown],
        names,
        title="Share of missing values by column and part of the rows",
        x_label="part of the rows, in the dataset's order",
        form=".0%",
    )
    rows = tuple((column.name, column.missing, percent(column.missing / profile.rows)) for column in columns)
    text = "The stronger the colour, the more values are missing in that part of the rows." + _sampled(profile)
    return Section("Missing values", text, drawn, Grid(("column", "missing", "share"), rows))


def _target(target: Target) -> Iterator[Section]:
    if target.balance:
        drawn = plot.bars(
            [one.value for one in target.balance],
            [one.rows for one in target.balance],
            title=f"Rows of each class of {target.column}",
            x_label="rows",
        )
        rows = tuple((one.value, one.rows) for one in target.balance)
        yield Section(f"The classes of {target.column}", "", drawn, Grid((target.column, "rows"), rows))
    if not target.associations:
        return
    text = "Strength goes from 0 to 1; a Pearson correlation is shown without its sign."
    text += " What is weak alone may be strong together."
    if target.left_out:
        text += f"\n\nNot told, for they have too many values or are nested or times: {', '.join(target.left_out)}."
    drawn = plot.bars(
        [one.column for one in target.associations],
        [abs(one.value) for one in target.associations],
        title=f"How strongly columns go with {target.column}",
        x_label=f"strength with {target.column} (dashed: 1, it tells all)",
        reference=1.0,
    )
    cells = tuple((one.column, one.measure, one.value, one.spearman) for one in target.associations)
    yield Section(
        f"What goes with {target.column}", text, drawn, Grid(("column", "measure", "value", "Spearman"), cells)
    )


def _correlations(found: Correlations) -> Section:
    names = found.names[:_CORRELATED]
    size = len(names)
    cells = [[math.nan if value is None else value for value in row[:size]] for row in found.pearson[:size]]
    drawn = plot.matrix(cells, names, names, title="Pearson correlation of columns", diverging=True, form=".2f")
    pairs = [
        (one, found.names[j], found.pearson[i][j], found.spearman[i][j])
        for i, one in enumerate(found.names)
        for j in range(i)
    ]
    pairs.sort(key=lambda pair: -abs(pair[2] or 0))
    text = f"The first {size} columns of numbers." if size < len(found.names) else ""
    return Section("What moves together", text, drawn, Grid(("column", "column", "Pearson", "Spearman"), tuple(pairs)))


def _column(profile: Profile, column: ColumnProfile, association: Association | None) -> Section:
    """A column's distribution, and below it the target by its values."""
    drawn, grid = "", None
    if column.numbers is not None and column.numbers.histogram is not None:
        found = column.numbers.histogram
        drawn = plot.histogram(
            found.counts,
            found.edges,
            title=f"Distribution of {column.name}",
            x_label=column.name + (f" ({found.beyond:,} values lie beyond the ends)" if found.beyond else ""),
            y_label="rows",
        )
    elif column.top and column.top[0].rows > max(1, _TELLING * profile.rows):
        drawn = plot.bars(
            [one.value for one in column.top],
            [one.rows for one in column.top],
            title=f"Most frequent values of {column.name}",
            x_label="rows" if column.top_exact else "rows, at least",
        )
        grid = Grid((column.name, "rows"), tuple((one.value, one.rows) for one in column.top))
    if association is not None and profile.target is not None and len(association.groups) > 1:
        groups = association.groups
        rows = sum(one.rows for one in groups)
        drawn += plot.bars(
            [one.label for one in groups],
            [one.target for one in groups],
            title=f"{profile.target.shown} by {column.name}",
            x_label=f"{profile.target.shown} by {column.name} (dashed: of all)",
            reference=sum(one.target * one.rows for one in groups) / rows,
            points=profile.target.kind == "number",
        )
        heads = (column.name, "rows", profile.target.shown)
        grid = Grid(heads, tuple((one.label, one.rows, one.target) for one in groups))
    return Section(column.name, "; ".join(_words(profile, column)) + ".", drawn, grid)


def _words(profile: Profile, column: ColumnProfile) -> Iterator[str]:
    yield column.kind
    if column.distinct is not None:
        yield f"{'' if column.distinct_exact else 'about '}{column.distinct:,} different values"
    if column.missing:
        yield f"{percent(column.missing / profile.rows)} missing"
    if column.numbers is not None:
        found = column.numbers
        quantiles = (f"{float(share):.0%} {number(value)}" for share, value in found.quantiles.items())
        yield f"quantiles {', '.join(quantiles)}"
        for count, word in ((found.zeros, "zeros"), (found.negatives, "negative"), (found.infinite, "infinite")):
            if count:
                yield f"{count:,} {word}"
        if found.outliers is not None and found.outliers.share:
            ends = f"{number(found.outliers.low)} … {number(found.outliers.high)}"
            yield f"{percent(found.outliers.share)} outliers, beyond {ends}"
    if column.texts is not None:
        yield characters(column.texts.shortest, column.texts.longest)
        if column.top and column.top[0].rows <= _TELLING * profile.rows:
            yield f"such as {', '.join(one.value[:30] for one in column.top[:4])}"
    if column.times is not None:
        yield f"{column.times.first} … {column.times.last}"
        if column.times.days is not None:
            yield f"{column.times.days:,} days"
        if column.times.gaps:
            yield f"{column.times.gaps:,} gaps longer than the usual step of {column.times.step}"
    if column.same_as is not None:
        yield f"the same as {column.same_as}"


def _sampled(profile: Profile) -> str:
    return f" A sample of {profile.sample:,} rows." if profile.sampled else ""
