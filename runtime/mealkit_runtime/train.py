"""Mode ``train``: from a dataset to a model directory."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mealkit.data import Data
from mealkit.errors import EmptyDataError, MealkitError, RecipeError
from mealkit.recipe import Recipe, make_data, need_evaluator

from . import model as models
from .dataset import Source, locate, read_table
from .run import Run, disk_error, versions

if TYPE_CHECKING:
    from mealkit.context import Context
    from mealkit.hyperparameters import Hyperparameters


def train(run: Run) -> None:
    """Train a model, judge it on data that were held back, and place it in the model directory.

    The model is written and read again before it is judged: the metrics are those of the model that later runs load.
    """
    config = run.config
    run.found["seed"] = config.seed
    hyperparameters = run.decode()
    models.check_target(config.model, overwrite=config.overwrite)
    source, further = run.locate()
    judged = None if config.validation is None else locate(config.validation, config.query.of_all_rows())
    recipe = run.load_recipe()
    data, validation, columns, context = _read(run, recipe, hyperparameters, source, further, judged)
    name = type(recipe.trainer).__name__
    with models.staged(config.model, run.stopper) as folder:
        with run.stage("train", rows=len(data)), run.author(f"{name}.train"):
            model = recipe.trainer.train(data if validation is None else replace(data, validation=validation), context)
        with run.stage("save"):
            try:
                with run.author(f"{name}.save"):
                    recipe.trainer.save(model, folder / models.ARTIFACT)
                with run.author(f"{name}.load"):
                    model = recipe.trainer.load(folder / models.ARTIFACT)
            except MealkitError as error:
                raise disk_error(error, "saving the model", config.model) from error.__cause__
            files = models.files_of(folder)
        _judge(run, recipe, model, validation, context)
        run.stopper.check()
        facts = {
            "recipe": run.recipe_facts,
            "image": run.image,
            "run_id": config.run_id,
            "created": run.found["started"],
            "seed": config.seed,
            "hyperparameters": run.found["hyperparameters"],
            "metrics": (run.found.get("metrics") or {}).get("metrics"),
            "judged": run.found.get("judged"),
            "input": {**run.found["input"], "rows": run.found["rows_read"]},
            "input_schema": run.spec.input,
            "columns": columns,
            "pickle": bool(recipe.trainer.allow_pickle),
            "versions": versions(),
            "distributions": {item.name: item.version for item in importlib.metadata.distributions() if item.name},
            "files": files,
        }
        with run.stage("commit"):
            stored = models.place(folder, config.model, facts, run.stopper)
    run.found["model"] = {"directory": str(config.model), "digest": stored.digest}


def _read(
    run: Run,
    recipe: Recipe,
    hyperparameters: Hyperparameters,
    source: Source,
    further: dict[str, Source],
    judged: Source | None,
) -> tuple[Data, Data | None, dict[str, Any], Context[Any]]:
    """Training data, validation data, the types of the columns that were read, and the context."""
    from .schema import describe_columns, schema_of, to_frame

    together = recipe.loader.keep_together
    wanted = dict.fromkeys(name for name in (*run.spec.keys, run.spec.target) if name is not None)
    required = () if together is None else (together,)
    schema = schema_of(recipe.input, required, tuple(wanted))
    with run.stage("read") as notes:
        table, found = read_table(source, schema)
        columns = describe_columns(table)
        frame = to_frame(table, found)
        del table
        run.describe_input(source, whole=True)
        run.found["rows_read"] = notes["rows"] = len(frame)
        inputs = run.read_inputs(recipe, further)
        other = None
        if judged is not None:
            again = schema_of(recipe.input, required, tuple(wanted), columns)
            other = to_frame(*read_table(judged, again))
    context = run.context(hyperparameters, inputs)
    with run.stage("prepare") as notes:
        with run.stopper.patient():
            data = make_data(recipe, frame, context)
            validation = None if other is None else make_data(recipe, other, context)
        _need_cases(data, source, "to train on")
        if validation is None:
            name = f"{type(recipe.loader).__name__}.split"
            with run.author(name):
                parts = recipe.loader.split(data, context)
            if not isinstance(parts, tuple) or len(parts) != 2 or not all(isinstance(part, Data) for part in parts):
                raise RecipeError(f"{name} must return (training, validation)", hint="return two Data")
            data, validation = parts
            _need_cases(data, source, "to train on after the split")
        notes["cases"] = len(data)
        notes["validation"] = len(validation)
    return data, validation if len(validation) else None, columns, context


def _need_cases(data: Data, source: Source, what: str) -> None:
    if not len(data):
        raise EmptyDataError(
            f"no case is left {what}",
            where=source.uri,
            hint="prepare dropped every row, or no target is known: name a dataset with cases whose target is known",
        )


def _judge(run: Run, recipe: Recipe, model: Any, validation: Data | None, context: Context[Any]) -> None:
    if validation is None:
        run.warn("there are no validation data, so the model was not judged", "see DataLoader.split, or --validation")
        return
    if recipe.evaluator is None:
        run.warn(f"a recipe of kind {run.spec.kind!r} has no ready evaluator, so the model was not judged")
        return
    with run.stage("evaluate", rows=len(validation)), run.author(f"{type(recipe.evaluator).__name__}.evaluate"):
        run.keep_metrics(need_evaluator(recipe).evaluate(validation, model, context))
    from .judge import identity

    run.found["judged"] = identity(validation)
