"""A study: the trials of one search, kept by Optuna where several processes and containers can work on them together.

Each trial has a rank: its place among those that count, beginning with 0. A trial that was interrupted does not count;
its hyperparameters are tried again under the same rank. What is sampled is a function of the seed, the rank, and the
trials that are finished, so one worker gives the same study again, also when it was interrupted and resumed.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mealkit.errors import MealkitError, SettingsError
from mealkit.metrics import Direction
from mealkit.space import Dimension

from .identity import differences
from .trial_storage import need_optuna, open_storage, storage_errors

BEAT = 10.0
"""Seconds between two signs of life of a trial."""

SILENCE = 60.0
"""Seconds without a sign of life after which a trial of another container is given up."""

Shield = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Plan:
    """What a study searches.

    Attributes:
        name: The study's name: the run id.
        objective: The metric that trials are compared by.
        direction: Its better direction.
        count: How many trials the study has when it is finished.
        space: What is varied.
        first: The hyperparameters of the first trial: the recipe's defaults, where they are in their ranges.
        seed: The run's.
        identity: What tells this study from others.
    """

    name: str
    objective: str
    direction: Direction
    count: int
    space: tuple[Dimension, ...]
    first: Mapping[str, Any]
    seed: int
    identity: Mapping[str, Any]


@dataclass
class Claim:
    """A trial that this process works on.

    Attributes:
        rank: Its place in the study.
        values: The hyperparameters to try.
    """

    rank: int
    values: dict[str, Any]
    trial: Any = field(repr=False)
    reported: set[int] = field(default_factory=set, repr=False)

    @property
    def key(self) -> int:
        """What tells the trial from all others for good; ranks move up when an earlier trial is to be tried again."""
        return int(self.trial.number)


class Study:
    """The trials in a storage; every access is shielded, since an interrupted one would leave a lock behind.

    Args:
        plan: What is searched.
        storage: A path of a journal or SQLite file, or an Optuna URL; None: in memory, for this process alone.
        shield: Keeps signals off.
        resume: Go on with the storage's latest study, if it has none of the plan's name.
        together: Several trials are worked on at once, also where the storage is not shared.

    Raises:
        SettingsError: Optuna is not installed, the storage cannot be opened, or the study is of another search.
    """

    def __init__(
        self, plan: Plan, storage: str | None, shield: Shield, *, resume: bool = False, together: bool = False
    ) -> None:
        self.plan = plan
        self._shared, self._together = storage is not None, together or storage is not None
        self._storage, self._signals = storage, shield
        self._heard: dict[int, tuple[Any, float]] = {}
        optuna = need_optuna()
        self._states = optuna.trial.TrialState
        self._finished = optuna.exceptions.UpdateFinishedTrialError
        with self._shield():
            self._study = _open(optuna, plan, open_storage(optuna, storage), resume)
            then = self._study.user_attrs.get("identity")
        self.name: str = self._study.study_name
        different = [] if then is None else differences(then, plan.identity)
        if different:
            raise SettingsError(
                f"the study {self.name!r} is of another search; different: {', '.join(different)}",
                where=self.name,
                hint="give what it was begun with, or another --run-id or --trial-storage",
            )

    def claim(self) -> Claim | None:
        """The next trial; None when the study has as many as it should."""
        with self._shield():
            while True:
                trials = self._trials()
                waiting = any(one.state == self._states.WAITING for one in trials)
                if sum(map(self._counts, trials)) >= self.plan.count and not waiting:
                    return None
                trial = self._study.ask()
                again = trial.user_attrs.get("again")
                before = [one for one in self._trials() if one.number < trial.number and one.number != again]
                rank = sum(map(self._counts, before))
                if rank < self.plan.count and (
                    again is None or all(one.user_attrs.get("again") != again for one in before)
                ):
                    break
                # Others took the last ones between the look and the question, or saw the same trial's end, too.
                trial.set_user_attr("surplus", True)
                self._study.tell(trial, state=self._states.FAIL)
            trial.set_user_attr("owner", _owner())
            self._study.sampler = _sampler(self.plan.seed, rank, self._together)
            values = {one.name: _suggest(trial, one) for one in self.plan.space}
            return Claim(rank, values, trial)

    def report(self, claim: Claim, points: list[tuple[int, float]]) -> bool:
        """Report a trial's values by step; whether it is so bad that it should end."""
        with self._shield():
            for step, value in points:
                if step not in claim.reported and step >= 0 and not math.isnan(value):
                    claim.trial.report(value, step)
                    claim.reported.add(step)
            return bool(claim.trial.should_prune())

    def complete(self, claim: Claim, value: float, record: Mapping[str, Any]) -> None:
        """A trial has its value."""
        self._finish(claim, self._states.COMPLETE, record, value)

    def pruned(self, claim: Claim, record: Mapping[str, Any]) -> None:
        """A trial was given up because others were better at its step."""
        self._finish(claim, self._states.PRUNED, record)

    def failed(self, claim: Claim, error: MealkitError, record: Mapping[str, Any]) -> None:
        """A trial cannot be judged."""
        self._finish(claim, self._states.FAIL, {**record, "error": error.to_json()})

    def stopped(self, claim: Claim) -> None:
        """A trial was interrupted: it does not count, and is tried again when the study goes on."""
        with self._shield():
            self._again(claim.trial.number, claim.values)

    def lost(self, pid: int, error: MealkitError) -> bool:
        """The process ``pid`` of this machine died; its trial, if it had one, has failed."""
        with self._shield():
            for one in self._running():
                owner = one.user_attrs.get("owner") or {}
                if owner.get("pid") == pid and owner.get("host") == _host():
                    self._mark(one, "record", {"error": error.to_json()})
                    self._study.tell(one.number, state=self._states.FAIL, skip_if_finished=True)
                    return True
        return False

    def settled(self, wait: Callable[[float], None] = time.sleep) -> bool:
        """Wait until no other process works on a trial; False when one that died left a trial to be tried again."""
        while True:
            with self._shield():
                running = self._running()
                gone = [one for one in running if self._is_gone(one)]
                for one in gone:
                    self._again(one.number, one.params)
            if gone:
                return False
            if not running:
                return True
            wait(0.2)

    def release(self) -> None:
        """Trials of dead processes of this machine are to be tried again, at once."""
        with self._shield():
            for one in self._running():
                if _is_dead(one.user_attrs.get("owner") or {}):
                    self._again(one.number, one.params)

    @contextlib.contextmanager
    def alive(self, claim: Claim) -> Iterator[None]:
        """Inside the block others see that the trial is worked on."""
        if not self._shared:
            yield
            return
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(BEAT):
                count += 1
                with contextlib.suppress(Exception):  # the storage is away for a moment: the next beat may be heard
                    claim.trial.set_user_attr("alive", count)

        thread = threading.Thread(target=beat, name="mealkit-trial", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(1)

    def records(self) -> list[dict[str, Any]]:
        """Every trial that counts: number, state, value, hyperparameters, metrics, error, seconds, steps, worker."""
        return [record for _, record in self._all()]

    def best(self) -> dict[str, Any] | None:
        """The record of the best trial, the first of equals; None when none is complete."""
        return self._best()[1]

    def best_key(self) -> int | None:
        """The key of the best trial."""
        return self._best()[0]

    def _best(self) -> tuple[int | None, dict[str, Any] | None]:
        sign = 1 if self.plan.direction == "minimize" else -1
        done = [(key, one) for key, one in self._all() if one["state"] == "complete"]
        return min(done, key=lambda one: (sign * one[1]["value"], one[0]), default=(None, None))

    def _all(self) -> list[tuple[int, dict[str, Any]]]:
        """Key and record of every trial that counts."""
        with self._shield():
            counting = [one for one in self._trials() if self._counts(one)]
        names = {self._states.COMPLETE: "complete", self._states.PRUNED: "pruned", self._states.FAIL: "failed"}
        return [
            (
                one.number,
                {
                    "number": rank,
                    "state": names.get(one.state, "running"),
                    "value": one.value if one.state == self._states.COMPLETE else None,
                    "hyperparameters": dict(one.params),
                    "steps": len(one.intermediate_values),
                    "worker": {
                        key: value for key, value in (one.user_attrs.get("owner") or {}).items() if key != "begun"
                    },
                    **(one.user_attrs.get("record") or {}),
                },
            )
            for rank, one in enumerate(counting)
        ]

    def _finish(self, claim: Claim, state: Any, record: Mapping[str, Any], value: float | None = None) -> None:
        with self._shield():
            claim.trial.set_user_attr("record", dict(record))
            self._study.tell(claim.trial, value, state=state, skip_if_finished=True)

    def _again(self, number: int, values: Mapping[str, Any]) -> None:
        """Have a trial tried again. Only then it no longer counts: its place is taken by none but the new one."""
        trial = next(one for one in self._trials() if one.number == number)
        if trial.state != self._states.RUNNING:
            return  # another one saw it too
        self._study.enqueue_trial(dict(values), user_attrs={"again": number})
        with contextlib.suppress(self._finished):  # as above
            self._mark(trial, "stopped", True)
        self._study.tell(number, state=self._states.FAIL, skip_if_finished=True)

    @contextlib.contextmanager
    def _shield(self) -> Iterator[None]:
        with storage_errors(self._storage), self._signals():
            yield

    def _mark(self, trial: Any, key: str, value: object) -> None:
        self._study._storage.set_trial_user_attr(trial._trial_id, key, value)

    def _trials(self) -> list[Any]:
        found: list[Any] = self._study.get_trials(deepcopy=False)
        return found

    def _running(self) -> list[Any]:
        return [one for one in self._trials() if one.state == self._states.RUNNING]

    def _counts(self, trial: Any) -> bool:
        if trial.state == self._states.WAITING:
            return False
        return not (trial.user_attrs.get("stopped") or trial.user_attrs.get("surplus"))

    def _is_gone(self, trial: Any) -> bool:
        owner = trial.user_attrs.get("owner") or {}
        if _is_dead(owner):
            return True
        sign, now = trial.user_attrs.get("alive"), time.monotonic()
        before = self._heard.get(trial.number)
        if before is None or before[0] != sign:
            self._heard[trial.number] = (sign, now)
            return False
        return now - before[1] > SILENCE


def _open(optuna: Any, plan: Plan, storage: Any, resume: bool) -> Any:
    pruner = optuna.pruners.MedianPruner()
    names = [one.study_name for one in sorted(storage.get_all_studies(), key=lambda one: one._study_id)]
    name = names[-1] if resume and names and plan.name not in names else plan.name
    try:
        study = optuna.create_study(study_name=name, storage=storage, direction=plan.direction, pruner=pruner)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
        for _ in range(50):  # whoever made it just now has the first trial to add
            if "identity" in study.user_attrs:
                break
            time.sleep(0.1)
        return study
    if plan.first:
        study.enqueue_trial(dict(plan.first))
    study.set_user_attr("identity", dict(plan.identity))
    return study


def _sampler(seed: int, rank: int, shared: bool) -> Any:
    import numpy as np
    import optuna

    mixed = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # With several workers the trials that still run count as bad ones, so that not all try the same.
        return optuna.samplers.TPESampler(seed=mixed, constant_liar=shared)


def _suggest(trial: Any, one: Dimension) -> Any:
    if one.kind == "choice":
        return trial.suggest_categorical(one.name, list(one.choices))
    if one.kind == "int":
        return trial.suggest_int(one.name, one.low, one.high, step=one.step or 1, log=one.log)
    return trial.suggest_float(one.name, one.low, one.high, step=one.step, log=one.log)


def _owner() -> dict[str, Any]:
    return {"host": _host(), "pid": os.getpid(), "begun": _begun(os.getpid())}


def _host() -> str:
    """Where process numbers mean something: containers may share a machine's name, but not its processes."""
    space = ""
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {space}".strip()


def _begun(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether a trial's process was of this machine, and is no more."""
    if owner.get("host") != _host() or owner.get("begun") is None:
        return False
    return _begun(int(owner["pid"])) != str(owner["begun"])
