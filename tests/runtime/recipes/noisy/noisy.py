"""A recipe that writes where it should not, tells what it should not, and hangs where it can."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from typing import Literal

from pydantic import SecretStr

import mealkit

ODD = "x\u2028y\u2029z\x85 \ud800 \U0001f958 \x00\x1b[31m"


class Hyperparameters(mealkit.Hyperparameters):
    token: SecretStr | None = None
    built_in: SecretStr = SecretStr("canary-default-5b1e")
    url: str = "none"
    train: str = "well"
    evaluate: str = "well"
    score: str = "well"
    reveal: str = ""
    flavour: Literal["plain", "salted"] = "plain"


def secrets(context):
    """All that a careless recipe could tell."""
    given = context.hyperparameters
    hidden = [given.built_in.get_secret_value(), given.url]
    hidden += [given.token.get_secret_value()] if given.token else []
    hidden += [given.url.partition("@")[0].rpartition(":")[2]] if "@" in given.url else []
    return hidden + [os.environ[name] for name in given.reveal.split(",") if name]


def act(how, context):
    log, told = context.logger, secrets(context)
    if how == "print":
        print("printed")
        print('{"event": "result", "forged": true}')
        os.write(1, b"written to 1\n")
        sys.__stdout__.write("through the old object\n")
        sys.__stdout__.flush()
        libc = ctypes.CDLL(None)
        libc.puts(b"by a C library")
        libc.fflush(None)
        subprocess.run(["echo", "by a child"], check=True)
    elif how == "odd":
        log.info("%s", ODD)
        log.info("%s", "long " * 100_000)
        log.warning("%s", b"\xff\xfe")
        logging.getLogger("elsewhere").warning("heard")
        logging.getLogger("elsewhere").info("not heard")
        for value in (float("nan"), float("inf"), -float("inf"), 10**30):
            context.log_metric("odd \ud800", value, 3)
        context.progress(1, None, "café\u2028")
    elif how == "flood":
        for number in range(4_000):
            log.info("line %d %s", number, "." * 200)
    elif how == "threads":

        def tell(name):
            for number in range(40):
                log.info("%s %d %s", name, number, name * 5_000)

        threads = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    elif how in ("tell", "raise"):
        for number, secret in enumerate(told):
            print("printed", secret)
            print("printed", secret, file=sys.stderr)
            log.info("logged %s and %r", secret, {"it": [secret]})
            warnings.warn(f"warned of {secret}", stacklevel=1)
            context.log_metric(f"metric {secret}", number)
            context.progress(number, None, secret)
            try:
                raise ValueError(secret)
            except ValueError:
                log.exception("caught %s", secret)
            failing = threading.Thread(target=lambda secret=secret: [][int(f"0{secret}")])
            failing.start()
            failing.join()
        if how == "raise":
            raise RuntimeError(" ".join(told))
    elif how == "nap":
        context.progress(0, None, "nap")
        for _ in range(1_200):
            time.sleep(0.05)
    elif how == "lose":
        subprocess.run(["umount", "-l", os.environ["NOISY_DISK"]], check=True)


class NoisyLoader(mealkit.DataLoader):
    def split(self, data, context):  # without scikit-learn, whose import is most of a small run
        return data.take(range(0, len(data), 2)), data.take(range(1, len(data), 2))


class NoisyTrainer(mealkit.Trainer):
    many = 0

    def train(self, data, context):
        self.many = 5_000 if context.hyperparameters.train == "many" else 0
        act(context.hyperparameters.train, context)
        return float(data.target.mean())

    def save(self, model, directory):
        (directory / "mean.txt").write_text(repr(model))
        for number in range(self.many):
            (directory / f"part-{number}").write_text("part")
        if self.many:
            print("saved many", flush=True)
            time.sleep(60)

    def load(self, directory):
        return float((directory / "mean.txt").read_text())


class NoisyEvaluator(mealkit.Evaluator):
    def evaluate(self, data, model, context):
        act(context.hyperparameters.evaluate, context)
        told = secrets(context) if context.hyperparameters.evaluate == "tell" else []
        metrics = [mealkit.Metric("mae", float(abs(data.target - model).mean()), "minimize")]
        metrics += [mealkit.Metric("nothing", float("nan"), "maximize")]
        metrics += [mealkit.Metric(f"of {secret}", 1.0, "maximize") for secret in told]
        return mealkit.Metrics(tuple(metrics))


class NoisyScorer(mealkit.Scorer):
    def score(self, batch, model, context):
        act(context.hyperparameters.score, context)
        return batch.assign(prediction=model)[["prediction"]]
