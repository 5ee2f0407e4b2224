"""A recipe that tells which process scores, draws random numbers, and, where the environment says so, misbehaves.

``ODD_THREAD`` and ``ODD_SOCKET`` have the module start a thread or open a socket; ``ODD_KILL=NUMBER`` kills the process
that scores this row, and ``ODD_KILL=NUMBER:FILE`` only if it can make the file.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_info

import mealkit

if os.environ.get("ODD_THREAD"):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
if os.environ.get("ODD_SOCKET"):
    SOCKET = socket.socket()


class OddTrainer(mealkit.Trainer):
    def train(self, data, context):
        return LinearRegression().fit(data.features, data.target)


class OddScorer(mealkit.Scorer):
    def score(self, batch, model, context):
        fatal, _, file = os.environ.get("ODD_KILL", "").partition(":")
        if fatal and float(fatal) in batch["x"].to_numpy():
            try:
                if file:
                    Path(file).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        time.sleep(float(os.environ.get("ODD_SLEEP", "0")))
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        scores = pd.DataFrame({"prediction": model.predict(batch)}, index=batch.index)
        scores["draw"] = np.random.rand(len(batch))
        if os.environ.get("ODD_TELL"):
            scores["pid"], scores["parent"], scores["threads"] = os.getpid(), os.getppid(), max(blas)
        context.logger.info("scored %d rows", len(batch))
        print("printed by the recipe")
        return scores
