"""A dataset's profile on a terminal: warnings first, then columns, the target, and what moves together."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mealkit_runtime.profile.wording import characters, number, percent, round_down

from ._cell import MISSING, bar, clip, plain, spark

if TYPE_CHECKING:
    from mealkit_runtime.profile.value import ColumnProfile, Profile, Target

_NAME = 24
_PAIRS = 10
_GRAVE = {"target-missing", "target-constant", "leak", "imbalanced", "mixed-types", "all-missing"}


def show(profile: Profile) -> None:
    """Print it, at the terminal's width."""
    console = Console(highlight=False)
    many = "1 file" if profile.files == 1 else f"{profile.files:,} files"
    head = Text(plain(profile.uri), style="bold")
    head.append(f": {profile.rows:,} rows, {len(profile.columns):,} columns, {many}", style="default")
    console.print(head, soft_wrap=True)
    if profile.sampled:
        note = f"quantiles, outliers, ranks and categories are those of a sample of {profile.sample:,} rows"
        console.print(Text(f"{note} (seed {profile.seed})", style="dim"))
    if profile.findings:
        _title(console, "look out")
        for finding in profile.findings:
            mark = Text("! ", style="red" if finding.code in _GRAVE else "yellow")
            grid = Table.grid(padding=0)
            grid.add_row(mark, Text(plain(finding.text)))
            console.print(Padding(grid, (0, 0, 0, 2)))
    _title(console, "columns")
    console.print(_columns(profile))
    if any(column.numbers for column in profile.columns):
        _title(console, "numbers")
        console.print(_numbers(profile, console.width))
    if any(column.texts or column.times for column in profile.columns):
        _title(console, "texts and times")
        console.print(_others(profile))
    if profile.target is not None:
        _title(console, f"what goes with {plain(profile.target.column)}")
        _target(console, profile.target)
    pairs = _pairs(profile)
    if pairs:
        _title(console, "what moves together (Pearson of all rows, Spearman of ranks)")
        table = Table.grid(padding=(0, 2))
        for pearson, spearman, one, other in pairs:
            table.add_row(
                Text(f"  {round_down(pearson)}"), Text(f"{spearman:.2f}", style="dim"), Text(f"{one} · {other}")
            )
        console.print(table)


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold cyan"))


def _table(heads: Sequence[str], rows: Sequence[Sequence[Text | str]], right: Container[int], last: bool) -> Table:
    """A table whose columns keep their width, but for the last one where ``last`` says so."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        width = max([cell_len(head), *(cell_len(str(row[place])) for row in rows)])
        table.add_column(
            head,
            justify="right" if place in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if last and place == len(heads) - 1 else width,
        )
    for row in rows:
        table.add_row(*row)
    return table


def _name(column: ColumnProfile) -> Text:
    return Text(clip(plain(column.name), _NAME), style="bold")


def _columns(profile: Profile) -> Table:
    rows = []
    for column in profile.columns:
        missing = percent(column.missing / profile.rows) if column.missing else ""
        distinct = "" if column.distinct is None else f"{'' if column.distinct_exact else '≈'}{column.distinct:,}"
        rows.append((_name(column), column.kind, missing, distinct, _values(profile, column)))
    return _table(("", "type", "missing", "distinct", ""), rows, (2, 3), last=True)


def _values(profile: Profile, column: ColumnProfile) -> Text:
    """What the values are like, in a line."""
    if column.numbers is not None and column.numbers.minimum is not None:
        shape = spark(column.numbers.histogram.counts) if column.numbers.histogram else ""
        text = Text(f"{number(column.numbers.minimum)} … {number(column.numbers.maximum or 0)}  ")
        return text.append(shape, style="cyan")
    if column.times is not None:
        return Text(f"{column.times.first} … {column.times.last}")
    if column.kind == "other":
        return Text(plain(", ".join(column.stored)), style="dim")
    if not column.top or (column.top[0].rows == 1 and column.kind == "str"):
        return Text(f"such as {plain(column.top[0].value)}" if column.top else "", style="dim")
    if column.kind == "str" and column.top[0].rows < 0.05 * profile.rows:
        return Text("such as " + ", ".join(clip(plain(one.value), 16) for one in column.top[:4]), style="dim")
    shares = (f"{clip(plain(one.value), 16)} {percent(one.rows / profile.rows)}" for one in column.top[:4])
    return Text("  ".join(shares))


_QUANTILES = (("5 %", "0.05"), ("25 %", "0.25"), ("median", "0.5"), ("75 %", "0.75"), ("95 %", "0.95"))


def _numbers(profile: Profile, width: int) -> Table:
    """Mean, deviation and as many quantiles as fit."""
    for shown in (_QUANTILES, _QUANTILES[1:4], _QUANTILES[2:3]):
        rows: list[tuple[Text | str, ...]] = []
        for column in profile.columns:
            found = column.numbers
            if found is None or not found.quantiles:
                continue
            moments = (MISSING if value is None else number(value) for value in (found.mean, found.std))
            quantiles = (number(found.quantiles[share]) for _, share in shown)
            outliers = percent(found.outliers.share) if found.outliers and found.outliers.share else ""
            rows.append((_name(column), *moments, *quantiles, outliers))
        heads = ("", "mean", "std", *(name for name, _ in shown), "outliers")
        used = (max(cell_len(str(cell)) for cell in cells) + 2 for cells in zip(heads, *rows, strict=True))
        if sum(used) <= width:
            break
    return _table(heads, rows, range(1, len(heads)), last=False)


def _others(profile: Profile) -> Table:
    table = Table.grid(padding=(0, 2))
    for column in profile.columns:
        line = ", ".join(_facts(column))
        if line:
            table.add_row(_name(column), Text(line))
    return table


def _facts(column: ColumnProfile) -> Iterator[str]:
    if column.texts is not None:
        found = column.texts
        yield characters(found.shortest, found.longest)
        if found.shortest != found.longest:
            yield f"{found.mean_length:.1f} on average"
        if found.empty:
            yield f"{found.empty:,} empty"
    if column.times is not None:
        times = column.times
        if times.days is not None:
            yield f"{times.days:,} days"
        if times.step is not None:
            yield "mostly every day" if times.step == 1 else f"mostly every {times.step} days"
        if times.gaps and times.longest_gap:
            yield f"{times.gaps:,} longer gaps, up to {times.longest_gap.days:,} days after {times.longest_gap.after}"


def _target(console: Console, target: Target) -> None:
    if target.balance:
        total = sum(one.rows for one in target.balance)
        table = Table.grid(padding=(0, 2))
        for one in target.balance:
            share = one.rows / total
            label = Text(f"  {clip(plain(one.value), _NAME)}")
            table.add_row(label, Text(f"{one.rows:,}", justify="right"), percent(share), Text(bar(share), style="cyan"))
        console.print(table)
        console.print()
    rows = []
    for found in target.associations[:20]:
        ranks = "" if found.spearman is None else f"{found.spearman:.2f}"
        strength = Text(bar(abs(found.value)), style="cyan")
        rows.append((Text(clip(plain(found.column), _NAME)), round_down(found.value), strength, ranks, found.measure))
    console.print(_table(("", "strength", "", "ranks", "measure"), rows, (1, 3), last=True))
    if len(target.associations) > 20:
        console.print(Text(f"… and {len(target.associations) - 20} weaker columns (--json has all)", style="dim"))
    if target.left_out:
        console.print(Text(f"not told: {', '.join(map(plain, target.left_out))}", style="dim"))


def _pairs(profile: Profile) -> list[tuple[float, float, str, str]]:
    """The strongest pairs of columns that are not the target."""
    found = profile.correlations
    if found is None:
        return []
    target = profile.target.column if profile.target else None
    pairs = [
        (pearson, found.spearman[i][j] or 0.0, plain(one), plain(found.names[j]))
        for i, one in enumerate(found.names)
        for j in range(i)
        if (pearson := found.pearson[i][j]) is not None and abs(pearson) >= 0.3 and target not in (one, found.names[j])
    ]
    return sorted(pairs, key=lambda pair: (-abs(pair[0]), pair[2:]))[:_PAIRS]
