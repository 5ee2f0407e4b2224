"""The in-memory verbs: loading classes, preparing, making data, scoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recipes import Make

import mealkit.testing
from mealkit.errors import ProjectError, RecipeError, UsageError
from mealkit.recipe import Recipe, load_class, make_data, need_evaluator, prepare, score
from mealkit.trainer import Trainer

FRAME = pd.DataFrame({"id": [7, 8, 9, 10], "x": [0.0, 1.0, 2.0, 3.0], "y": [0, 1, 0, 1]})
MORE = 'target = "y"\nkeys = ["id"]\n'
LOADER = MORE + 'loader = "PACKAGE.model:Loader"\n'


def load(root: Path) -> Recipe:
    return mealkit.testing.load(root)


def loader(body: str) -> str:
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return f"class Loader(mealkit.DataLoader):\n{lines}\n"


def data(recipe: Recipe, frame: pd.DataFrame = FRAME) -> mealkit.Data:
    return make_data(recipe, frame, mealkit.testing.make_context(recipe))


# Loading


def test_a_recipe_needs_only_a_trainer(make: Make) -> None:
    recipe = load(make())
    assert isinstance(recipe.trainer, Trainer)
    assert type(recipe.loader) is mealkit.DataLoader
    assert type(recipe.scorer) is mealkit.Scorer
    assert type(recipe.evaluator) is mealkit.ClassificationEvaluator
    assert recipe.hyperparameters is mealkit.Hyperparameters
    assert (recipe.saver, recipe.input, recipe.output) == (None, None, None)


def test_a_kind_without_a_ready_evaluator_says_so_when_one_is_needed(make: Make) -> None:
    recipe = load(make(kind="custom"))
    with pytest.raises(UsageError, match="'custom' has no ready evaluator") as caught:
        need_evaluator(recipe)
    assert caught.value.where == "tool.mealkit.evaluator"


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("nowhere_at_all:T", "there is no module 'nowhere_at_all'", "mend the reference"),
        ("mealkit.nowhere:T", "there is no module 'mealkit.nowhere'", "mend the reference"),
        ("mealkit.trainer:Trianer", "has no class 'Trianer'", "mealkit.trainer:Trainer?"),
        ("mealkit.row:Row", "is not a subclass of mealkit.Trainer", "derive it"),
        ("mealkit.recipe:load_class", "is not a subclass of mealkit.Trainer", "derive it"),
    ],
)
def test_a_wrong_reference_is_told(reference: str, message: str, hint: str) -> None:
    with pytest.raises(ProjectError, match=message) as caught:
        load_class(reference, Trainer, "trainer")
    assert caught.value.where == "tool.mealkit.trainer"
    assert hint in str(caught.value.hint)


def test_a_library_that_is_not_installed_is_told(make: Make) -> None:
    with pytest.raises(ProjectError, match="imports 'no_such_library'") as caught:
        load(make(model="import no_such_library.part"))
    assert "[project] dependencies" in str(caught.value.hint)


@pytest.mark.parametrize("line", ["raise ValueError('broken')", "1 / 0"])
def test_a_module_that_fails_is_told_with_file_and_line(make: Make, line: str) -> None:
    root = make(model=f"\n{line}\n")
    with pytest.raises(RecipeError, match="Error: ") as caught:
        load(root)
    file, _, number = str(caught.value.where).rpartition(":")
    assert Path(file).read_text().splitlines()[int(number) - 1] == line


def test_a_class_that_cannot_be_made_is_told(make: Make) -> None:
    root = make(LOADER, model="class Loader(mealkit.DataLoader):\n    def __init__(self): raise OSError('no')")
    with pytest.raises(RecipeError, match="OSError: no"):
        load(root)


# Preparing


def test_prepare_never_sees_the_target(make: Make) -> None:
    recipe = load(
        make(LOADER, model=loader("def prepare(self, frame, context):\n    return frame.assign(n=len(frame.columns))"))
    )
    assert "y" in FRAME.columns
    assert list(data(recipe).features.columns) == ["x", "n"]
    with_target = prepare(recipe, FRAME, mealkit.testing.make_context(recipe))
    without = prepare(recipe, FRAME.drop(columns="y"), mealkit.testing.make_context(recipe))
    pd.testing.assert_frame_equal(with_target.features, without.features)


@pytest.mark.parametrize(
    "body",
    [
        "return frame[['x']]",  # from the input rows of the same index
        "return frame[['x', 'id']]",  # from a column
        "return frame.set_index('id')[['x']]",  # from the index
        "return frame.set_index(['id', 'x'], drop=False)[['x']]",  # from a level
        "return frame[['x']].iloc[::-1]",  # rows reordered
    ],
)
def test_keys_are_taken_from_wherever_they_are(make: Make, body: str) -> None:
    recipe = load(make(LOADER, model=loader(f"def prepare(self, frame, context):\n    {body}")))
    prepared = prepare(recipe, FRAME, mealkit.testing.make_context(recipe))
    assert list(prepared.features.columns) == ["x"]
    assert dict(zip(prepared.keys["id"], prepared.features["x"], strict=True)) == {7: 0, 8: 1, 9: 2, 10: 3}
    assert prepared.keys.index.equals(prepared.features.index)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return frame.reset_index(drop=True).set_axis([10, 11, 12, 13])[['x']]", "lost the column 'id'"),
        ("return frame.set_index(['x', 'y2'])[[]]", "KeyError"),
        ("return frame.assign(k=1).set_index(['x', 'k'])[[]]", "lost the column 'id'"),
        ("return frame['x']", "returned Series, not a DataFrame"),
        ("return None", "returned NoneType, not a DataFrame"),
        ("return frame.set_axis([0, 0, 1, 1])", "index repeats"),
        ("return frame['no such column']", "KeyError"),
    ],
)
def test_what_prepare_may_not_return(make: Make, body: str, message: str) -> None:
    recipe = load(make(LOADER, model=loader(f"def prepare(self, frame, context):\n    {body}")))
    with pytest.raises(RecipeError, match=message):
        data(recipe)


def test_groups_come_beside_the_features(make: Make) -> None:
    recipe = load(make(LOADER, model=loader("keep_together = 'g'")))
    made = data(recipe, FRAME.assign(g=[1, 1, 2, 2]))
    assert made.groups is not None
    assert made.groups.tolist() == [1, 1, 2, 2]


# Making data


def test_cases_of_unknown_target_are_dropped_from_data_and_kept_in_scores(make: Make) -> None:
    body = "def target(self, frame, prepared, context):\n    return frame['y'].shift(-1).loc[prepared.index]"
    recipe = load(make(LOADER, model=loader(body)))
    made = data(recipe)
    assert made.target.tolist() == [1, 0, 1]
    assert made.target.name == "y"
    assert made.keys["id"].tolist() == [7, 8, 9]
    context = mealkit.testing.make_context(recipe)
    model = recipe.trainer.train(made, context)
    assert score(recipe, FRAME.drop(columns="y"), model, context)["id"].tolist() == [7, 8, 9, 10]


def test_every_part_has_the_same_rows_in_the_order_of_prepare(make: Make) -> None:
    body = """
keep_together = 'id'
def prepare(self, frame, context):
    return frame.iloc[[3, 1, 0]][['x']]
def target(self, frame, prepared, context):
    return frame['y'].loc[[0, 3]]
def weights(self, frame, prepared, context):
    return frame['x'] + 1
"""
    made = data(load(make(LOADER, model=loader(body))))
    assert made.features["x"].tolist() == [3, 0]
    assert made.target.tolist() == [1, 0]
    assert made.keys["id"].tolist() == [10, 7]
    assert made.weights is not None
    assert made.groups is not None
    assert made.weights.tolist() == [4, 1]
    assert made.groups.tolist() == [10, 7]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def target(self, f, p, c):\n    return list(f['y'])", "must return a Series"),
        ("def target(self, f, p, c):\n    return f['y'].set_axis([0, 0, 1, 2])", "unique index"),
        ("def target(self, f, p, c):\n    return f['y'].set_axis([1, 2, 3, 4])", "not among the prepared"),
        ("def target(self, f, p, c):\n    raise KeyError('z')", "KeyError"),
        ("def weights(self, f, p, c):\n    return [1, 1, 1, 1]", "weight for each prepared row"),
        ("def weights(self, f, p, c):\n    return f['x'].iloc[:2]", "weight for each prepared row"),
        ("def weights(self, f, p, c):\n    return f['x'] - 1", "negative or missing"),
        ("def weights(self, f, p, c):\n    return f['x'] * float('nan')", "negative or missing"),
    ],
)
def test_what_target_and_weights_may_not_return(make: Make, body: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        data(load(make(LOADER, model=loader(body))))


def test_a_missing_target_column_is_told(make: Make) -> None:
    with pytest.raises(mealkit.MealkitError, match="no target column 'y'") as caught:
        data(load(make(MORE)), FRAME.drop(columns="y"))
    assert caught.value.code == "schema"


# Scoring


SCORER = MORE + 'scorer = "PACKAGE.model:Own"\n'


def scored(root: Path) -> pd.DataFrame:
    recipe = load(root)
    context = mealkit.testing.make_context(recipe)
    return score(recipe, FRAME.drop(columns="y"), recipe.trainer.train(data(recipe), context), context)


def test_the_default_scorer_gives_keys_prediction_and_probability(make: Make) -> None:
    rows = scored(make(MORE))
    assert list(rows.columns) == ["id", "prediction", "probability"]
    assert rows["id"].tolist() == [7, 8, 9, 10]
    assert ((rows["probability"] >= 0.5) == (rows["prediction"] == 1)).all()
    assert list(scored(make(MORE, kind="regression")).columns) == ["id", "prediction"]


def test_the_default_scorer_names_each_class_when_there_are_more(make: Make) -> None:
    recipe = load(make(MORE))
    context = mealkit.testing.make_context(recipe)
    frame = FRAME.assign(y=["a", "b", "c", "a"])
    rows = score(recipe, frame, recipe.trainer.train(data(recipe, frame), context), context)
    assert list(rows.columns) == ["id", "prediction", "probability_a", "probability_b", "probability_c"]
    np.testing.assert_allclose(rows.filter(like="probability_").sum(axis=1), 1)


def test_a_model_that_cannot_predict_is_told(make: Make) -> None:
    recipe = load(make(MORE))
    with pytest.raises(RecipeError, match="type dict: it has no predict"):
        score(recipe, FRAME, {}, mealkit.testing.make_context(recipe))


def test_the_output_schema_orders_the_columns_and_asks_for_each(make: Make) -> None:
    settings = "import mealkit\nclass Out(mealkit.Row):\n    probability: float\n    id: int\n"
    more = MORE + 'output = "PACKAGE.settings:Out"\n'
    assert list(scored(make(more, settings=settings)).columns) == ["probability", "id"]
    with pytest.raises(RecipeError, match="no column 'lift'") as caught:
        scored(make(more, settings=settings + "    lift: float\n"))
    assert "it gave: id, prediction, probability" in str(caught.value.hint)


def test_a_scorer_may_leave_rows_out_and_reorder_them(make: Make) -> None:
    own = "class Own(mealkit.Scorer):\n    def score(self, b, m, c):\n        return b[b['x'] > 0][::-1]\n"
    assert scored(make(SCORER, model=own))["id"].tolist() == [10, 9, 8]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return b['x']", "returned Series"),
        ("return b.reset_index(drop=True).set_axis([4, 5, 6, 7])", "not in the batch"),
        ("return pd.concat([b, b])", "twice"),
        ("return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_a_scorer_may_not_return(make: Make, body: str, message: str) -> None:
    own = f"class Own(mealkit.Scorer):\n    def score(self, b, m, c):\n        {body}\n"
    with pytest.raises(RecipeError, match=message):
        scored(make(SCORER, model=own))


def test_an_authors_error_names_the_authors_line_and_a_mealkit_error_passes(make: Make) -> None:
    body = "def prepare(self, frame, context):\n    return frame.rename(columns=1, index=2, axis=3)"
    root = make(LOADER, model=loader(body))
    with pytest.raises(RecipeError) as caught:
        data(load(root))
    file, _, number = str(caught.value.where).rpartition(":")
    assert "frame.rename" in Path(file).read_text().splitlines()[int(number) - 1]
    body = "def prepare(self, frame, context):\n    raise mealkit.errors.EmptyDataError('nothing here')"
    with pytest.raises(mealkit.MealkitError, match="nothing here") as other:
        data(load(make(LOADER, model="import mealkit.errors\n" + loader(body))))
    assert other.value.code == "empty-data"


# One-line tests


def test_try_recipe_runs_it_all(make: Make) -> None:
    frame = pd.DataFrame({"id": range(60), "x": np.linspace(-1, 1, 60)}).assign(y=lambda f: (f["x"] > 0).astype(int))
    trial = mealkit.testing.try_recipe(make(MORE), frame, seed=3)
    assert trial.metrics["roc_auc"] == 1
    assert (len(trial.training), len(trial.validation), len(trial.scores)) == (48, 12, 60)


def test_assert_no_leak_tells_a_leak_from_none(make: Make) -> None:
    recipe = load(make(LOADER, model=loader("def prepare(self, frame, context):\n    return frame[['x']]")))
    context = mealkit.testing.make_context(recipe)
    mealkit.testing.assert_no_leak(recipe, FRAME, FRAME.assign(y=1 - FRAME["y"], z=3), context)
    with pytest.raises(AssertionError, match="features"):
        mealkit.testing.assert_no_leak(recipe, FRAME, FRAME.assign(x=1), context)
