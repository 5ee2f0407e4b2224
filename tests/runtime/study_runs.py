"""Processes that work on one study without training anything."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from mealkit.space import Dimension
from mealkit_runtime.study import Plan, Study

COUNT = 6


def plan(name: str) -> Plan:
    """A search of one number."""
    return Plan(name, "loss", "minimize", COUNT, (Dimension("x", "float", 0.0, 1.0),), {"x": 0.5}, 0, {"a": 1})


def work(study: Study) -> None:
    """Take trials until none is left."""
    while True:
        while (claim := study.claim()) is not None:
            with study.alive(claim):
                study.complete(claim, claim.values["x"], {"made": claim.key})
        if study.settled():
            return


def _begin(storage: str, rounds: int, dies: bool, barrier: Any, answers: Any) -> None:
    try:
        for number in range(rounds):
            barrier.wait(90)
            study = Study(plan("night"), storage.format(number), contextlib.nullcontext)
        answers.put(None)
        claim = study.claim() if dies else None
        barrier.wait(90)
        if claim is not None:
            with study.alive(claim):
                os.kill(os.getpid(), signal.SIGKILL)
        work(study)
    except BaseException as error:
        answers.put(f"{type(error).__name__}: {error}")
        barrier.abort()


def together(folder: Path, storage: str, processes: int, rounds: int) -> list[int | None]:
    """Begin studies at the same moments; the last one is worked on, and one process dies. Their exit codes."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.SimpleQueue()
    where = str(folder / storage)
    running = [
        context.Process(target=_begin, args=(where, rounds, number == 0, barrier, answers))
        for number in range(processes)
    ]
    for one in running:
        one.start()
    try:
        told = [answers.get() for _ in running]
        assert told == [None] * processes, told
        for one in running:
            one.join(90)
    finally:
        for one in running:
            one.kill()
    return [one.exitcode for one in running]
