"""What a worker of a cluster does for a run: it loads recipe and model once, then scores parts, or tries trials.

Everything here is called by Dask in the worker processes. A task gets the name of what the run lent, and plain values;
what it fails with is its result, so that Dask neither tries it again nor tells it in its own words.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from mealkit.errors import ModelError, RetryableError, SettingsError
from mealkit.redact import Redactor
from mealkit.spec import RecipeSpec

from .blas import one_thread
from .config import RunConfig
from .dataset import Source
from .engine import SPEC_DIGEST
from .events import RecipeLog, plain
from .outlet import Screened
from .relay import Relay
from .run import Run
from .shard import Shard
from .stop import Stopper
from .worker import Failed, failed

if TYPE_CHECKING:
    from .material import Material
    from .model import StoredModel
    from .scoring import Scoring
    from .shard_source import Share
    from .study import Claim, Plan
    from .trials import Tried

_TELL = 1.0
"""Seconds between two messages of one task about the rows that it has scored."""


@dataclass(frozen=True)
class Order:
    """What the workers must know of a run.

    Attributes:
        spec: The recipe's specification, as JSON.
        config: The run's settings.
        found: What the run knows for its result so far.
        image: The image that the run is in, where it was told.
        version: Of mealkit.
        source: The main dataset.
        further: The others.
        provenance: What a batch's record tells.
        shares: How many parts a batch has.
        digest: Of the model to score with.
        plan: What is searched.
    """

    spec: str
    config: RunConfig
    found: Mapping[str, Any]
    image: str | None
    version: str
    source: Source | None = None
    further: Mapping[str, Source] | None = None
    provenance: Mapping[str, Any] | None = None
    shares: int = 0
    digest: str = ""
    plan: Plan | None = None


def dask_setup(worker: Any) -> None:
    """In a new worker process, called by Dask: what the recipe prints has no secrets in it."""
    sys.stdout = sys.stderr = Screened(sys.stderr, Redactor.of_environment(os.environ).text)


class Lent(WorkerPlugin):
    """What a run lends to each worker process (a worker plugin of Dask).

    Args:
        name: The run's name on the cluster.
        order: What the worker must know.
        files: The model directory's files; None: there is no model, or it is to be read where the run reads it.
    """

    idempotent = True

    def __init__(self, name: str, order: Order, files: Mapping[str, bytes] | None) -> None:
        self.name = name
        self.order = order
        self.files = files

    def setup(self, worker: Any) -> None:
        """Remember it; loading waits for the first task."""
        _kitchens[self.name] = Kitchen(self, worker)

    def teardown(self, worker: Any) -> None:
        """Forget it, with the model's files."""
        kitchen = _kitchens.pop(self.name, None)
        if kitchen is not None:
            kitchen.close()


_kitchens: dict[str, Kitchen] = {}
"""What runs have lent to this process."""


class Kitchen:
    """A recipe, loaded for the tasks of one run."""

    def __init__(self, lent: Lent, worker: Any) -> None:
        self.order = lent.order
        self.spec = RecipeSpec.from_json(lent.order.spec)
        self._worker = worker
        self._topic = lent.name
        self._files = lent.files
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self._scoring: Scoring | None = None
        self._material: Material | None = None
        self.given_up: set[int] = set()

    def run(self, config: RunConfig, relay: Relay, *, helps: bool = False) -> Run:
        """A run of this process alone."""
        found = {"seed": self.order.found.get("seed"), "started": self.order.found.get("started")}
        return Run(self.spec, config, relay, Stopper(), os.environ, found=found, helps=helps)

    def relay(self, method: str | None = None, task: int = 0) -> Relay:
        """What tells the run what the recipe says; progress as ``rows`` of a task, where ``method`` is that."""
        relay = Relay(lambda name, arguments: None)
        relay.redactor.hide_environment(os.environ)
        last = [0.0]

        def send(name: str, arguments: tuple[Any, ...]) -> None:
            if name == "progress":
                now = time.monotonic()
                if method != "rows" or now - last[0] < _TELL:
                    return
                last[0] = now
                name, arguments = "rows", (task, arguments[0])
            self.tell(name, *plain(list(arguments), relay.redactor.text))

        relay.send = send
        return relay

    def tell(self, method: str, *arguments: Any) -> None:
        """Tell the run something."""
        self._worker.log_event(self._topic, [method, list(arguments)])

    def folder(self) -> Path:
        """A new folder for files that are soon gone again."""
        return Path(tempfile.mkdtemp(prefix="mealkit-", dir=self._worker.local_directory))

    def scoring(self) -> Scoring:
        """Recipe and model; loaded by the first task that asks."""
        with self._lock:
            if self._scoring is None:
                self._scoring = self._load()
            return self._scoring

    def material(self, relay: Relay) -> tuple[Run, Material]:
        """A run that trains, with its data; read by the first task that asks, and for one task at a time."""
        from .material import gather

        config = replace(self.order.config, outputs=None, checkpoint_dir=None, engine=None)
        run = self.run(config, relay, helps=True)
        self._check()
        run.decode()
        with self._lock:
            if self._material is None:
                self._material = gather(run)
            material = self._material
        ours, theirs = material.data, self.order.found["data"]
        if ours != theirs:
            raise SettingsError(
                f"a worker reads other data: {', '.join(name for name in theirs if ours.get(name) != theirs[name])}",
                where=self._worker.address,
                hint="give every worker the same files at the same paths",
            )
        return run, material

    def close(self) -> None:
        """Remove the model's files."""
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _load(self) -> Scoring:
        from .scoring import Scoring, input_schema, output_schema

        order, relay = self.order, self.relay()
        self._check()
        run = self.run(order.config, relay)
        with one_thread():
            stored = self._model()
            hyperparameters = run.decode(stored.facts.get("hyperparameters") or {})
            recipe = run.load_recipe()
            model = run.load_model(recipe, stored)
            context = run.context(hyperparameters, run.read_inputs(recipe, order.further or {}))
        schema = input_schema(self.spec, recipe, stored.facts.get("columns"))
        return Scoring(recipe, model, context, schema, output_schema(recipe))

    def _model(self) -> StoredModel:
        from .model import open_model

        if self._files is None:
            stored = open_model(self.order.config.model, self.spec.name)
        else:
            self._folder = self.folder()
            for name, data in self._files.items():
                (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self._folder / name).write_bytes(data)
            stored = open_model(self._folder, self.spec.name)
            self._files = {}
        if stored.digest != self.order.digest:
            raise ModelError(
                "a worker finds another model",
                where=f"{self._worker.address}: {self.order.config.model}",
                hint="the model is too large to be sent: give every worker the same model directory at the same path",
            )
        return stored

    def _check(self) -> None:
        """Refuse a worker that is not of the run's image.

        Raises:
            SettingsError: it has another recipe, image or mealkit.
        """
        from . import __version__

        image, digest = os.environ.get("MEALKIT_IMAGE"), os.environ.get(SPEC_DIGEST)
        for what, here, there in (
            ("mealkit", __version__, self.order.version),
            ("recipe", digest, self.spec.digest),
            ("image", image, self.order.image),
        ):
            if here and there and here != there:
                raise SettingsError(
                    f"a worker has another {what} than the run: {here}, and not {there}",
                    where=self._worker.address,
                    hint="start scheduler, workers and run from one image",
                )


def _task(function: Callable[..., Any]) -> Callable[..., Any]:
    """A task of Dask: it gets the kitchen that the run has lent, and gives what went wrong as its result."""

    @functools.wraps(function)
    def call(name: str, *arguments: Any) -> Any:
        try:
            if name not in _kitchens:
                raise RetryableError(
                    "a worker has nothing of the run that it is to work for", hint="run the same command again"
                )
            with _Logged(_kitchens[name]):
                return function(_kitchens[name], *arguments)
        except Exception as error:
            return failed(arguments[0], error)

    return call


class _Logged:
    """In the block the recipe's messages reach the run; one task at a time may be in it, as a process does one."""

    def __init__(self, kitchen: Kitchen) -> None:
        self._handler = RecipeLog(kitchen.relay())
        self._recipe = logging.getLogger("mealkit.recipe")

    def __enter__(self) -> None:
        self._recipe.setLevel(logging.INFO)
        self._recipe.addHandler(self._handler)

    def __exit__(self, *error: object) -> None:
        self._recipe.removeHandler(self._handler)


@_task
def score_part(kitchen: Kitchen, index: int, share: Share) -> int:
    """Score a part of the dataset into a file of the batch, which the run makes visible with all the others.

    Returns:
        How many rows were read; -1: the part, or the batch, was done before.
    """
    from .batch import ParquetBatchSaver
    from .cutting import Batches
    from .score import commit, here, stream
    from .shard_source import take

    order, limit = kitchen.order, kitchen.order.config.max_bad_rows
    assert order.source is not None
    assert order.provenance is not None
    shard, relay = Shard(index, order.shares), kitchen.relay("rows", index)
    # A fraction of bad rows is that of all rows, which the run knows.
    config = replace(order.config, shard=shard, max_bad_rows=None if isinstance(limit, float) else limit)
    run = kitchen.run(config, relay)
    scoring = kitchen.scoring()
    scoring = replace(scoring, context=replace(scoring.context, listener=relay))
    saver = ParquetBatchSaver(order.provenance, None, run.stopper, shard, run.clock, gathers=False)
    with one_thread(), run.keeping_bad_rows(), ExitStack() as resources:
        try:
            if saver.open(str(config.output), scoring.context) is not None:
                return -1
            source, bad_rows = take(order.source, share), run.bad_rows()
            tables = Batches(run, source, scoring.input, scoring.recipe.loader.keep_together, bad_rows)
            # Batches are numbered apart from those of other parts: random numbers are seeded by them.
            scored = resources.enter_context(closing(here(run, scoring, tables, first=index << 20)))
            stream(run, source, scored, saver, scoring.output, bad_rows)
            commit(run, saver, order.provenance)
        except BaseException:
            saver.abort()
            raise
    return int(run.found["rows_read"])


@dataclass(frozen=True)
class FarTrial:
    """A trial that was tried; it stays with the worker until it is known whether its model is wanted.

    Attributes:
        files: The model's files and the trial's notes, by their names.
    """

    tried: Tried
    files: Mapping[str, bytes]


class _FarStudy:
    """Stands for the study where a trial is tried: what the trial reports goes to the run, which decides."""

    def __init__(self, kitchen: Kitchen, plan: Plan, key: int) -> None:
        self.plan = plan
        self._kitchen, self._key = kitchen, key

    def report(self, claim: Claim, points: list[tuple[int, float]]) -> bool:
        """Tell what was not told before; whether the trial was given up meanwhile."""
        new = [(step, value) for step, value in points if step not in claim.reported]
        claim.reported.update(step for step, _ in new)
        self._kitchen.tell("points", self._key, new)
        return self._key in self._kitchen.given_up


@_task
def try_trial(kitchen: Kitchen, key: int, values: Mapping[str, Any]) -> FarTrial:
    """Train with a trial's hyperparameters, and judge the model."""
    from .study import Claim
    from .trials import Trials

    assert kitchen.order.plan is not None
    run, material = kitchen.material(kitchen.relay())
    study: Any = _FarStudy(kitchen, kitchen.order.plan, key)
    folder = kitchen.folder()
    try:
        trials = Trials(run, material, study, folder)
        tried = trials.try_out(Claim(key, dict(values), SimpleNamespace(number=key)))
        own = trials.own(key)
        files = {str(path.relative_to(own)): path.read_bytes() for path in sorted(own.rglob("*")) if path.is_file()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if tried.error is not None:
        tried = replace(tried, error=failed(key, tried.error).error)
    return FarTrial(tried, files if tried.value is not None else {})


@_task
def brief(kitchen: Kitchen, key: int, trial: FarTrial | Failed) -> Tried | Failed:
    """What became of a trial, without its model."""
    return trial if isinstance(trial, Failed) else trial.tried


@_task
def files_of_trial(kitchen: Kitchen, key: int, trial: FarTrial | Failed) -> Mapping[str, bytes] | Failed:
    """The model's files and the notes of a trial."""
    return trial if isinstance(trial, Failed) else trial.files


def give_up(name: str, key: int) -> None:
    """A trial is too bad to go on; called beside it, while it is tried."""
    if name in _kitchens:
        _kitchens[name].given_up.add(key)
