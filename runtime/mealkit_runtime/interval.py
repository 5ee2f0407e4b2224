"""Confidence intervals of metrics by the bootstrap (Efron, 1979): seeded, by whole groups, of bounded cost.

Cases are drawn anew, with replacement, and judged: what a metric's values then do tells how much it would differ on
other cases of the same kind. Cases of one group (a visitor's, a query's) are not independent: whole groups are drawn.
The interval is the percentile one: the middle of the resamples' values, a little more of it the fewer cases there are
(the expanded percentile interval; Hesterberg, 2015), as plain percentiles of few cases are too narrow. It tells of the
cases' chance alone, not of what training the model again would give.

More than :data:`CASES` cases would cost much and teach little. There a part of so many is drawn once and resampled; its
deviations are scaled by the root of the parts' ratio (m out of n; Politis, Romano and Wolf, 1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from mealkit.errors import MealkitError
from mealkit.metrics import Bootstrap, Metric

from .judge import Judge

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Places = npt.NDArray[np.int64]

CASES = 20_000
"""So many cases a resample has at most (whole groups may make it a few more)."""

SLOW_CASES = 4_000
"""So many, where the evaluator has no quick way to resamples (:meth:`mealkit.Evaluator.resampler`)."""

RESAMPLES = 200
CONFIDENCE = 0.95

_SAME = 1e-9
_DIGITS = 7


@dataclass(frozen=True)
class Wanted:
    """Which intervals are wanted.

    Attributes:
        confidence: The part of such intervals that hold the true value, between 0 and 1.
        resamples: How often cases are drawn anew; 0: no intervals.
        slow: As many at most, where the evaluator has no quick way to them; None: as many.
        seed: What the draws are made from: the same seed and cases give the same draws for every model.
    """

    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    slow: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Units:
    """What is drawn: cases, or groups of them.

    Attributes:
        grouped: Whether they are groups.
        places: The places of the cases, those of one unit together.
        starts: Where in ``places`` each unit begins, and its end: one more than there are units.
    """

    grouped: bool
    places: Places
    starts: Places

    def __len__(self) -> int:
        return len(self.starts) - 1

    def pick(self, chosen: Places) -> Units:
        """Some of the units, in the order of their numbers."""
        import numpy as np

        parts = [self.places[self.starts[one] : self.starts[one + 1]] for one in np.sort(chosen)]
        lengths = [len(part) for part in parts]
        return Units(self.grouped, np.concatenate(parts), np.concatenate(([0], np.cumsum(lengths))))


def units_of(judge: Judge, places: Places) -> Units:
    """What is drawn of the cases at these places."""
    import numpy as np
    import pandas as pd

    groups = judge.groups()
    if groups is None:
        return Units(False, places, np.arange(len(places) + 1))
    codes = pd.factorize(groups.iloc[places], use_na_sentinel=False)[0]
    order = np.argsort(codes, kind="stable")
    return Units(True, places[order], np.concatenate(([0], np.cumsum(np.bincount(codes)))))


def intervals(
    judge: Judge,
    values: tuple[Metric, ...],
    places: Places,
    wanted: Wanted,
    tell: Callable[[str], None],
) -> tuple[tuple[Metric, ...], Bootstrap | None]:
    """The metrics of the cases at these places with their intervals, and how those were found.

    Metrics that are undefined, or are so in half of the resamples, get none; nor does one that is the same in them all
    (no case was wrong, say), which tells nothing of how far it may be off. One that the evaluator gave is kept.

    Args:
        judge: Has judged the whole data before.
        values: The metrics of these cases.
        places: Where the cases stand in the judge's data.
        wanted: Which intervals.
        tell: Is told why there are none.
    """
    import numpy as np

    units = units_of(judge, places)
    if not wanted.resamples:
        return values, None
    if len(units) < 2:
        tell(f"there is only one {'group' if units.grouped else 'case'}: no confidence interval can be found")
        return values, None
    try:
        units, base, measure, random = _part(judge, values, units, CASES, wanted.seed)
        if measure is None and len(units.places) > SLOW_CASES:
            units, base, measure, random = _part(judge, values, units_of(judge, places), SLOW_CASES, wanted.seed)
        times = wanted.resamples if measure is not None else min(wanted.resamples, wanted.slow or wanted.resamples)
        drawn = list(_resamples(judge, measure, units, times, random))
    except Exception as error:
        tell(f"no confidence interval was found: {error}")
        return values, None
    scale = math.sqrt(len(units.places) / len(places))
    side = tail(wanted.confidence, len(units))
    columns: dict[str, tuple[float | None, ...]] = {}
    found = []
    for metric in values:
        column = np.array([one.get(metric.name, math.nan) for one in drawn])
        if scale < 1:
            column = metric.value + (column - base.get(metric.name, math.nan)) * scale
        columns[metric.name] = tuple(None if math.isnan(one) else float(f"{one:.{_DIGITS}g}") for one in column)
        known = column[np.isfinite(column)]
        if metric.low is not None or not math.isfinite(metric.value) or len(known) * 2 < len(column):
            found.append(metric)
            continue
        low, high = np.quantile(known, [side, 1 - side])
        found.append(metric if low == high else replace(metric, low=float(low), high=float(high)))
    how = Bootstrap(
        confidence=wanted.confidence,
        resamples=times,
        method="scaled" if scale < 1 else "percentile",
        units="groups" if units.grouped else "cases",
        drawn=len(units),
        seed=wanted.seed,
        replicates=columns,
    )
    return tuple(found), how


def tail(confidence: float, units: int) -> float:
    """The part of the resamples' values below the interval, and above it.

    Resamples of few units spread too little, by the root of ``(units - 1) / units``, and what they spread by is itself
    uncertain, as Student's t tells: both are made up for (Hesterberg, 2015, section 5.3).
    """
    normal = NormalDist()
    free = max(units - 1, 1)
    return normal.cdf(math.sqrt(units / free) * _student(normal.inv_cdf((1 - confidence) / 2), free))


def _student(z: float, free: int) -> float:
    """The quantile of Student's t where the normal distribution's is ``z``; by its expansion from three degrees on."""
    part = NormalDist().cdf(z)
    if free == 1:
        return math.tan(math.pi * (part - 0.5))
    if free == 2:
        return (2 * part - 1) / math.sqrt(2 * part * (1 - part))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + math.fsum(term / free**power for power, term in enumerate(terms, 1))


def _part(
    judge: Judge, values: tuple[Metric, ...], units: Units, cases: int, seed: int
) -> tuple[Units, dict[str, float], Any, np.random.Generator]:
    """At most about so many cases' units, their metrics, the quick way to resamples of them, and what draws them."""
    import numpy as np

    random = np.random.default_rng(seed)
    part = min(len(units), max(2, math.ceil(len(units) * cases / len(units.places))))
    if part < len(units):
        units = units.pick(random.choice(len(units), part, replace=False))
        values = judge.some(units.places).values
    base = {metric.name: metric.value for metric in values}
    return units, base, _agreeing(judge, base, units), random


def _resamples(
    judge: Judge, measure: Any, units: Units, times: int, random: np.random.Generator
) -> Iterator[dict[str, float]]:
    """The metrics of each resample of the units."""
    import numpy as np

    lengths = np.diff(units.starts)
    of_case = np.repeat(np.arange(len(units)), lengths)
    failures = 0
    for _ in range(times):
        chosen = random.integers(0, len(units), len(units))
        if measure is not None:
            yield dict(measure(np.bincount(chosen, minlength=len(units))[of_case]))
            continue
        if units.grouped:
            within = [np.arange(units.starts[one], units.starts[one + 1]) for one in chosen]
            places = units.places[np.concatenate(within)]
            # A group that was drawn twice is two groups.
            groups = np.repeat(np.arange(len(chosen)), lengths[chosen])
        else:
            places, groups = units.places[chosen], None
        try:
            yield {metric.name: metric.value for metric in judge.some(places, groups)}
        except Exception as error:
            failures += 1
            if failures * 2 > times:
                raise MealkitError(f"the evaluator fails on drawn cases: {type(error).__name__}: {error}") from error
            yield {}


def _agreeing(judge: Judge, whole: dict[str, float], units: Units) -> Any:
    """The evaluator's quick way to resamples, if it gives for the cases as they are what the evaluator gives."""
    import numpy as np

    try:
        measure = judge.quick(units.places)
        given = {} if measure is None else measure(np.ones(len(units.places), dtype=np.int64))
    except Exception:
        return None
    for name, value in whole.items():
        quick = given.get(name)
        if quick is None or math.isnan(quick) != math.isnan(value):
            return None
        if not math.isnan(value) and not math.isclose(quick, value, rel_tol=_SAME, abs_tol=_SAME):
            return None
    return measure


__all__ = ["CASES", "CONFIDENCE", "RESAMPLES", "Units", "Wanted", "intervals", "tail", "units_of"]
