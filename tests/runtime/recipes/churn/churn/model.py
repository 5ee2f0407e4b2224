"""The recipe's classes."""

from __future__ import annotations

import hashlib
import time
from typing import ClassVar

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import mealkit

from .settings import Hyperparameters


class CustomerLoader(mealkit.DataLoader[Hyperparameters]):
    keep_together = "customer"

    def prepare(self, frame, context):
        priced = frame.merge(context.inputs["plans"], on="plan", how="left")
        by = priced.groupby("customer", sort=False)
        return pd.DataFrame(
            {
                "events": by.size(),
                "amount": by["amount"].sum(),
                "items": by["items"].sum().astype("float64"),
                "complaints": (priced["kind"] == "complaint").groupby(priced["customer"], sort=False).sum(),
                "price": by["price"].first(),
                "days": (by["day"].max() - by["day"].min()).dt.days,
            }
        )

    def target(self, frame, prepared, context):
        return frame.groupby("customer", sort=False)["left"].first().astype("Int64").dropna().astype(int)


class ChurnTrainer(mealkit.Trainer[Hyperparameters, Pipeline]):
    def train(self, data, context):
        how = context.hyperparameters.train
        if how == "raise":
            raise ZeroDivisionError("the author's mistake")
        if how == "stuck":
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 300_000_000)  # one call of C, which no handler interrupts
        end = time.monotonic() + 60
        while how in ("sleep", "look") and time.monotonic() < end:
            context.progress(1, None, "nap")
            time.sleep(0.05)
            if how == "look" and context.stop_requested:
                (context.checkpoint_dir / "checkpoint").write_text("so far")
                break
        print("printed by the recipe")
        context.logger.info("training with token %s", context.hyperparameters.token)
        context.log_metric("rows", len(data))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=context.hyperparameters.c))
        return model.fit(data.features, data.target)

    def save(self, model, directory):
        if model is not None and self.__class__.__name__ == "Never":
            return
        super().save(model, directory)


class ChurnScorer(mealkit.Scorer[Pipeline]):
    def score(self, batch, model, context):
        how = context.hyperparameters.score
        if how == "raise":
            raise KeyError("no such feature")
        if how == "slow":
            time.sleep(0.2)
        probability = model.predict_proba(batch)[:, 1]
        if how == "wide":
            probability = probability + 1
        return pd.DataFrame({"probability": probability, "events": batch["events"]}, index=batch.index)


class LoudSaver(mealkit.DataSaver):
    """A saver of the recipe's own, which notes what is asked of it."""

    calls: ClassVar[list[str]] = []

    def open(self, dataset, context):
        self.calls.append(f"open {context.run_id}")
        if context.run_id == "again":
            return mealkit.BatchRecord("again", dataset, 7, existed=True)
        self.dataset = dataset
        self.rows = 0
        return None

    def write(self, rows):
        assert isinstance(rows, pd.DataFrame)
        self.calls.append("write")
        if self.dataset == "broken":
            raise ConnectionError("the database is gone")
        self.rows += len(rows)

    def commit(self):
        self.calls.append("commit")
        return mealkit.BatchRecord("new", self.dataset, self.rows)

    def abort(self):
        self.calls.append("abort")
