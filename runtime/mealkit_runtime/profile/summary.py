"""From what was gathered of a column, and its part of the sample, to the column's profile."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from .measure import DAY
from .tally import NUMBERS, TIMES, Tally
from .value import ColumnProfile, Count, Gap, Histogram, Numbers, Outliers, Texts, Times
from .view import View

TOP = 10
"""So many of the most frequent values are told."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 20

_TAIL, _FAR = 0.01, 3
"""A histogram leaves out the outer hundredths where they are thrice as wide as all the others."""

_EPOCH = dt.datetime(1970, 1, 1)


def summarise(tally: Tally, view: View, same_as: str | None) -> ColumnProfile:
    """One column's profile."""
    kind = tally.kind or "empty"
    plain = kind not in ("other", "empty")
    return ColumnProfile(
        name=tally.name,
        kind=kind,
        stored=tuple(tally.stored),
        missing=tally.missing,
        missing_by_part=view.missing_by_part(),
        distinct=tally.values.distinct if kind != "other" else None,
        # A text column whose first pieces were all numbers may have had 1 and 1.0 told as one value.
        distinct_exact=tally.values.exact and not (kind == "str" and tally.rewritten),
        top=tuple(Count(shown(key, kind), rows) for key, rows in tally.values.top(TOP)) if plain else (),
        top_exact=tally.values.exact,
        same_as=same_as,
        numbers=_numbers(tally, view) if kind in NUMBERS else None,
        texts=_texts(tally) if kind == "str" else None,
        times=_times(tally, kind) if kind in TIMES else None,
    )


def shown(key: str, kind: str) -> str:
    """A counted value as people write it."""
    if kind in TIMES:
        key = key.removesuffix("Z")
        whole, _, rest = key.partition(".")
        key = whole if not rest.strip("0") else key
        return key.removesuffix(" 00:00:00") if kind == "date" else key
    return key


def _numbers(tally: Tally, view: View) -> Numbers:
    found, values = tally.numbers, view.finite
    return Numbers(
        minimum=found.minimum,
        maximum=found.maximum,
        mean=found.moments.mean,
        std=found.moments.std,
        zeros=found.zeros,
        negatives=found.negatives,
        infinite=found.infinite,
        quantiles=_quantiles(values),
        outliers=_outliers(values),
        histogram=histogram(values),
    )


def _quantiles(values: Any) -> dict[str, float]:
    if not len(values):
        return {}
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            str(share): float(value) for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
        }


def _outliers(values: Any) -> Outliers | None:
    if not len(values):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        lower, upper = (float(value) for value in np.quantile(values, (0.25, 0.75)))
        reach = 1.5 * (upper - lower)
    if not np.isfinite([lower, upper, reach, lower - reach, upper + reach]).all():
        return None
    below, above = int((values < lower - reach).sum()), int((values > upper + reach).sum())
    return Outliers(lower - reach, upper + reach, below, above, (below + above) / len(values))


def histogram(values: Any, bins: int = BINS) -> Histogram | None:
    """Bins of one width; whole numbers get bins that all hold as many of them."""
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    with np.errstate(over="ignore", invalid="ignore"):
        inner = [float(value) for value in np.quantile(values, (_TAIL, 1 - _TAIL))]
    if 0 < _FAR * (inner[1] - inner[0]) < high - low:
        low, high = inner
    if low == high or max(-low, high) > 1e300 or high - low < 1e-9 * max(abs(low), abs(high)):
        return None
    if high - low < 2**40 and (values == np.floor(values)).all():
        width = np.ceil((high - low + 1) / bins)
        edges = np.arange(low - 0.5, high + width, width)
    else:
        edges = np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(values, edges)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)), len(values) - int(counts.sum()))


def _texts(tally: Tally) -> Texts:
    found = tally.texts
    return Texts(found.shortest or 0, found.longest, found.lengths.mean or 0.0, found.blanks, found.empty)


def _times(tally: Tally, kind: str) -> Times | None:
    found = tally.times
    if found.first is None or found.last is None:
        return None
    first, last = (_iso(stamp, kind) for stamp in (found.first, found.last))
    if found.too_many:
        return Times(first, last, None, None, None, None)
    steps = np.diff(found.days)
    if not len(steps):
        return Times(first, last, len(found.days), None, 0, None)
    widths, counts = np.unique(steps, return_counts=True)
    step = int(widths[counts.argmax()])
    gaps = int((steps > step).sum())
    longest = None
    if gaps:
        place = int(steps.argmax())
        after, before = (_iso(int(found.days[place + one]) * DAY, "date") for one in (0, 1))
        longest = Gap(after, before, int(steps[place]))
    return Times(first, last, len(found.days), step, gaps, longest)


def _iso(stamp: int, kind: str) -> str:
    try:
        moment = _EPOCH + dt.timedelta(microseconds=stamp)
    except OverflowError:
        return str(np.datetime64(stamp, "us"))
    return moment.date().isoformat() if kind == "date" else moment.isoformat()
