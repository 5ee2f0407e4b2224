"""The values of a profile: its page, its screens and its JSON are made of them, and of nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PROFILE_VERSION = 1


@dataclass(frozen=True)
class Count:
    """A value as text, and how many rows have it."""

    value: str
    rows: int


@dataclass(frozen=True)
class Histogram:
    """How many of the sample's values lie in each bin.

    Attributes:
        edges: One more than there are bins.
        counts: One for each bin.
        beyond: Values beyond the ends, where a few far ones would leave all others in one bin.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    beyond: int = 0


@dataclass(frozen=True)
class Outliers:
    """Values of the sample beyond the fences: the quartiles less and plus 1.5 interquartile ranges.

    Attributes:
        low, high: The fences.
        below, above: How many values of the sample lie beyond each.
        share: Their share of the sample's values.
    """

    low: float
    high: float
    below: int
    above: int
    share: float


@dataclass(frozen=True)
class Numbers:
    """A column of numbers; infinite ones are counted, and left out of everything else.

    Attributes:
        minimum, maximum: Of all rows; integers exactly.
        mean, std: Of all rows; the standard deviation has n - 1 below the line, and is None for one value.
        zeros, negatives, infinite: How many of all rows.
        quantiles: Of the sample, interpolated; the keys are texts such as ``"0.25"``.
        outliers, histogram: Of the sample.
    """

    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    zeros: int
    negatives: int
    infinite: int
    quantiles: Mapping[str, float]
    outliers: Outliers | None
    histogram: Histogram | None


@dataclass(frozen=True)
class Texts:
    """A column of texts: lengths in characters, texts with blanks at an end, and empty ones; of all rows."""

    shortest: int
    longest: int
    mean_length: float
    blanks: int
    empty: int


@dataclass(frozen=True)
class Gap:
    """Days between two dates that have rows."""

    after: str
    before: str
    days: int


@dataclass(frozen=True)
class Times:
    """A column of dates or times.

    Attributes:
        first, last: ISO 8601; an instant with a zone is told in UTC.
        days: How many days have rows; None: too many to be counted.
        step: The most frequent distance in days between two days that have rows.
        gaps: How many distances are longer than that.
        longest_gap: The longest of them.
    """

    first: str
    last: str
    days: int | None
    step: int | None
    gaps: int | None
    longest_gap: Gap | None


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    Attributes:
        name: Its name.
        kind: ``int``, ``float``, ``str``, ``bool``, ``datetime``, ``date`` as a row schema has them; ``nested`` for
            lists, structs and binary values; ``mixed`` where files do not agree; ``empty`` where all is missing.
        stored: The types that the files have.
        missing: Rows without a value; NaN counts as missing.
        missing_by_part: The share of missing values in each part of the sample, in the dataset's order.
        distinct: Different values; None for nested ones.
        distinct_exact: False: estimated (HyperLogLog, standard error 0.8 %).
        top: The most frequent values.
        top_exact: False: the counts are lower bounds of a frequent-items sketch.
        same_as: An earlier column that holds the same in every row.
    """

    name: str
    kind: str
    stored: tuple[str, ...]
    missing: int
    missing_by_part: tuple[float, ...]
    distinct: int | None
    distinct_exact: bool
    top: tuple[Count, ...]
    top_exact: bool
    same_as: str | None = None
    numbers: Numbers | None = None
    texts: Texts | None = None
    times: Times | None = None


@dataclass(frozen=True)
class Correlations:
    """Correlations among the columns of numbers; None where one is constant or has too few values.

    Both are of the rows in which neither value is missing.

    Attributes:
        names: The columns.
        pearson: Of all rows; a row and a column for each name.
        spearman: Of ``ranked`` rows of the sample.
        ranked: All of the sample up to 20 columns; evenly chosen ones of it where there are more.
    """

    names: tuple[str, ...]
    pearson: tuple[tuple[float | None, ...], ...]
    spearman: tuple[tuple[float | None, ...], ...]
    ranked: int


@dataclass(frozen=True)
class Group:
    """Rows of the sample that have one value of a feature, or one in a range; ``target`` is their mean target."""

    label: str
    rows: int
    target: float


@dataclass(frozen=True)
class Association:
    """How strongly a column goes with the target.

    Attributes:
        column: The column.
        measure: ``pearson`` (two columns of numbers, all rows), ``correlation ratio`` (a category and numbers, sample),
            or ``uncertainty coefficient`` (two categories, sample: mutual information over the target's entropy).
        value: From -1 to 1 for ``pearson``, else from 0 to 1.
        spearman: Two columns of numbers: the rank correlation in the sample.
        groups: The target by the column's values or tenths.
    """

    column: str
    measure: str
    value: float
    spearman: float | None = None
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Target:
    """The target.

    Attributes:
        column: Its name.
        kind: ``class`` or ``number``.
        shown: What :attr:`Group.target` is: ``mean of y``, or ``share of y = 1``.
        balance: The classes with their rows, the most frequent first; empty for numbers.
        associations: The strongest first.
        left_out: Columns that have too many values, or are nested or times.
    """

    column: str
    kind: str
    shown: str
    balance: tuple[Count, ...]
    associations: tuple[Association, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What an author should know before writing a recipe; ``code`` is stable, ``text`` is for people."""

    code: str
    column: str | None
    text: str


@dataclass(frozen=True)
class Profile:
    """What a dataset is like.

    Attributes:
        uri: As it was given.
        files: How many files it has.
        query: What was asked of it: columns, filters.
        rows: How many rows were read.
        sample: How many of them the sample holds; as many as ``rows``: everything is exact.
        seed: The sample's seed.
        columns: In the dataset's order.
        findings: The gravest first.
    """

    uri: str
    files: int
    query: Mapping[str, Any]
    rows: int
    sample: int
    seed: int
    columns: tuple[ColumnProfile, ...]
    correlations: Correlations | None
    target: Target | None
    findings: tuple[Finding, ...]
    profile_version: int = PROFILE_VERSION

    def column(self, name: str) -> ColumnProfile:
        """The column of a name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def sampled(self) -> bool:
        """Whether quantiles, outliers, ranks and plots are those of a part of the rows."""
        return self.sample < self.rows

    def to_json(self) -> dict[str, Any]:
        """The profile as plain values, all of which JSON has."""
        plain = _finite(asdict(self))
        assert isinstance(plain, dict)
        return plain

    def to_text(self) -> str:
        """The profile as JSON text."""
        return json.dumps(self.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """A value without NaN and infinities, which JSON has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(held) for held in value]
    return value
