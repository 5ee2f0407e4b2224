"""Mode ``train``: from a dataset to a model directory."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.data import Data
from mealkit.errors import MealkitError, SettingsError
from mealkit.recipe import Recipe, need_evaluator

from . import model as models
from .checkpoint import CheckpointFolder
from .events import plain
from .identity import differences
from .material import Material, gather, identity, make_context, prepare
from .run import Run, disk_error, versions

if TYPE_CHECKING:
    from mealkit.context import Context


def train(run: Run) -> None:
    """Train a model, judge it on data that were held back, and place it in the model directory.

    The model is written and read again before it is judged: the metrics are those of the model that later runs load.
    """
    config = run.config
    run.found["seed"] = config.seed
    if config.engine is not None:
        from .engine import need_distributed

        need_distributed()
    if config.trials is not None:
        from .trials import search

        search(run)
        return
    if config.resume and config.checkpoint_dir is None:
        raise SettingsError("there is nothing to resume from", where="resume", hint="add --checkpoint-dir DIR")
    hyperparameters = run.decode()
    if existed(run, run.found["hyperparameters"]):
        return
    models.check_target(config.model, overwrite=config.overwrite)
    material = gather(run)
    context = make_context(run, material, hyperparameters)
    context, checkpoints = with_checkpoints(run, material, context, config.checkpoint_dir)
    data, validation = prepare(run, material, context)
    with models.staged(config.model, run.stopper) as folder:
        try:
            model = fit(run, material.recipe, data, validation, context, folder / models.ARTIFACT)
        finally:
            run.found["history"] = plain(context.history.to_json(), run.reporter.redact)
            run.found["training"] = training_facts(material, context, checkpoints)
        if config.resume and checkpoints is not None and not checkpoints.asked:
            run.warn("the recipe saves no checkpoints, or never looks for one: --resume began anew")
        finish(run, material, model, validation, context, folder)


def existed(run: Run, hyperparameters: Mapping[str, Any] | None = None) -> bool:
    """Whether a run of this id has placed its model before: then there is nothing left to do.

    Args:
        run: The run.
        hyperparameters: If given, another training of the same id does not count.
    """
    stored = models.of_run(run.config.model, run.config.run_id, run.spec.name, run.stopper)
    if stored is None or (hyperparameters is not None and _differs(run, stored.facts, hyperparameters)):
        return False
    run.reporter.log("info", f"run {run.config.run_id} has placed its model already; nothing is done again")
    run.found["model"] = stored.to_json()
    metrics = stored.facts.get("metrics")
    run.found["metrics"] = None if metrics is None else {"metrics": metrics}
    for name in ("hyperparameters", "judged", "history", "training", "trials"):
        run.found[name] = stored.facts.get(name)
    return True


def _differs(run: Run, then: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> bool:
    source, _ = run.locate()
    data = run.describe_input(source, whole=True)
    now = {"recipe": run.recipe_facts, "image": run.image, "seed": run.config.seed, "hyperparameters": hyperparameters}
    asked = ("fingerprint", "query")
    return bool(
        differences({name: then.get(name) for name in now}, now)
        or any((then.get("input") or {}).get(name) != data.get(name) for name in asked)
    )


def with_checkpoints(
    run: Run, material: Material, context: Context[Any], folder: Path | None, *, quiet: bool = False
) -> tuple[Context[Any], CheckpointFolder | None]:
    """The context with checkpoints in ``folder``, and the one to go on from found, if that was asked for."""
    if folder is None:
        return context, None
    used = identity(run, material, run.found["hyperparameters"])
    checkpoints = CheckpointFolder(run, folder, used, context.history)
    checkpoints.begin(resume=run.config.resume, quiet=quiet)
    return replace(context, checkpoint=checkpoints, checkpoint_dir=folder), checkpoints


def fit(run: Run, recipe: Recipe, data: Data, validation: Data | None, context: Context[Any], artifact: Path) -> Any:
    """Train, write the model into the folder ``artifact``, and give it as it is read from there."""
    name = type(recipe.trainer).__name__
    with run.stage("train", rows=len(data)), run.author(f"{name}.train"), _spread(run):
        model = recipe.trainer.train(data if validation is None else replace(data, validation=validation), context)
    with run.stage("save"):
        try:
            with run.author(f"{name}.save"):
                recipe.trainer.save(model, artifact)
        except MealkitError as error:
            raise disk_error(error, "saving the model", run.config.model) from error.__cause__
        return load(run, recipe, artifact)


def _spread(run: Run) -> contextlib.AbstractContextManager[None]:
    if run.config.engine is None:
        return contextlib.nullcontext()
    from .cluster_train import spread

    return spread(run)


def load(run: Run, recipe: Recipe, artifact: Path) -> Any:
    """The model that was written into the folder ``artifact``."""
    try:
        with run.author(f"{type(recipe.trainer).__name__}.load"):
            return recipe.trainer.load(artifact)
    except MealkitError as error:
        raise disk_error(error, "reading the model", artifact) from error.__cause__


def finish(
    run: Run,
    material: Material,
    model: Any,
    validation: Data | None,
    context: Context[Any],
    folder: Path,
    more: Mapping[str, object] | None = None,
) -> None:
    """Judge the model that stands in a staged folder, and make it the model directory; ``more`` joins its facts."""
    config, recipe = run.config, material.recipe
    files = models.files_of(folder)
    _judge(run, recipe, model, validation, context)
    run.stopper.check()
    if material.earlier is not None and not material.used:
        run.warn(
            "the recipe made no use of the earlier model: it began from nothing",
            "let its trainer look at context.warm_start, or leave --warm-start out",
        )
    facts = {
        "recipe": run.recipe_facts,
        "image": run.image,
        "run_id": config.run_id,
        "created": run.found["started"],
        "seed": config.seed,
        "hyperparameters": run.found["hyperparameters"],
        "metrics": (run.found.get("metrics") or {}).get("metrics"),
        "judged": run.found.get("judged"),
        "history": run.found.get("history"),
        "training": run.found.get("training"),
        "input": {**run.found["input"], "rows": run.found["rows_read"]},
        "input_schema": run.spec.input,
        "columns": material.columns,
        "pickle": bool(recipe.trainer.allow_pickle),
        "versions": versions(),
        "distributions": {item.name: item.version for item in importlib.metadata.distributions() if item.name},
        **(more or {}),
        "files": files,
    }
    with run.stage("commit"):
        run.commit_bad_rows()
        stored = models.place(folder, config.model, facts, run.stopper)
    run.found["model"] = stored.to_json()


def training_facts(material: Material, context: Context[Any], checkpoints: CheckpointFolder | None) -> dict[str, Any]:
    """How the training went: where it began, what it saved, and what stopped it."""
    return {
        "resumed": None if checkpoints is None else checkpoints.resumed,
        "checkpoints": 0 if checkpoints is None else checkpoints.saved,
        "early_stopping": context.history.watches(),
        "warm_start": material.warm_start(),
    }


def _judge(run: Run, recipe: Recipe, model: Any, validation: Data | None, context: Context[Any]) -> None:
    if validation is None:
        run.warn("there are no validation data, so the model was not judged", "see DataLoader.split, or --validation")
        return
    if recipe.evaluator is None:
        run.warn(f"a recipe of kind {run.spec.kind!r} has no ready evaluator, so the model was not judged")
        return
    with run.stage("evaluate", rows=len(validation)), run.author(f"{type(recipe.evaluator).__name__}.evaluate"):
        run.keep_metrics(need_evaluator(recipe).evaluate(validation, model, context))
    from .judge import describe_cases

    run.found["judged"] = describe_cases(validation)
