"""The one pass over a dataset that makes its profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mealkit.errors import SettingsError
from mealkit_runtime.likeness import listed, nearest

from .association import aim, correlate
from .distinct import CELLS, LEAST, MOST
from .finding import findings
from .moment import CoMoments
from .sample import RowSample
from .summary import summarise
from .tally import Tally
from .value import Profile
from .view import views

SAMPLE = 50_000
"""Rows of the sample, unless the table is very wide."""

_SAMPLE_CELLS = 5_000_000


def survey(
    tables: Iterable[Any],
    *,
    uri: str,
    files: int,
    text: bool,
    target: str | None = None,
    size: int = SAMPLE,
    seed: int = 0,
    query: Mapping[str, Any] | None = None,
    listener: Callable[[int], None] = lambda rows: None,
) -> Profile | None:
    """The profile of Arrow tables that follow each other; None where they have no row.

    Memory is bounded by a piece, the sample (``size`` rows, or 5 million cells) and the different values that are
    counted exactly (20,000 a column, 400,000 in all).

    Args:
        tables: The pieces.
        uri: As the profile tells it.
        files: As the profile tells it.
        query: As the profile tells it.
        text: Values of the format are texts (CSV).
        target: The column that a recipe is to predict.
        size: Rows of the sample.
        seed: Of the sample.
        listener: Told the number of rows that were read, after each piece.

    Raises:
        SettingsError: there is no such target, or it cannot be one.
    """
    tallies: dict[str, Tally] = {}
    products = CoMoments(reserved=target)
    sample: RowSample | None = None
    rows = cap = 0
    for table in tables:
        if not len(table):
            continue
        if sample is None:
            width = max(len(table.column_names), 1)
            cap = min(max(CELLS // width, LEAST), MOST)
            sample = RowSample(min(size, max(_SAMPLE_CELLS // width, LEAST)), seed)
            _check_target(target, table.column_names)
        numbers = {}
        for name in table.column_names:
            if name not in tallies:
                tallies[name] = Tally(name, text, cap)
                if rows:
                    tallies[name].absent(rows)
            found = tallies[name].add(table[name])
            if found is not None:
                numbers[name] = found
        for name in tallies.keys() - set(table.column_names):
            tallies[name].absent(len(table))
        products.add(numbers)
        sample.add(table)
        rows += len(table)
        listener(rows)
    if sample is None:
        return None
    kept = sample.table()
    seen = views(kept, tallies)
    twins = same_as(tallies.values())
    columns = tuple(summarise(tally, seen[name], twins.get(name)) for name, tally in tallies.items())
    correlations = correlate(products.pearson(), seen)
    aimed = aim(target, {one.name: one for one in columns}, seen, correlations) if target is not None else None
    return Profile(
        uri=uri,
        files=files,
        query=dict(query or {}),
        rows=rows,
        sample=len(kept),
        seed=seed,
        columns=columns,
        correlations=correlations,
        target=aimed,
        findings=findings(rows, columns, seen, correlations, aimed),
    )


def same_as(tallies: Iterable[Tally]) -> dict[str, str]:
    """Columns that hold in every row what an earlier one holds; constant and empty ones are left out."""
    first: dict[bytes, str] = {}
    twins = {}
    for tally in tallies:
        if tally.values.distinct < 2:
            continue
        digest = tally.digest.digest()
        if digest in first:
            twins[tally.name] = first[digest]
        else:
            first[digest] = tally.name
    return twins


def _check_target(target: str | None, names: Sequence[str]) -> None:
    if target is None or target in names:
        return
    near = nearest(target, names)
    raise SettingsError(
        f"the dataset has no column {target!r}",
        where=f"--target {target}",
        hint=f"did you mean {near!r}?" if near else f"it has: {listed(names)}",
    )
