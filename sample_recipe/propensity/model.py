"""The model: gradient boosted trees that give each journey's probability of an order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

import mealkit

from .settings import Hyperparameters

_TEXT = ["device", "referrer"]


class PropensityTrainer(mealkit.Trainer[Hyperparameters, Pipeline]):
    """Fits one pipeline: encoding and trees. Missing values (no journey before this one) are the trees' own matter."""

    def train(self, data: mealkit.Data, context: mealkit.Context[Hyperparameters]) -> Pipeline:
        """Fit to journeys of known outcome."""
        chosen = context.hyperparameters
        encode = make_column_transformer(
            # A referrer that training never met is none of the known ones: all its columns are 0.
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), _TEXT),
            remainder="passthrough",
        )
        trees = HistGradientBoostingClassifier(
            learning_rate=chosen.learning_rate,
            max_iter=chosen.trees,
            max_leaf_nodes=chosen.max_leaves,
            min_samples_leaf=chosen.min_samples_leaf,
            l2_regularization=chosen.l2,
            early_stopping=chosen.early_stopping,
            random_state=context.seed,
        )
        model = Pipeline([("encode", encode), ("trees", trees)])
        model.fit(data.features, data.target)
        context.log_metric("trees", trees.n_iter_)
        return model


class PropensityEvaluator(mealkit.ClassificationEvaluator[Pipeline]):
    """The ready metrics, and two that answer a shop's questions.

    ``log_loss_skill``: by which part the log loss is below that of always telling the average, the best constant.
    ``lift_at_10``: how many times more orders the tenth of the journeys with the highest scores has than the average.
    """

    # One journey in eleven ends in an order: "more likely than not" would call hardly anyone a buyer.
    threshold = 0.2

    def evaluate(self, data: mealkit.Data, model: Pipeline, context: mealkit.Context[Any]) -> mealkit.Metrics:
        """Metrics, curves, and a table of the orders by tenth of the scores."""
        ready = super().evaluate(data, model, context)
        _, probabilities = self.probabilities(data.features, model)
        tenths = orders_by_tenth(probabilities[:, 1], np.asarray(data.target))
        average = float(np.mean(data.target))
        base = -sum(share * np.log(share) for share in (average, 1 - average) if share > 0)
        skill = 1 - ready["log_loss"] / base if base > 0 else np.nan
        lift = tenths["rate"].iloc[0] / average if average > 0 else np.nan
        own = (
            mealkit.Metric("log_loss_skill", float(skill), "maximize"),
            mealkit.Metric("lift_at_10", float(lift), "maximize"),
        )
        table = mealkit.Table(
            "orders_by_tenth",
            ("tenth", "journeys", "orders", "rate", "mean probability"),
            tuple(tuple(row) for row in tenths.reset_index().astype("object").to_numpy().tolist()),
        )
        return replace(ready, values=(*ready.values, *own), tables=(*ready.tables, table))


def orders_by_tenth(probability: np.ndarray[Any, Any], ordered: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Journeys by falling score in ten equal parts, 1 the best: how many, their orders, the rate, the mean score."""
    falling = np.argsort(-probability, kind="stable")
    tenth = np.arange(len(probability)) * 10 // max(len(probability), 1) + 1
    parts = pd.DataFrame({"score": probability[falling], "ordered": ordered[falling]}).groupby(
        pd.Index(tenth, name="tenth")
    )
    return pd.DataFrame(
        {
            "journeys": parts.size(),
            "orders": parts["ordered"].sum(),
            "rate": parts["ordered"].mean(),
            "mean_probability": parts["score"].mean(),
        }
    )


class PropensityScorer(mealkit.Scorer[Pipeline]):
    """The probability alone; the keys before it say whose it is."""

    def score(self, batch: pd.DataFrame, model: Pipeline, context: mealkit.Context[Any]) -> pd.DataFrame:
        """One row a journey: ``probability``, in 0 to 1."""
        # A batch may have no journey left to predict, and scikit-learn refuses an empty one.
        probability = model.predict_proba(batch)[:, 1] if len(batch) else np.empty(0)
        return pd.DataFrame({"probability": probability}, index=batch.index)
