"""One-line tests for recipe authors: a whole recipe in memory, from a frame to scores.

.. code-block:: python

    def test_recipe():
        result = mealkit.testing.try_recipe(".", frame)
        assert result.metrics["roc_auc"] > 0.7
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .context import Context
from .data import Data
from .describe import describe_project, importable
from .metrics import Metrics
from .project import read_project
from .recipe import Recipe, author_code, load_recipe, make_data, need_evaluator, prepare, score

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Trial", "assert_no_leak", "load", "make_context", "try_recipe"]


@dataclass(frozen=True)
class Trial:
    """What :func:`try_recipe` found.

    Attributes:
        model: The trained model, after it was written and read again.
        training: The data that it was trained on.
        validation: The data that it was judged on.
        metrics: The evaluator's judgement of the validation data.
        scores: Output rows of the whole frame, scored without the target.
    """

    model: Any
    training: Data
    validation: Data
    metrics: Metrics
    scores: pd.DataFrame


def load(root: str | Path) -> Recipe:
    """The recipe in a project folder, with its classes imported."""
    project = read_project(Path(root))
    spec = describe_project(project)
    with importable(project):
        return load_recipe(spec)


def make_context(
    recipe: Recipe,
    *,
    hyperparameters: Mapping[str, object] | None = None,
    inputs: Mapping[str, pd.DataFrame] | None = None,
    seed: int = 0,
) -> Context[Any]:
    """A context for tests: hyperparameters decoded as a platform's would be, no folders, silent."""
    return Context(
        run_id="test",
        hyperparameters=recipe.hyperparameters.decode(hyperparameters or {}),
        inputs=inputs or {},
        kind=recipe.spec.kind,
        target=recipe.spec.target,
        keys=recipe.spec.keys,
        seed=seed,
    )


def try_recipe(
    root: str | Path,
    frame: pd.DataFrame,
    *,
    hyperparameters: Mapping[str, object] | None = None,
    inputs: Mapping[str, pd.DataFrame] | None = None,
    seed: int = 0,
) -> Trial:
    """Train on a part of ``frame``, write and read the model, evaluate on the rest, and score the whole.

    Raises:
        MealkitError: whatever a real run would tell.
    """
    project = read_project(Path(root))
    spec = describe_project(project)
    with importable(project):
        recipe = load_recipe(spec)
        context = make_context(recipe, hyperparameters=hyperparameters, inputs=inputs, seed=seed)
        frame = frame.reset_index(drop=True)
        data = make_data(recipe, frame, context)
        with author_code(f"{type(recipe.loader).__name__}.split"):
            training, validation = recipe.loader.split(data, context)
        with author_code(f"{type(recipe.trainer).__name__}.train"):
            model = recipe.trainer.train(training, context)
        with tempfile.TemporaryDirectory() as folder:
            recipe.trainer.save(model, Path(folder))
            model = recipe.trainer.load(Path(folder))
        with author_code("evaluate"):
            metrics = need_evaluator(recipe).evaluate(validation, model, context)
        without = frame.drop(columns=[spec.target]) if spec.target in frame.columns else frame
        return Trial(model, training, validation, metrics, score(recipe, without, model, context))


def assert_no_leak(recipe: Recipe, frame: pd.DataFrame, changed: pd.DataFrame, context: Context[Any]) -> None:
    """Assert that ``prepare`` gives the same features for ``frame`` and for ``changed``.

    ``changed`` is ``frame`` with all that is only known after the prediction altered (the orders of the journeys that
    are predicted, say).

    Raises:
        AssertionError: a feature differs, which tells that it knows the answer.
    """
    import pandas.testing

    before = prepare(recipe, frame.reset_index(drop=True), context).features
    after = prepare(recipe, changed.reset_index(drop=True), context).features
    pandas.testing.assert_frame_equal(before, after, obj="features")
