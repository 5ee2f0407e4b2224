"""What a training works with: the recipe, its data as they were read, and the earlier model to start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mealkit.data import Data
from mealkit.errors import EmptyDataError, RecipeError
from mealkit.history import History
from mealkit.recipe import Recipe, make_data

from .dataset import Source, fingerprint, locate, read_table
from .model import StoredModel, open_model
from .run import Run

if TYPE_CHECKING:
    import pandas as pd

    from mealkit.context import Context
    from mealkit.hyperparameters import Hyperparameters


@dataclass
class Material:
    """Read once; features are made anew for each set of hyperparameters, which they may depend on.

    Attributes:
        recipe: The recipe's classes.
        source: The main dataset.
        frame: Its rows.
        judged: The rows of the validation dataset; None: a part of ``frame`` is held back.
        inputs: The further datasets.
        columns: The types of the columns that were read.
        data: Fingerprints of all datasets by name.
        earlier: The earlier model to start from, with where it comes from.
        used: Whether the recipe asked for it.
    """

    recipe: Recipe
    source: Source
    frame: pd.DataFrame
    judged: pd.DataFrame | None
    inputs: Mapping[str, pd.DataFrame]
    columns: dict[str, Any]
    data: dict[str, str]
    earlier: tuple[StoredModel, Any] | None = None
    used: bool = False

    def start(self) -> Any:
        """The earlier model, for the recipe's context."""
        self.used = True
        return None if self.earlier is None else self.earlier[1]

    def warm_start(self) -> dict[str, object] | None:
        """Where the earlier model comes from, for the record."""
        if self.earlier is None:
            return None
        stored = self.earlier[0]
        facts = {key: stored.facts.get(key) for key in ("run_id", "image", "recipe")}
        where = {"directory": str(stored.directory), "digest": stored.digest, "artifact": stored.artifact_digest}
        return {**where, **facts, "used": self.used}


def gather(run: Run) -> Material:
    """Import the recipe and read everything.

    Raises:
        DataError: a dataset is not what the recipe declares.
        ModelError: the earlier model is damaged, or another recipe's.
        RecipeError: the recipe cannot be imported, or its model not be loaded.
    """
    from .schema import describe_columns, schema_of, to_frame

    config = run.config
    source, further = run.locate()
    judged = None if config.validation is None else locate(config.validation, config.query.of_all_rows())
    earlier = None if config.warm_start is None else open_model(config.warm_start, run.spec.name)
    recipe = run.load_recipe()
    together = recipe.loader.keep_together
    wanted = dict.fromkeys(name for name in (*run.spec.keys, run.spec.target) if name is not None)
    required = () if together is None else (together,)
    schema = schema_of(recipe.input, required, tuple(wanted))
    with run.stage("read") as notes:
        table, found = read_table(source, schema, bad_rows=run.bad_rows())
        columns = describe_columns(table)
        frame = to_frame(table, found)
        del table
        run.describe_input(source, whole=True)
        notes["rows"] = len(frame)
        inputs = run.read_inputs(recipe, further)
        other = None
        if judged is not None:
            again = schema_of(recipe.input, required, tuple(wanted), columns)
            other = to_frame(*read_table(judged, again, bad_rows=run.bad_rows(main=False)))
    data = {"input": str(run.found["input"]["fingerprint"])}
    if config.checkpoint_dir is not None or config.trials is not None:  # else nobody asks
        named = {**further, **({} if judged is None else {"validation": judged})}
        data |= {name: fingerprint(one, whole=True) for name, one in named.items()}
    material = Material(recipe, source, frame, other, inputs, columns, data)
    if earlier is not None:
        material.earlier = (earlier, run.load_model(recipe, earlier))
    return material


def identity(run: Run, material: Material, hyperparameters: Mapping[str, object]) -> dict[str, Any]:
    """What tells a training with these hyperparameters from others."""
    return {
        "recipe": run.recipe_facts,
        "image": run.image,
        "seed": run.config.seed,
        "hyperparameters": dict(hyperparameters),
        "data": material.data,
        "query": material.source.query.to_json(),
        "warm_start": None if material.earlier is None else material.earlier[0].artifact_digest,
    }


def make_context(run: Run, material: Material, hyperparameters: Hyperparameters) -> Context[Any]:
    """The context of one training, with a history of its own."""
    context = run.context(hyperparameters, material.inputs)
    return replace(context, history=History(), earlier=material.start)


def prepare(run: Run, material: Material, context: Context[Any]) -> tuple[Data, Data | None]:
    """Training data and validation data, as features with their targets.

    Raises:
        EmptyDataError: no case is left.
        RecipeError: the loader failed.
    """
    recipe, source = material.recipe, material.source
    with run.stage("prepare") as notes:
        with run.stopper.patient():
            data = make_data(recipe, material.frame, context)
            validation = None if material.judged is None else make_data(recipe, material.judged, context)
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
    return data, validation if len(validation) else None


def _need_cases(data: Data, source: Source, what: str) -> None:
    if not len(data):
        raise EmptyDataError(
            f"no case is left {what}",
            where=source.uri,
            hint="prepare dropped every row, or no target is known: name a dataset with cases whose target is known",
        )
