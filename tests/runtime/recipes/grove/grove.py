"""A recipe whose training has parallel parts, and whose scorer can be slow, draw lots, fail or die."""

from __future__ import annotations

import os
import time

import joblib
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

import mealkit


def where(nap):
    time.sleep(nap)
    return os.getpid()


class GroveTrainer(mealkit.Trainer):
    def train(self, data, context):
        chosen = context.hyperparameters
        if chosen.train == "raise":
            raise ZeroDivisionError("the author's mistake")
        context.logger.info("trained with the token %s", chosen.token and chosen.token.get_secret_value())
        for step in range(chosen.steps):
            time.sleep(chosen.nap)
            context.log_metric("log_loss", 1 / (1 + step) + abs(chosen.depth - 4), step)
        if not chosen.steps:
            pids = set(joblib.Parallel()(joblib.delayed(where)(chosen.nap) for _ in range(8)))
            context.log_metric("processes", len(pids))
            context.log_metric("here", os.getpid() in pids)
        forest = RandomForestClassifier(chosen.trees, max_depth=chosen.depth, random_state=context.seed)
        return forest.fit(data.features, data.target)


class GroveScorer(mealkit.Scorer):
    def score(self, batch, model, context):
        chosen = context.hyperparameters
        time.sleep(chosen.nap)
        if chosen.score == "raise" and batch.index[0] >= 0:
            raise KeyError("no such feature")
        if chosen.score == "die":
            os.kill(os.getpid(), 9)
        luck = np.random.random(len(batch)) if chosen.score == "draw" else np.zeros(len(batch))
        print("scored with", os.environ.get("GROVE_SECRET_TOKEN"))
        return pd.DataFrame({"probability": model.predict_proba(batch)[:, 1], "luck": luck}, index=batch.index)
