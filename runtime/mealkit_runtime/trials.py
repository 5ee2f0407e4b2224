"""Mode ``train --trials N``: tries hyperparameters within their declared ranges, and keeps the best model."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mealkit.errors import DataError, MealkitError, ModelError, RecipeError, SettingsError, storage_error
from mealkit.hyperparameters import Hyperparameters
from mealkit.recipe import need_evaluator
from mealkit.space import dimensions

from . import model as models
from .atomic import write_atomic
from .events import json_line, plain
from .material import Material, gather, identity, make_context, prepare
from .objective import find_objective, objective_value
from .run import Run
from .study import Claim, Plan, Study
from .train import existed, finish, fit, load, training_facts, with_checkpoints

if TYPE_CHECKING:
    from mealkit.context import Context

JOURNAL = "trials.journal"
TRIALS = "trials.jsonl"
NOTES = "notes.json"


def search(run: Run) -> None:
    """Run trials until the study has as many as it should, and make the best one's model the model directory.

    Raises:
        SettingsError: nothing can be searched, or nothing compared.
        MealkitError: every trial failed; this is the first one's error.
    """
    config = run.config
    objective, direction = find_objective(run.spec, config.objective)
    if existed(run):
        return
    models.check_target(config.model, overwrite=config.overwrite)
    base = run.decode()
    storage = _storage(run)
    if config.resume and storage is None:
        raise SettingsError("there is nothing to resume from", where="resume", hint="add --checkpoint-dir DIR")
    space = dimensions(type(base), config.given)
    if not space:
        raise SettingsError(
            "no hyperparameter can be searched",
            where="trials",
            hint="give fields bounds (ge, le) or choices (Literal, bool), and do not --set all of them",
        )
    material = gather(run)
    need_evaluator(material.recipe)
    fixed = {name: value for name, value in run.found["hyperparameters"].items() if name in config.given}
    plan = Plan(
        name=config.run_id,
        objective=objective,
        direction=direction,
        count=config.trials or 1,
        space=space,
        first={one.name: value for one in space if one.holds(value := _plain(getattr(base, one.name)))},
        seed=config.seed,
        identity={
            **identity(run, material, fixed),
            "objective": f"{direction} {objective}",
            "space": {one.name: str(one) for one in space},
        },
    )
    with models.staged(config.model, run.stopper) as folder:
        if storage is None and config.trial_workers > 1:
            storage = str(folder / JOURNAL)
        study = Study(plan, storage, run.stopper.shielded, resume=config.resume, together=config.engine is not None)
        study.release()
        trials = Trials(run, material, study, folder)
        try:
            with run.stage("trials"):
                _run_all(trials, storage)
        finally:
            trials.record()
        trials.place_best()


@dataclass(frozen=True)
class Tried:
    """What became of a trial.

    Attributes:
        record: What is kept of it.
        value: That of the objective; None, and no error: it was given up.
        error: What it failed with.
    """

    record: dict[str, Any]
    value: float | None = None
    error: MealkitError | None = None


@dataclass
class Trials:
    """Works on a study's trials, one after the other.

    Attributes:
        folder: The staged model; the best trial of this machine has its model below it.
        first_error: What the first failed trial of this process raised.
        kept: The key of that best trial.
    """

    run: Run
    material: Material
    study: Study
    folder: Path
    first_error: MealkitError | None = None
    kept: int | None = None

    def work(self) -> None:
        """Take trials until there are none."""
        while (claim := self.study.claim()) is not None:
            self.attempt(claim)
            self.record()
            self.run.stopper.check()

    def attempt(self, claim: Claim) -> None:
        """One trial, as a training of its own would go; its failure is its own."""
        run = self.run
        over = False
        try:
            with self.study.alive(claim):
                tried = self.try_out(claim)
            self.settle(claim, tried)
            over = True
        finally:
            with run.stopper.shielded():
                if not over:
                    self.study.stopped(claim)
                elif (place := self._checkpoint_dir(claim.rank)) is not None:
                    shutil.rmtree(place, ignore_errors=True)
                if self.kept != claim.key:
                    shutil.rmtree(self.own(claim.key), ignore_errors=True)

    def try_out(self, claim: Claim) -> Tried:
        """Train with a trial's hyperparameters, and judge the model."""
        begun = time.monotonic()
        record: dict[str, Any] = {}
        try:
            metrics = self._train(claim, record)
            value = objective_value(metrics, self.study.plan.objective)
            record["metrics"] = {one["name"]: one["value"] for one in metrics}
            return Tried({**record, "seconds": _since(begun)}, value=value)
        except _Pruned:
            return Tried({**record, "seconds": _since(begun)})
        except (RecipeError, ModelError, SettingsError, DataError) as error:
            return Tried({**record, "seconds": _since(begun)}, error=error)

    def settle(self, claim: Claim, tried: Tried) -> None:
        """Note what became of a trial."""
        if tried.error is not None:
            self._tell(claim, f"failed: {tried.error.message}", "warning")
            self.first_error = self.first_error or tried.error
            self.study.failed(claim, tried.error, tried.record)
        elif tried.value is None:
            self.study.pruned(claim, tried.record)
            self._tell(claim, "given up, others were better at its step")
        else:
            self.study.complete(claim, tried.value, tried.record)
            self._keep(claim.key)
            best = " (the best so far)" if self.kept == claim.key else ""
            self._tell(claim, f"{self.study.plan.objective} {tried.value:.6g}{best}")

    def _train(self, claim: Claim, record: dict[str, Any]) -> list[dict[str, Any]]:
        run, material, own = self.run, self.material, self.own(claim.key)
        run.seed()
        context = self._context(claim.values)
        record["hyperparameters"] = run.found["hyperparameters"]
        context, checkpoints = with_checkpoints(run, material, context, self._checkpoint_dir(claim.rank), quiet=True)
        pruning = _Pruning(self.study, claim, context)
        context = replace(context, listener=pruning, outputs=self._outputs(claim.rank))
        data, validation = prepare(run, material, context)
        if validation is None:
            raise SettingsError(
                "trials cannot be compared without validation data", where="validation", hint="add --validation URI"
            )
        with _disk(own):
            (own / models.ARTIFACT).mkdir(parents=True, exist_ok=True)
        model = fit(run, material.recipe, data, validation, context, own / models.ARTIFACT)
        pruning.report()
        notes = {
            "history": plain(context.history.to_json(), run.reporter.redact),
            "training": training_facts(material, context, checkpoints),
        }
        with _disk(own):
            (own / NOTES).write_text(json.dumps(notes), encoding="utf-8")
        evaluator = need_evaluator(material.recipe)
        with run.author(f"{type(evaluator).__name__}.evaluate"):
            found: list[dict[str, Any]] = evaluator.evaluate(validation, model, context).to_json()["metrics"]
        return found

    def _context(self, values: Mapping[str, Any]) -> Context[Any]:
        """A trial's context; what it uses is noted as the run's hyperparameters."""
        run = self.run
        declared = run.declared()
        decoded: Hyperparameters = declared.decode({**run.config.given, **values})
        run.found["hyperparameters"] = decoded.model_dump(mode="json", exclude=run.untold(declared))
        return make_context(run, self.material, decoded)

    def record(self) -> None:
        """Note all trials so far for the result and, with ``--outputs``, in its file."""
        run, plan = self.run, self.study.plan
        records, best = self.study.records(), self.study.best()
        states = ("complete", "pruned", "failed", "running")
        counts = {state: sum(one["state"] == state for one in records) for state in states}
        run.found["trials"] = {
            "study": self.study.name,
            "objective": plan.objective,
            "direction": plan.direction,
            "count": plan.count,
            "counts": counts,
            "best": best,
        }
        done = len(records) - counts["running"]
        run.reporter.progress(done, plan.count, "trial")
        if run.config.outputs is not None:
            lines = "".join(json_line(plain(one, run.reporter.redact)) for one in records)
            with run.stopper.shielded(), _disk(run.config.outputs):
                write_atomic(run.config.outputs / TRIALS, lines)

    def place_best(self) -> None:
        """Make the best trial's model the model directory; where it was trained elsewhere, it is trained again here.

        Raises:
            MealkitError: no trial was completed; the first failed one's error.
        """
        run, material = self.run, self.material
        best, key = self.study.best(), self.study.best_key()
        if best is None or key is None:
            raise self._failed()
        if existed(run):
            return
        run.seed()
        context = self._context({one.name: best["hyperparameters"][one.name] for one in self.study.plan.space})
        data, validation = prepare(run, material, context)
        own = self.own(key)
        artifact = self.folder / models.ARTIFACT
        again = not (own / NOTES).is_file()
        if again:  # in another container, or before this run was resumed
            run.reporter.log("info", f"trial {best['number']} was made elsewhere: its model is trained again here")
            model = fit(run, material.recipe, data, validation, context, artifact)
            run.found["history"] = plain(context.history.to_json(), run.reporter.redact)
            run.found["training"] = training_facts(material, context, None)
        else:
            artifact.rmdir()
            (own / models.ARTIFACT).rename(artifact)
            run.found |= json.loads((own / NOTES).read_text(encoding="utf-8"))
            model = load(run, material.recipe, artifact)
        facts = {"trials": {**run.found["trials"], "trained_again": again, "all": self.study.records()}}
        shutil.rmtree(self.folder / "trials", ignore_errors=True)
        (self.folder / JOURNAL).unlink(missing_ok=True)
        finish(run, material, model, validation, context, self.folder, facts)
        if again:
            self._compare(best)

    def _compare(self, best: Mapping[str, Any]) -> None:
        metrics = self.run.found.get("metrics") or {"metrics": []}
        value = objective_value(metrics["metrics"], self.study.plan.objective)
        if value != best["value"]:
            self.run.warn(
                f"trial {best['number']} had {self.study.plan.objective} {best['value']:.6g}; "
                f"trained again it has {value:.6g}",
                "the recipe is not repeatable: does it use context.seed everywhere?",
            )

    def _tell(self, claim: Claim, what: str, level: str = "info") -> None:
        tried = ", ".join(f"{name}={value}" for name, value in claim.values.items())
        self.run.reporter.log(level, f"trial {claim.rank}: {what}; {tried}")

    def _failed(self) -> MealkitError:
        if self.first_error is not None:
            error = self.first_error
        else:
            told: dict[str, Any] = next((one["error"] for one in self.study.records() if one.get("error")), {})
            error = RecipeError(
                str(told.get("message", "no trial gave a value")),
                where=told.get("where"),
                hint=told.get("hint") or "look at the trials' errors",
            )
        error.message = f"no trial was completed; the first error: {error.message}"
        return error

    def _keep(self, key: int) -> None:
        """Keep this trial's model if it is the best so far, instead of the one that was kept."""
        if self.study.best_key() != key:
            return
        if self.kept is not None:
            shutil.rmtree(self.own(self.kept), ignore_errors=True)
        self.kept = key

    def own(self, key: int) -> Path:
        """Where a trial's model is until the best is chosen."""
        return self.folder / "trials" / str(key)

    def _checkpoint_dir(self, rank: int) -> Path | None:
        folder = self.run.config.checkpoint_dir
        return None if folder is None else folder / f"trial-{rank:04d}"

    def _outputs(self, rank: int) -> Path | None:
        if self.run.config.outputs is None:
            return None
        folder = self.run.config.outputs / f"trial-{rank:04d}"
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder


class _Pruned(BaseException):
    """A trial is given up; no ``except Exception`` in a recipe can swallow it."""


class _Pruning:
    """The listener of a trial's context: reports the objective by step, and ends a trial that is too bad."""

    def __init__(self, study: Study, claim: Claim, context: Context[Any]) -> None:
        self.study, self.claim, self.history = study, claim, context.history
        self.names = (study.plan.objective, f"validation_{study.plan.objective}")

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Not told: the run's progress is that of its trials."""

    def metric(self, name: str, value: float, step: int | None) -> None:
        """Report a value of the objective."""
        if name in self.names and step is not None:
            self._report([*self.history.points(name), (step, value)])

    def report(self) -> None:
        """Report what a trial that had nothing left to do has from its checkpoint."""
        for name in self.names:
            if not self.claim.reported and (points := self.history.points(name)):
                self._report(points)

    def _report(self, points: list[tuple[int, float]]) -> None:
        # All points: those of a resumed trial come from its checkpoint.
        if self.study.report(self.claim, points):
            raise _Pruned


def _run_all(trials: Trials, storage: str | None) -> None:
    """All trials of the study: those of this run, and what processes elsewhere leave undone."""
    run = trials.run
    while True:
        if run.config.engine is not None:
            from .cluster_train import work_on_cluster

            work_on_cluster(trials)
        elif run.config.trial_workers == 1 or storage is None:
            trials.work()
        else:
            from .trial_worker import work_together

            work_together(trials, storage)
        if trials.study.settled():
            return


def _storage(run: Run) -> str | None:
    config = run.config
    if config.trial_storage is not None:
        password = urlsplit(config.trial_storage).password if "://" in config.trial_storage else None
        if password:
            run.reporter.redactor.hide(password)
        return config.trial_storage.removeprefix("file://")
    return None if config.checkpoint_dir is None else str(config.checkpoint_dir / JOURNAL)


@contextlib.contextmanager
def _disk(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, "keeping a trial", where) from error


def _plain(value: Any) -> Any:
    """An enumeration's member as its value."""
    return getattr(value, "value", value)


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 4)
