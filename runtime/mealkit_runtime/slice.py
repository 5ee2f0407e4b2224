"""Slices: the parts of the judged cases that a column makes, by its values or by ranges of its numbers."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mealkit.data import Data
from mealkit.errors import SettingsError
from mealkit.metrics import Slice

from .interval import Wanted, intervals
from .judge import Judge

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

MOST_VALUES = 10
"""A column of more values is parted by ranges if it is of numbers or times, else by its ten most frequent values."""

RANGES = 4
"""Ranges are quarters: each has as many cases, if no value is too frequent for that."""

RARE = 0.01
"""Values of a smaller part of the cases are judged together, as ``(other)``."""

SLOW_RESAMPLES = 60
"""Of each part, at most so many are judged by evaluators that have no quick way: there may be many parts."""

OTHER, MISSING = "(other)", "(missing)"


def slices(
    judge: Judge, columns: Sequence[pd.Series], wanted: Wanted, tell: Callable[[str], None]
) -> tuple[Slice, ...]:
    """The metrics, with intervals, of each part that each column makes of the judge's cases."""
    wanted = replace(wanted, slow=SLOW_RESAMPLES)
    found = []
    for column in columns:
        for value, places in parts(column):
            try:
                values = judge.some(places).values
            except Exception as error:
                tell(f"the cases with {column.name} {value} cannot be judged alone: {type(error).__name__}: {error}")
                continue
            values, _ = intervals(judge, values, places, wanted, lambda message: None)
            found.append(Slice(str(column.name), value, len(places), values))
    return tuple(found)


def column_of(name: str, frame: pd.DataFrame, data: Data) -> pd.Series:
    """The column by which to part the cases: a feature, a key, the groups, or the input's.

    Args:
        name: Its name.
        frame: The input as it was read.
        data: The prepared cases.

    Raises:
        SettingsError: there is no such column, or it does not belong to cases.
    """
    index = data.features.index
    for candidates in (data.features, data.keys):
        if name in candidates.columns:
            column: pd.Series = candidates[name]
            return column
    if name in index.names:
        return index.get_level_values(name).to_series(index=index, name=name)
    if data.groups is not None and data.groups.name == name:
        return data.groups
    if name not in frame.columns:
        known = list(map(str, dict.fromkeys((*data.features.columns, *data.keys.columns, *frame.columns))))
        near = difflib.get_close_matches(name, known, n=1)
        raise SettingsError(
            f"there is no column {name!r} to part the cases by",
            where=f"slice {name}",
            hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known[:20])}",
        )
    levels = [level for level in index.names if level is not None]
    if levels and all(level in frame.columns for level in levels):
        by_case = frame.groupby(levels, sort=False, dropna=False)[name]
        if (by_case.nunique(dropna=False) <= 1).all():
            return by_case.first().reindex(index).rename(name)
        why = f"it has several values within one {' and '.join(map(str, levels))}"
    elif index.nlevels == 1 and index.isin(frame.index).all():
        return frame[name].loc[index]
    else:
        why = "the prepared cases have another index than the input's rows"
    raise SettingsError(
        f"the input's column {name!r} does not belong to cases: {why}",
        where=f"slice {name}",
        hint="name a feature or a key, or keep the column in the frame that prepare returns",
    )


def parts(column: pd.Series) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """The parts that a column makes: what is in them, and the places of their cases; none is empty."""
    import numpy as np

    places = np.arange(len(column))
    missing = column.isna().to_numpy()
    known, there = column[~missing], places[~missing]
    found = _ranges(known, there) if _has_ranges(known) else _values(known, there)
    if missing.any():
        found.append((MISSING, places[missing]))
    return found


def _has_ranges(known: pd.Series) -> bool:
    import pandas as pd

    kind = pd.api.types
    ordered = kind.is_numeric_dtype(known) and not kind.is_bool_dtype(known)
    return bool((ordered or kind.is_datetime64_any_dtype(known)) and known.nunique() > MOST_VALUES)


def _ranges(known: pd.Series, there: npt.NDArray[np.int64]) -> list[tuple[str, npt.NDArray[np.int64]]]:
    import numpy as np

    inner = known.quantile([part / RANGES for part in range(1, RANGES)], interpolation="lower").drop_duplicates()
    code = np.zeros(len(known), dtype=int)
    for edge in inner:
        code += (known > edge).to_numpy()
    texts = [_text(edge) for edge in inner]
    names = [f"≤ {texts[0]}", *(f"{a} < … ≤ {b}" for a, b in itertools.pairwise(texts)), f"> {texts[-1]}"]
    return [(name, there[code == number]) for number, name in enumerate(names) if (code == number).any()]


def _values(known: pd.Series, there: npt.NDArray[np.int64]) -> list[tuple[str, npt.NDArray[np.int64]]]:
    import numpy as np
    import pandas as pd

    codes, levels = pd.factorize(known.map(_text))
    counts = np.bincount(codes, minlength=len(levels))
    falling = sorted(range(len(levels)), key=lambda one: (-counts[one], levels[one]))
    own = [one for one in falling[:MOST_VALUES] if counts[one] >= RARE * len(codes)]
    found = [(str(levels[one]), there[codes == one]) for one in own]
    rest = ~np.isin(codes, own)
    if rest.any():
        found.append((OTHER, there[rest]))
    return found


def _text(value: Any) -> str:
    """A value as people write it; whole numbers without a point, midnights without a time."""
    if hasattr(value, "isoformat"):
        text = str(value.isoformat())
        return text.removesuffix("T00:00:00")
    return f"{value:.6g}" if isinstance(value, float) else str(value)
