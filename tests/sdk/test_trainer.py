"""Saving and loading models: skops by default, nothing untrusted, pickle only by choice."""

from __future__ import annotations

from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer

import mealkit
from mealkit.errors import ModelError


class Plain(mealkit.Trainer[mealkit.Hyperparameters, Any]):
    def train(self, data: mealkit.Data, context: mealkit.Context[mealkit.Hyperparameters]) -> Any:
        return None


X = np.random.default_rng(0).random((80, 3))
Y = (X.sum(axis=1) > 1.5).astype(int)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        HistGradientBoostingClassifier(max_iter=5),
        RandomForestClassifier(5),
        KNeighborsClassifier(),
        make_pipeline(SplineTransformer(), LogisticRegression()),
        make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0])), DummyClassifier()),
        make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_scikit_learn_fits_comes_back(tmp_path: Path, model: Any) -> None:
    model.fit(X, Y)
    Plain().save(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.skops"]
    np.testing.assert_array_equal(Plain().load(tmp_path).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (np.testing.assert_equal, "numpy.testing"),  # beside numpy.testing.runstring, which runs code
        (np.load, "numpy"),
        (skops.io.load, "skops"),
        (skops.io.get_untrusted_types, "skops"),
    ],
)
def test_a_function_that_could_do_anything_is_refused(tmp_path: Path, function: Any, name: str) -> None:
    skops.io.dump(FunctionTransformer(function), tmp_path / "model.skops")
    with pytest.raises(ModelError, match=name) as caught:
        Plain().load(tmp_path)
    assert "Trainer.trusted_types" in str(caught.value.hint)
    assert caught.value.where == str(tmp_path / "model.skops")


def test_a_type_is_trusted_once_it_is_named(tmp_path: Path) -> None:
    class Trusting(Plain):
        trusted_types = ("fractions.Fraction",)

    model = {"ratio": Fraction(1, 3)}
    Plain().save(model, tmp_path)
    with pytest.raises(ModelError, match=r"fractions\.Fraction"):
        Plain().load(tmp_path)
    assert Trusting().load(tmp_path) == model


def test_what_skops_cannot_write_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written safely") as caught:
        Plain().save((value for value in [1]), tmp_path)
    assert "allow_pickle" in str(caught.value.hint)


def test_a_directory_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model\.skops"):
        Plain().load(tmp_path)


def test_pickle_is_a_choice(tmp_path: Path) -> None:
    class Pickling(Plain):
        allow_pickle = True

    model = OrderedDict(a=1)
    Pickling().save(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]
    assert Pickling().load(tmp_path) == model
    with pytest.raises(ModelError):
        Plain().load(tmp_path)  # a pickle file is never read by a trainer that did not choose it
