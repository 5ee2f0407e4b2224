"""How columns go with each other and with the target."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from mealkit.errors import SettingsError

from .tally import NUMBERS
from .value import Association, ColumnProfile, Correlations, Group, Target
from .view import View

CLASSES = 20
"""A column of whole numbers with at most so many different ones is a target of classes."""

_CATEGORIES = 100
_ROWS_EACH = 10
"""A column is one of categories while it has at most so many, and so many rows of the sample for each."""

_RANKED = 20_000_000
"""So many values are ranked for Spearman's correlations: rows times columns times columns."""

_GROUPS = 10
_POSITIVE = ("1", "true", "yes")


def correlate(pearson: Mapping[tuple[str, str], float | None], views: Mapping[str, View]) -> Correlations | None:
    """The correlations of the columns of numbers; None where there are fewer than two."""
    pairs = {one for one, _ in pearson}
    names = tuple(name for name, view in views.items() if name in pairs and view.kind in NUMBERS)
    if len(names) < 2:
        return None
    import pandas as pd

    frame = pd.DataFrame(
        {name: np.where(np.isfinite(views[name].numbers), views[name].numbers, np.nan) for name in names}
    )
    # Ranks are taken anew for each pair that misses a value, so a wide table is thinned evenly.
    step = max(1, -(-len(frame) * len(names) ** 2 // _RANKED))
    frame = frame.iloc[::step]
    ranks = frame.corr(method="spearman", min_periods=2).to_numpy()
    return Correlations(
        names,
        tuple(tuple(pearson[one, other] for other in names) for one in names),
        tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in ranks),
        len(frame),
    )


def aim(
    name: str, columns: Mapping[str, ColumnProfile], views: Mapping[str, View], correlations: Correlations | None
) -> Target:
    """What goes with the target.

    Raises:
        SettingsError: the column cannot be a target.
    """
    column, view = columns[name], views[name]
    if column.kind not in ("bool", "str", *NUMBERS):
        raise SettingsError(
            f"the column {name!r} cannot be a target: it is {column.kind}",
            where=f"--target {name}",
            hint="name a column of numbers, texts, or true and false",
        )
    whole = column.kind == "int" and (column.distinct or 0) <= CLASSES
    values, shown, codes = (
        (view.numbers, f"mean of {name}", None) if column.kind in NUMBERS and not whole else _classes(column, view)
    )
    balance = () if codes is None else column.top
    found: list[Association] = []
    left_out: list[str] = []
    for feature, other in views.items():
        if feature == name:
            continue
        one = _associate(name, values, codes, other, correlations)
        if one is None:
            left_out.append(feature)
        else:
            found.append(one)
    found.sort(key=lambda one: (-max(abs(one.value), abs(one.spearman or 0)), one.column))
    kind = "number" if codes is None else "class"
    return Target(name, kind, shown, balance, tuple(found), tuple(left_out))


def _classes(column: ColumnProfile, view: View) -> tuple[Any, str, Any]:
    """Each row's part in the class that is shown, what that is, and each row's class (-1: none)."""
    labels, codes = np.unique(view.labels[~view.missing], return_inverse=True)
    by_row = np.full(view.rows, -1)
    by_row[~view.missing] = codes
    sizes = np.bincount(codes, minlength=len(labels))
    positive = next((place for place, label in enumerate(labels) if str(label).lower() in _POSITIVE), None)
    if len(labels) != 2 or positive is None:
        positive = int(sizes.argmin() if len(labels) == 2 else sizes.argmax()) if len(labels) else 0
    share = np.where(by_row < 0, np.nan, by_row == positive)
    label = labels[positive] if len(labels) else "?"
    return share, f"share of {column.name} = {label}", by_row


def _associate(
    name: str, target: Any, codes: Any, feature: View, correlations: Correlations | None
) -> Association | None:
    if feature.kind in NUMBERS:
        usable = np.isfinite(feature.numbers) & np.isfinite(target)
        groups = _by_range(feature.numbers[usable], target[usable])
        if codes is not None:
            ratio = correlation_ratio(codes[usable], feature.numbers[usable])
            return None if ratio is None else Association(feature.name, "correlation ratio", ratio, None, groups)
        pearson, spearman = _pair(correlations, name, feature.name)
        return None if pearson is None else Association(feature.name, "pearson", pearson, spearman, groups)
    if feature.kind not in ("str", "bool"):
        return None
    usable = ~feature.missing & np.isfinite(target)
    labels, places = np.unique(feature.labels[usable], return_inverse=True)
    if not 1 < len(labels) <= max(2, min(_CATEGORIES, len(places) // _ROWS_EACH)):
        return None
    groups = _by_label(labels, places, target[usable])
    if codes is None:
        ratio = correlation_ratio(places, target[usable])
        return None if ratio is None else Association(feature.name, "correlation ratio", ratio, None, groups)
    share = uncertainty_coefficient(codes[usable], places)
    return None if share is None else Association(feature.name, "uncertainty coefficient", share, None, groups)


def _pair(correlations: Correlations | None, one: str, other: str) -> tuple[float | None, float | None]:
    if correlations is None or one not in correlations.names or other not in correlations.names:
        return None, None
    i, j = correlations.names.index(one), correlations.names.index(other)
    return correlations.pearson[i][j], correlations.spearman[i][j]


def correlation_ratio(codes: Any, numbers: Any) -> float | None:
    """The share of a number's deviation that lies between categories (eta, Pearson 1911); None if it is constant."""
    if len(numbers) < 2:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        centred = numbers - numbers.mean()
        total = float((centred**2).sum())
        _, places = np.unique(codes, return_inverse=True)
        sums, counts = np.bincount(places, centred), np.bincount(places)
        between = float((sums**2 / counts).sum())
        if not np.isfinite(total) or total <= 0 or len(counts) < 2:
            return None
        return float(np.sqrt(min(between / total, 1.0)))


def uncertainty_coefficient(target: Any, feature: Any) -> float | None:
    """The share of the target's entropy that a category takes away (Theil's U); None if the target is constant."""
    from sklearn.metrics import mutual_info_score

    entropy = mutual_info_score(target, target)
    return float(min(max(mutual_info_score(target, feature) / entropy, 0.0), 1.0)) if entropy > 0 else None


def _by_range(numbers: Any, target: Any) -> tuple[Group, ...]:
    """The target by a number's values if there are few, else by its tenths."""
    if not len(numbers):
        return ()
    different = np.unique(numbers)
    if len(different) <= _GROUPS:
        return _by_label([f"{value:g}" for value in different], np.searchsorted(different, numbers), target, keep=True)
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _GROUPS + 1)))
    places = np.searchsorted(edges[1:-1], numbers, side="right")
    labels = [f"{low:.4g} … {high:.4g}" for low, high in pairwise(edges)]
    return _by_label(labels, places, target, keep=True)


def _by_label(labels: Any, places: Any, target: Any, *, keep: bool = False) -> tuple[Group, ...]:
    """The target by categories: all in their order, or the largest ones first and the others together."""
    rows = np.bincount(places, minlength=len(labels))
    sums = np.bincount(places, target, minlength=len(labels))
    order = [place for place in (range(len(labels)) if keep else np.argsort(-rows, kind="stable")) if rows[place]]
    groups = [Group(str(labels[place]), int(rows[place]), float(sums[place] / rows[place])) for place in order]
    if keep or len(groups) <= _GROUPS:
        return tuple(groups)
    rest = order[_GROUPS - 1 :]
    together = int(rows[rest].sum())
    other = Group(f"{len(rest)} others", together, float(sums[rest].sum() / together))
    return (*groups[: _GROUPS - 1], other)
