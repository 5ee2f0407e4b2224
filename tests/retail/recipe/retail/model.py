"""Gradient boosting, judged beside repeating the last known sales."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.ensemble import GradientBoostingRegressor

import mealkit

from .settings import Hyperparameters


class SalesTrainer(mealkit.Trainer[Hyperparameters, GradientBoostingRegressor]):
    """Fits the regressor of the known figures."""

    def train(self, data: mealkit.Data, context: mealkit.Context[Hyperparameters]) -> GradientBoostingRegressor:
        """Fit to weeks whose next week is known."""
        chosen = context.hyperparameters
        model = GradientBoostingRegressor(
            learning_rate=chosen.learning_rate,
            n_estimators=chosen.n_estimators,
            max_depth=chosen.max_depth,
            random_state=context.seed,
        )
        return model.fit(data.features, data.target)


class SalesEvaluator(mealkit.RegressionEvaluator[GradientBoostingRegressor]):
    """The ready metrics; MASE is against telling that next week will be like this one."""

    def baseline(self, data: mealkit.Data, context: mealkit.Context[Any]) -> pd.Series:
        """This week's sales."""
        return data.features["weeklySales"]
