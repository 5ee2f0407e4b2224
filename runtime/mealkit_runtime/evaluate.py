"""Mode ``evaluate``: judge a trained model on a dataset whose target is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mealkit.data import Data
from mealkit.errors import EmptyDataError, RecipeError, storage_error
from mealkit.evaluator import Evaluator
from mealkit.metrics import Metrics
from mealkit.recipe import make_data, need_evaluator

from .dataset import read_table
from .run import Run

if TYPE_CHECKING:
    import pandas as pd

    from mealkit.context import Context


def evaluate(run: Run) -> None:
    """Read the whole dataset, prepare it, and let the recipe's evaluator judge the model on it."""
    if run.config.report is not None:
        from .plot import need_matplotlib

        need_matplotlib()
    source, further = run.locate()
    stored = run.open_model()
    hyperparameters = run.decode(stored.facts.get("hyperparameters") or {})
    recipe = run.load_recipe()
    evaluator = need_evaluator(recipe)
    from .schema import schema_of, to_frame

    together = recipe.loader.keep_together
    required = () if together is None else (together,)
    optional = tuple(dict.fromkeys(name for name in (*run.spec.keys, run.spec.target) if name is not None))
    seen = stored.facts.get("columns")
    schema = schema_of(recipe.input, required, optional, seen)
    # Columns that are only read to part the cases by them are kept from prepare, which never saw them.
    extra = [] if schema.open else [name for name in run.config.slices if name not in {c.name for c in schema.columns}]
    if extra:
        schema = schema_of(recipe.input, required, (*optional, *extra), seen)
    model = run.load_model(recipe, stored)
    with run.stage("read") as notes:
        frame = to_frame(*read_table(source, schema, bad_rows=run.bad_rows()))
        run.describe_input(source, whole=True)
        notes["rows"] = len(frame)
        inputs = run.read_inputs(recipe, further)
    context = run.context(hyperparameters, inputs)
    with run.stage("prepare") as notes, run.stopper.patient():
        data = make_data(recipe, frame.drop(columns=extra, errors="ignore"), context)
        notes["cases"] = len(data)
    if not len(data):
        raise EmptyDataError(
            "no case is left to judge the model on",
            where=source.uri,
            hint="prepare dropped every row, or no target is known: name a dataset with cases whose target is known",
        )
    run.keep_metrics(_judge(run, evaluator, frame, data, model, context))
    if run.config.report is not None:
        _write_report(run)
    run.commit_bad_rows()


def _judge(
    run: Run, evaluator: Evaluator[Any], frame: pd.DataFrame, data: Data, model: Any, context: Context[Any]
) -> Metrics:
    """The metrics, with the intervals and slices that were asked for."""
    import numpy as np

    from .interval import Wanted, intervals
    from .judge import Judge, describe_cases
    from .slice import column_of, slices

    config = run.config
    columns = [column_of(name, frame, data) for name in config.slices]
    name = f"{type(evaluator).__name__}.evaluate"
    judge = Judge(evaluator, data, model, context)
    with run.stage("evaluate", rows=len(data)), run.author(name):
        metrics = judge.whole()
    if not isinstance(metrics, Metrics):
        raise RecipeError(f"{name} returned {type(metrics).__name__}, not mealkit.Metrics", hint="return the metrics")
    run.found["judged"] = describe_cases(data)
    # Always the same draws: those of two models on the same cases can be compared one by one.
    wanted = Wanted(config.confidence, config.bootstrap)
    if wanted.resamples:
        with run.stage("bootstrap", resamples=wanted.resamples):
            values, how = intervals(judge, metrics.values, np.arange(len(data)), wanted, run.warn)
            metrics = replace(metrics, values=values, bootstrap=how)
    if columns:
        with run.stage("slice") as notes:
            metrics = replace(metrics, slices=slices(judge, columns, wanted, run.warn))
            notes["slices"] = len(metrics.slices)
    return metrics


def _write_report(run: Run) -> None:
    from .atomic import write_atomic
    from .report import report

    assert run.config.report is not None
    with run.stage("report"):
        known = {"mode": "evaluate", "run_id": run.config.run_id, "recipe": run.recipe_facts, "image": run.image}
        text = report({**known, **run.found, "warnings": run.warnings, "kind": run.spec.kind})
        try:
            with run.stopper.shielded():
                write_atomic(run.config.report, run.reporter.redact(text))
        except OSError as error:
            raise storage_error(error, "writing the report", run.config.report) from None
