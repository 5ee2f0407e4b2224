"""A clustering recipe of a trainer alone, without a target."""

from __future__ import annotations

from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mealkit


class SegmentTrainer(mealkit.Trainer):
    def train(self, data, context):
        assert data.target.isna().all()
        return make_pipeline(StandardScaler(), KMeans(3, n_init=2, random_state=context.seed)).fit(data.features)
