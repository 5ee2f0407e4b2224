"""Mode ``evaluate``: judge a trained model on a dataset whose target is known."""

from __future__ import annotations

from mealkit.errors import EmptyDataError
from mealkit.recipe import make_data, need_evaluator

from .dataset import read_table
from .run import Run


def evaluate(run: Run) -> None:
    """Read the whole dataset, prepare it, and let the recipe's evaluator judge the model on it."""
    source, further = run.locate()
    stored = run.open_model()
    hyperparameters = run.decode(stored.facts.get("hyperparameters") or {})
    recipe = run.load_recipe()
    evaluator = need_evaluator(recipe)
    from .schema import schema_of, to_frame

    together = recipe.loader.keep_together
    optional = tuple(dict.fromkeys(name for name in (*run.spec.keys, run.spec.target) if name is not None))
    schema = schema_of(recipe.input, () if together is None else (together,), optional, stored.facts.get("columns"))
    model = run.load_model(recipe, stored)
    with run.stage("read") as notes:
        frame = to_frame(*read_table(source, schema))
        run.describe_input(source, whole=True)
        run.found["rows_read"] = notes["rows"] = len(frame)
        inputs = run.read_inputs(recipe, further)
    context = run.context(hyperparameters, inputs)
    with run.stage("prepare") as notes, run.stopper.patient():
        data = make_data(recipe, frame, context)
        notes["cases"] = len(data)
    if not len(data):
        raise EmptyDataError(
            "no case is left to judge the model on",
            where=source.uri,
            hint="prepare dropped every row, or no target is known: name a dataset with cases whose target is known",
        )
    with run.stage("evaluate", rows=len(data)), run.author(f"{type(evaluator).__name__}.evaluate"):
        metrics = evaluator.evaluate(data, model, context)
    run.keep_metrics(metrics)
