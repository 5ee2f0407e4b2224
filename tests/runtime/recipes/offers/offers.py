"""A ranking recipe: which of the items that a visitor is shown get clicks."""

from __future__ import annotations

from sklearn.linear_model import LinearRegression

import mealkit


class OfferLoader(mealkit.DataLoader):
    keep_together = "visitor"

    def prepare(self, frame, context):
        return frame[["price", "fit"]]


class OfferTrainer(mealkit.Trainer):
    def train(self, data, context):
        return LinearRegression().fit(data.features, data.target)
