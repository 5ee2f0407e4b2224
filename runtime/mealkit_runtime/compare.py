"""Results of several models, compared metric by metric: which is better, and whether that may be chance."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mealkit.errors import DataError, UsageError, WorseError
from mealkit.metrics import Bootstrap, Direction, Metric, Metrics

from .interval import tail
from .model import MODEL_FILE

_TOLERANCE = re.compile(r"(?P<number>\d+(\.\d*)?([eE][-+]?\d+)?)(?P<percent>%?)\Z")


@dataclass(frozen=True)
class Judged:
    """A model's judgement, read from a file.

    Attributes:
        name: How it is told from the others: the file or folder.
        recipe: The recipe's name and version.
        model: The digest of the model, where it is known.
        metrics: The metrics.
        fingerprint: That of the input.
        query: What of the input was read, where not all of it.
        cases: Number and digest of the judged cases; empty where the result does not tell.
        held_back: The metrics are of data that training held back from its input.
    """

    name: str
    recipe: str
    model: str
    metrics: Metrics
    fingerprint: str
    query: object
    cases: Mapping[str, Any]
    held_back: bool


@dataclass(frozen=True)
class Difference:
    """How a metric of another model differs from the first one's.

    Attributes:
        value: The other one's value; NaN where it is undefined.
        change: The other's less the first's.
        low: The lower end of the change's interval; None where none is known.
        high: The upper end.
        verdict: ``better``, ``worse``, ``same``, or ``undefined``.
        sure: Whether it is more than chance; None where no interval tells.
    """

    value: float
    change: float
    low: float | None
    high: float | None
    verdict: str
    sure: bool | None


@dataclass(frozen=True)
class Comparison:
    """Several models beside each other; the first is what the others are compared with.

    Attributes:
        models: In the order in which they were given.
        metrics: The first one's metrics that all others have too.
        differences: By metric, one for each further model.
        notes: What a reader should know.
        method: ``paired`` where the models were judged on the same draws of cases, ``intervals`` where only each one's
            own interval is known, ``none`` where there is none.
    """

    models: tuple[Judged, ...]
    metrics: tuple[Metric, ...]
    differences: Mapping[str, tuple[Difference, ...]]
    notes: tuple[str, ...]
    method: str

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""

        def number(value: float | None) -> float | None:
            return None if value is None or not math.isfinite(value) else value

        return {
            "models": [
                {
                    "name": one.name,
                    "recipe": one.recipe,
                    "model": one.model or None,
                    "fingerprint": one.fingerprint or None,
                    "cases": one.cases.get("cases"),
                }
                for one in self.models
            ],
            "method": self.method,
            "metrics": [
                {
                    "name": metric.name,
                    "direction": metric.direction,
                    "values": [number(_value(one, metric.name)) for one in self.models],
                    "differences": [
                        {
                            "change": number(other.change),
                            "low": number(other.low),
                            "high": number(other.high),
                            "verdict": other.verdict,
                            "sure": other.sure,
                        }
                        for other in self.differences[metric.name]
                    ],
                }
                for metric in self.metrics
            ],
            "notes": list(self.notes),
        }


def read_judged(path: Path) -> Judged:
    """The judgement in a run's result file, in a model directory, or in its ``model.json``.

    Raises:
        UsageError: there is none, or the file is something else.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    try:
        raw = file.read_bytes()
        value = json.loads(raw)
    except OSError as error:
        raise UsageError(
            f"cannot read a result: {(error.strerror or str(error)).lower()}", where=str(file), hint=_HINT
        ) from None
    except ValueError:
        raise UsageError("the file is not JSON", where=str(file), hint=_HINT) from None
    if not isinstance(value, dict):
        raise UsageError("the file is no result", where=str(file), hint=_HINT)
    told = value.get("metrics")
    if isinstance(told, list):  # model.json has the values alone
        told = {"metrics": told}
    if not told or not told.get("metrics"):
        ended = f": the run {value['status']}" if value.get("status") not in (None, "succeeded") else ""
        raise UsageError(f"the file has no metrics{ended}", where=str(file), hint=_HINT)
    try:
        metrics = Metrics.from_json(told)
    except ValueError as error:
        raise UsageError(str(error), where=str(file), hint=_HINT) from None
    recipe, source, model = value.get("recipe") or {}, value.get("input") or {}, value.get("model") or {}
    if file.name == MODEL_FILE:  # a model directory is its own model
        model = {"digest": f"sha256:{hashlib.sha256(raw).hexdigest()}"}
    return Judged(
        name=str(path),
        recipe=f"{recipe.get('name', '')} {recipe.get('version', '')}".strip(),
        model=str(model.get("digest", "")) if isinstance(model, dict) else "",
        metrics=metrics,
        fingerprint=str(source.get("fingerprint", "")),
        query=source.get("query"),
        cases=value.get("judged") or {},
        held_back=value.get("mode", "train") == "train",
    )


_HINT = "name what `mealkit evaluate --result FILE` wrote, or a model directory"


def compare(models: Sequence[Judged], *, allow_different_data: bool = False) -> Comparison:
    """Compare each further model with the first.

    Raises:
        UsageError: there are fewer than two, or they have no metric in common.
        DataError: they were judged on different data, and that is not allowed.
    """
    if len(models) < 2:
        raise UsageError("a comparison needs two results", where="mealkit compare", hint=_HINT)
    first, notes = models[0], []
    for other in models[1:]:
        why = _different(first, other)
        if why and not allow_different_data:
            raise DataError(
                f"the models were judged on different data: {why}",
                where=f"{first.name} and {other.name}",
                hint="evaluate both on one dataset, or give --allow-different-data",
            )
        if why:
            notes.append(f"{other.name} was judged on other data than {first.name}: {why}")
        elif first.cases.get("digest") != other.cases.get("digest"):
            counts = " and ".join(f"{one.cases.get('cases', 'unknown')}" for one in (first, other))
            notes.append(f"of the same data, other cases were judged: {counts} of {first.name} and {other.name}")
        elif _of_other_files(first, other):
            notes.append(
                f"the cases of {first.name} and {other.name} are the same by keys and target, but of other files"
            )
    known = [{metric.name: metric.direction for metric in model.metrics} for model in models]
    common = [m for m in first.metrics if all(names.get(m.name) == m.direction for names in known)]
    if not common:
        raise UsageError(
            "the models have no metric in common",
            where=" and ".join(model.name for model in models),
            hint="compare models that were judged by the same evaluator",
        )
    left = sorted({name for names in known for name in names} - {metric.name for metric in common})
    if left:
        notes.append(f"only some of the models have: {', '.join(left)}")
    paired = all(_paired(first, other) for other in models[1:])
    differences = {
        metric.name: tuple(_difference(first, other, metric.name, metric.direction) for other in models[1:])
        for metric in common
    }
    told = any(one.sure is not None for column in differences.values() for one in column)
    if not told:
        notes.append("no result has confidence intervals: what is better may be so by chance")
    method = "paired" if paired and told else "intervals" if told else "none"
    return Comparison(tuple(models), tuple(common), differences, tuple(notes), method)


def check_not_worse(comparison: Comparison, limits: Sequence[str]) -> None:
    """Check that no further model is worse than the first.

    Args:
        comparison: Of the models.
        limits: ``METRIC`` or ``METRIC:TOLERANCE``; the tolerance is a number, or a part of the first's value (``2%``).

    Raises:
        WorseError: one is worse by more than the tolerance, or its metric is undefined.
        UsageError: there is no such metric, or the tolerance is none.
    """
    worse = []
    for limit in limits:
        name, _, text = limit.partition(":")
        metric = next((one for one in comparison.metrics if one.name == name), None)
        if metric is None:
            known = ", ".join(one.name for one in comparison.metrics)
            raise UsageError(
                f"the results have no common metric {name!r}", where="--fail-if-worse", hint=f"there are: {known}"
            )
        tolerance = _tolerance(text, metric.value, limit)
        for model, other in zip(comparison.models[1:], comparison.differences[name], strict=True):
            loss = -other.change if metric.direction == "maximize" else other.change
            if math.isnan(other.value) or loss > tolerance:
                worse.append(
                    f"{name} of {model.name} is {other.value:.6g}, of {comparison.models[0].name} {metric.value:.6g}"
                )
    if worse:
        raise WorseError("; ".join(worse), where=comparison.models[0].name, hint="keep the earlier model")


def _tolerance(text: str, value: float, limit: str) -> float:
    if not text:
        return 0.0
    match = _TOLERANCE.match(text)
    if match is None:
        raise UsageError(
            f"not a tolerance: {text!r}", where=f"--fail-if-worse {limit}", hint="write METRIC:0.01 or METRIC:2%"
        )
    number = float(match["number"])
    return abs(value) * number / 100 if match["percent"] else number


def _different(first: Judged, other: Judged) -> str:
    """Why two judgements are of different data; empty: they are of the same."""
    targets = (first.cases.get("target"), other.cases.get("target"))
    if targets[0] != targets[1] and None not in targets:
        return f"the targets are {targets[0]!r} and {targets[1]!r}"
    digests = (first.cases.get("digest"), other.cases.get("digest"))
    if digests[0] and digests[0] == digests[1]:
        if [] in (first.cases.get("keys"), other.cases.get("keys")) and _of_other_files(first, other):
            return f"{_fingerprints(first, other)}, and no key tells whether the cases are the same"
        return ""
    if first.held_back or other.held_back:
        if all(digests):
            return "their judged cases differ, which training held back from its input"
        return "a training's result does not tell which cases it held back"
    if not first.fingerprint or not other.fingerprint:
        return "a result does not tell what its data were"
    if _of_other_files(first, other):
        return _fingerprints(first, other)
    if first.query != other.query:
        return f"of the same files, {json.dumps(first.query)} and {json.dumps(other.query)} were read"
    return ""


def _of_other_files(first: Judged, other: Judged) -> bool:
    return bool(first.fingerprint and other.fingerprint and first.fingerprint != other.fingerprint)


def _fingerprints(first: Judged, other: Judged) -> str:
    return f"fingerprints {first.fingerprint[:19]} and {other.fingerprint[:19]}"


def _paired(first: Judged, other: Judged) -> bool:
    """Whether both were judged on the same draws of the same cases."""
    one, two = first.metrics.bootstrap, other.metrics.bootstrap
    digest = first.cases.get("digest")
    if one is None or two is None or not digest or digest != other.cases.get("digest") or _different(first, other):
        return False
    return _draws(one) == _draws(two)


def _draws(boot: Bootstrap) -> tuple[object, ...]:
    return boot.resamples, boot.method, boot.units, boot.drawn, boot.seed


def _difference(first: Judged, other: Judged, name: str, direction: Direction) -> Difference:
    before, after = (next(m for m in model.metrics if m.name == name) for model in (first, other))
    change = after.value - before.value
    if math.isnan(change):
        return Difference(after.value, change, None, None, "undefined", None)
    low = high = None
    sure: bool | None = None
    if _paired(first, other):
        low, high = _change_interval(first, other, name)
        if low is not None and high is not None:
            sure = low > 0 or high < 0
    elif None not in (before.low, before.high, after.low, after.high):
        assert before.low is not None
        assert before.high is not None
        assert after.low is not None
        assert after.high is not None
        sure = after.low > before.high or after.high < before.low
    better = change > 0 if direction == "maximize" else change < 0
    verdict = "same" if change == 0 else "better" if better else "worse"
    return Difference(after.value, change, low, high, verdict, sure)


def _change_interval(first: Judged, other: Judged, name: str) -> tuple[float | None, float | None]:
    """The percentile interval of the change, resample by resample."""
    one, two = first.metrics.bootstrap, other.metrics.bootstrap
    assert one is not None
    assert two is not None
    pairs = zip(one.replicates.get(name, ()), two.replicates.get(name, ()), strict=False)
    changes = sorted(after - before for before, after in pairs if before is not None and after is not None)
    if len(changes) * 2 < one.resamples or not changes:
        return None, None
    side = tail(max(one.confidence, two.confidence), one.drawn)
    return _quantile(changes, side), _quantile(changes, 1 - side)


def _quantile(rising: Sequence[float], part: float) -> float:
    place = part * (len(rising) - 1)
    below = math.floor(place)
    above = min(below + 1, len(rising) - 1)
    return rising[below] + (rising[above] - rising[below]) * (place - below)


def _value(model: Judged, name: str) -> float:
    return next((metric.value for metric in model.metrics if metric.name == name), math.nan)
