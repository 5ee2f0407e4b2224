"""The report of a run: its result as an HTML page, with the plots that what was judged calls for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mealkit.errors import UsageError
from mealkit.metrics import Curve, Metric, Metrics, Table

from . import plot
from .page import Cell, Grid, Section, page

_SHOWN = 21
"""Of a curve, the table beside it has so many points."""

_MAIN = ("roc_auc", "accuracy", "rmse", "mae", "v_measure", "silhouette", "ndcg_at_10", "mrr")
"""The metric that plots of slices show: the first of these that there is, else the first of all."""


def read_result(file: Path) -> dict[str, Any]:
    """The result that a run wrote.

    Raises:
        UsageError: the file is none, or has nothing to report.
    """
    hint = "name what `mealkit evaluate --result FILE` wrote"
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read the result: {(error.strerror or str(error)).lower()}", where=str(file), hint=hint
        ) from None
    except ValueError:
        raise UsageError("the file is not JSON", where=str(file), hint=hint) from None
    if not isinstance(value, dict) or "recipe" not in value or not (value.get("metrics") or value.get("history")):
        ended = f": the run {value['status']}" if isinstance(value, dict) and "status" in value else ""
        raise UsageError(f"the file has no metrics to report{ended}", where=str(file), hint=hint)
    if isinstance(value.get("metrics"), list):
        value["metrics"] = {"metrics": value["metrics"]}
    return value


def report(result: Mapping[str, Any]) -> str:
    """The page of a run's result.

    Args:
        result: As :meth:`mealkit_runtime.result.RunResult.to_json` writes it; parts may be missing.

    Raises:
        UsageError: matplotlib is missing, or the metrics are none.
    """
    plot.need_matplotlib()
    try:
        metrics = Metrics.from_json(result.get("metrics") or {"metrics": ()})
    except ValueError as error:
        raise UsageError(str(error), hint="was the result written by mealkit, of this version?") from None
    sections = []
    if result.get("warnings"):
        sections.append(Section("Warnings", "\n\n".join(map(str, result["warnings"])), warning=True))
    if metrics.values:
        sections.append(_metrics(metrics))
    sections += [_curve(curve) for curve in metrics.curves]
    actual = next((curve for curve in metrics.curves if curve.name == "predicted_against_actual"), None)
    if actual is not None:
        sections.append(_residuals(actual))
    for table in metrics.tables:
        sections.append(_table(table))
        if table.name == "confusion_matrix" and len(table.rows) > 2:
            sections.append(_by_class(table))
    sections += _slices(metrics)
    sections += _history(result.get("history") or {})
    sections += _settings(result)
    recipe = result.get("recipe") or {}
    name = f"{recipe.get('name', 'recipe')} {recipe.get('version', '')}".strip()
    return page(
        f"{name}: {_MODES.get(str(result.get('mode')), 'report')}", sections, _facts(result), _subtitle(metrics)
    )


_MODES = {"train": "training", "evaluate": "evaluation", "score": "scoring"}


def _facts(result: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    recipe, source = result.get("recipe") or {}, result.get("input") or {}
    model, judged = result.get("model") or {}, result.get("judged") or {}
    query = source.get("query")
    return [
        ("recipe", f"{recipe.get('name', '')} {recipe.get('version', '')}".strip()),
        ("specification", recipe.get("spec_digest")),
        ("image", result.get("image")),
        ("model", model.get("digest")),
        ("data", source.get("uri")),
        ("what was read", json.dumps(query, ensure_ascii=False) if query else None),
        ("fingerprint", source.get("fingerprint")),
        ("rows", result.get("rows_read")),
        ("cases", judged.get("cases")),
        ("seed", result.get("seed")),
        ("run", result.get("run_id")),
        ("started", result.get("started")),
    ]


def _subtitle(metrics: Metrics) -> str:
    boot = metrics.bootstrap
    if boot is None:
        return ""
    part = "" if boot.method == "percentile" else f", of {boot.drawn:,} of them each, scaled"
    return (
        f"Intervals hold the true value in {boot.confidence * 100:.4g} % of such evaluations: percentiles of "
        f"{boot.resamples:,} bootstrap resamples of {boot.units}{part}."
    )


def _metrics(metrics: Metrics) -> Section:
    bounded = any(metric.low is not None for metric in metrics)
    columns = ("metric", "better", "value", *(("from", "to") if bounded else ()))
    rows = tuple(
        (_words(m.name), _WAY[m.direction], _known(m.value), *((m.low, m.high) if bounded else ()))
        for m in metrics.values
    )
    return Section("Metrics", grid=Grid(columns, rows))


_WAY = {"maximize": "higher ↑", "minimize": "lower ↓"}

_TEXTS = {
    "roc": (
        "ROC curve",
        "Of the positive cases, the part that is found, against the part of the negative ones that is taken for "
        "positive, as the threshold falls. Chance is the dashed line.",
    ),
    "precision_recall": (
        "Precision and recall",
        "Of the cases called positive, the part that is; against the part of the positive ones that is found.",
    ),
    "calibration": (
        "Calibration",
        "How often the positive class came true where the model gave this probability; on the dashed line it is right.",
    ),
    "predicted_against_actual": ("Predicted against actual", "On the dashed line a prediction is right."),
    "recall_by_rank": ("Gains", "The part of the relevant items that stands on this rank or above."),
    "precision_by_rank": ("Precision by rank", "The part of the items on this rank or above that is relevant."),
    "confusion_matrix": (
        "Confusion matrix",
        "How many cases of each actual class were predicted to be of each class; the colour is the part of the row.",
    ),
    "queries": ("Queries", "Queries without a relevant item do not count in the metrics."),
    "cluster_sizes": ("Cluster sizes", "How many cases each cluster has."),
}


def _curve(curve: Curve) -> Section:
    title, text = _TEXTS.get(curve.name, (_title(curve.name), ""))
    labels: dict[str, Any] = {"title": title, "x_label": curve.x_label, "y_label": curve.y_label}
    if curve.name in ("roc", "calibration", "precision_recall"):
        drawn = plot.line(
            [(title, curve.x, curve.y)], diagonal=curve.name != "precision_recall", unit_square=True,
            markers=curve.name == "calibration", **labels,
        )  # fmt: skip
    elif curve.name == "predicted_against_actual":
        drawn = plot.scatter(curve.x, curve.y, diagonal=True, **labels)
    else:
        drawn = plot.line([(title, curve.x, curve.y)], markers=len(curve.x) <= 12, **labels)
    return Section(title, text, drawn, _points(curve.x_label, curve.y_label, curve.x, curve.y))


def _residuals(curve: Curve) -> Section:
    error = [actual - predicted for actual, predicted in zip(curve.x, curve.y, strict=True)]
    drawn = plot.scatter(
        curve.y, error, title="Residuals", x_label="predicted", y_label="actual less predicted", zero=True
    )
    text = (
        "What the model missed by, against what it told. A slope or a funnel tells of something that it has not learnt."
    )
    return Section("Residuals", text, drawn, _points("predicted", "actual less predicted", curve.y, error))


def _points(x_label: str, y_label: str, x: Sequence[float], y: Sequence[float]) -> Grid:
    step = max(1, math.ceil((len(x) - 1) / (_SHOWN - 1)))
    places = [*range(0, len(x) - 1, step), *([len(x) - 1] if x else [])]
    caption = f"{len(places)} of {len(x)} points" if len(places) < len(x) else ""
    return Grid((x_label, y_label), tuple((_known(x[place]), _known(y[place])) for place in places), caption)


def _table(table: Table) -> Section:
    title, text = _TEXTS.get(table.name, (_title(table.name), ""))
    grid = Grid(table.columns, table.rows)
    drawn = ""
    if table.name == "confusion_matrix":
        classes = [column.removeprefix("predicted ") for column in table.columns[1:]]
        drawn = plot.matrix(
            [[float(cell) for cell in row[1:]] for row in table.rows], [str(row[0]) for row in table.rows], classes,
            title=title, x_label="predicted", y_label="actual", by_row=True, form=",.6g",
        )  # fmt: skip
    elif table.name == "cluster_sizes":
        drawn = plot.bars(
            [str(row[0]) for row in table.rows], [float(row[1]) for row in table.rows], title=title, x_label="cases"
        )
    return Section(title, text, drawn, grid)


def _by_class(matrix: Table) -> Section:
    """What the confusion matrix says of each class alone."""
    names = [str(row[0]) for row in matrix.rows]
    cells = [[float(cell) for cell in row[1:]] for row in matrix.rows]
    actual, called = [sum(row) for row in cells], [sum(column) for column in zip(*cells, strict=True)]
    hits = [cells[place][place] for place in range(len(cells))]
    recall, precision = (
        [hit / count if count else None for hit, count in zip(hits, counts, strict=True)] for counts in (actual, called)
    )
    drawn = plot.bars(names, recall, title="Recall by class", x_label="recall (higher ↑)", points=True)
    text = "Recall: of a class, the part that was predicted so. Precision: of those predicted so, the part that is."
    grid = Grid(("class", "cases", "recall", "precision"), tuple(zip(names, actual, recall, precision, strict=True)))
    return Section("By class", text, drawn, grid)


def _slices(metrics: Metrics) -> list[Section]:
    """A section a column: the main metric of each part as a plot, all metrics as a table."""
    sections = []
    for column in dict.fromkeys(one.column for one in metrics.slices):
        own = [one for one in metrics.slices if one.column == column]
        names = list(dict.fromkeys(metric.name for one in own for metric in one.values))
        found = {(one.value, metric.name): metric for one in own for metric in one.values}
        main = next((n for n in (*_MAIN, *names) if n in names and _any_known(found, n)), names[0] if names else "")
        title = f"By {column}"
        drawn = ""
        if main:
            shown = [found.get((one.value, main)) for one in own]
            whole = next((metric.value for metric in metrics if metric.name == main), math.nan)
            drawn = plot.bars(
                [f"{one.value}  ({one.cases:,})" for one in own], [m.value if m else None for m in shown],
                title=f"{_words(main)} by {column}", x_label=f"{_words(main)} ({_WAY[_direction(found, main)]})",
                low=[m.low if m else None for m in shown], high=[m.high if m else None for m in shown],
                reference=None if math.isnan(whole) else whole, points=True,
            )  # fmt: skip
        rows = tuple(
            (one.value, one.cases, *(_with_interval(found.get((one.value, name))) for name in names)) for one in own
        )
        text = f"The metrics of the cases with each value of {column}; the dashed line is all cases' {_words(main)}."
        grid = Grid((column, "cases", *map(_words, names)), rows)
        sections.append(Section(title, text if main else "", drawn, grid))
    return sections


def _any_known(found: Mapping[tuple[str, str], Metric], name: str) -> bool:
    return any(metric.name == name and not math.isnan(metric.value) for metric in found.values())


def _direction(found: Mapping[tuple[str, str], Metric], name: str) -> str:
    return next(metric.direction for metric in found.values() if metric.name == name)


def _with_interval(metric: Metric | None) -> Cell:
    if metric is None or math.isnan(metric.value):
        return None
    if metric.low is None or metric.high is None:
        return metric.value
    return f"{metric.value:.4g} ({metric.low:.4g} – {metric.high:.4g})"


def _history(history: Mapping[str, Any]) -> list[Section]:
    """A plot a metric, over the steps of training."""
    sections = []
    for name, points in history.items():
        known = [(float(point[0]), float(point[1])) for point in points if None not in point[:2]]
        if len(known) < 2:
            continue
        x, y = [point[0] for point in known], [point[1] for point in known]
        title = f"While training: {_words(name)}"
        drawn = plot.line([(name, x, y)], title=title, x_label="step", y_label=_words(name), markers=len(x) <= 12)
        sections.append(Section(title, "", drawn, _points("step", _words(name), x, y)))
    return sections


def _settings(result: Mapping[str, Any]) -> list[Section]:
    """Hyperparameters and versions."""
    told = (("Hyperparameters", "hyperparameters", "name"), ("Versions", "versions", "library"))
    return [
        Section(title, grid=Grid((column, "value"), tuple((str(name), _plain(value)) for name, value in found.items())))
        for title, key, column in told
        if (found := result.get(key))
    ]


def _plain(value: Any) -> Cell:
    return value if isinstance(value, str | int | float) or value is None else json.dumps(value, ensure_ascii=False)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _title(name: str) -> str:
    words = _words(name)
    return words[:1].upper() + words[1:]


def _words(name: str) -> str:
    return name.replace("_", " ")
