"""A recipe that trains in steps, and whose steps can be slow or fail: by the environment, since that is no setting."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mealkit


class Bumpy:
    """A listener on whose way something happens."""

    def __init__(self, listener):
        self.listener = listener
        self.heard = 0

    def progress(self, done, total, unit):
        self.listener.progress(done, total, unit)

    def metric(self, name, value, step):
        self.heard += 1
        if self.heard == int(os.environ.get("STEPS_FAIL_AFTER", 0)):
            raise RuntimeError("a bump")
        if "STEPS_TERM" in os.environ and (asked := Path(os.environ["STEPS_TERM"])).exists():
            asked.unlink()
            os.kill(os.getpid(), 15)
        time.sleep(float(os.environ.get("STEPS_NAP", 0)))
        self.listener.metric(name, value, step)


class StepsTrainer(mealkit.Trainer):
    def train(self, data, context):
        chosen, seed = context.hyperparameters, context.seed
        if os.environ.get("STEPS_FAIL_OVER") and chosen.alpha > float(os.environ["STEPS_FAIL_OVER"]):
            raise ValueError(f"alpha {chosen.alpha} is too much")
        if "STEPS_KILL" in os.environ and not (killed := Path(os.environ["STEPS_KILL"])).exists():
            killed.touch()
            os.kill(os.getpid(), 9)
        if chosen.kind == "plain":
            time.sleep(float(os.environ.get("STEPS_NAP", 0)))
            return LogisticRegression(C=chosen.alpha).fit(data.features, data.target)
        sgd = SGDClassifier(loss="log_loss", alpha=chosen.alpha, average=chosen.average, random_state=seed)
        model = {
            "sgd": sgd,
            "boost": GradientBoostingClassifier(learning_rate=0.1, subsample=0.7, max_depth=2, random_state=seed),
            # No seed: the global generator's state belongs to the checkpoint.
            "forest": RandomForestClassifier(max_depth=3, n_jobs=1),
            "pipeline": make_pipeline(StandardScaler(), sgd),
        }[chosen.kind]
        early = None
        if chosen.patience is not None:
            early = mealkit.EarlyStopping("validation_log_loss", chosen.patience)
        context = replace(context, listener=Bumpy(context.listener))
        return self.fit_in_steps(model, data, context, steps=chosen.steps, grow=3, early_stopping=early)
