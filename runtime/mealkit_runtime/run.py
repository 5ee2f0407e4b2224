"""One run: its settings, recipe and surroundings, and the steps that several modes share."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib.metadata
import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.context import Context
from mealkit.errors import MealkitError, storage_error
from mealkit.hyperparameters import Hyperparameters, secret_fields
from mealkit.metrics import Metrics
from mealkit.recipe import Recipe, author_code, load_class, load_recipe
from mealkit.spec import RecipeSpec

from . import lean
from .config import RunConfig
from .dataset import Source, fingerprint, locate, read_all
from .events import Reporter, plain
from .files import STAGING
from .model import StoredModel, open_model
from .stop import Stopper

if TYPE_CHECKING:
    import pandas as pd

    from .bad_row import BadRows
    from .quarantine import Quarantine

_LIBRARIES = ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "skops", "pydantic")
_MODULES = {"scikit-learn": "sklearn"}


@dataclass
class Run:
    """What the modes work with.

    Attributes:
        found: What is known for the result so far, by the names of :class:`~mealkit_runtime.result.RunResult`.
        helps: Another process of the run tells what becomes of bad rows.
    """

    spec: RecipeSpec
    config: RunConfig
    reporter: Reporter
    stopper: Stopper
    environment: Mapping[str, str]
    clock: Callable[[], float] = time.time
    found: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    helps: bool = False

    @property
    def image(self) -> str | None:
        """The image that the run is in, where it was told."""
        return self.reporter.redact(self.environment.get("MEALKIT_IMAGE") or "") or None

    @property
    def recipe_facts(self) -> dict[str, str]:
        """What identifies the recipe."""
        return {"name": self.spec.name, "version": self.spec.version, "spec_digest": self.spec.digest}

    @contextlib.contextmanager
    def stage(self, name: str, **facts: object) -> Iterator[dict[str, object]]:
        """Time a stage and tell of it; the block may add facts for the ``finished`` event."""
        self.reporter.stage(name, "started")
        notes: dict[str, object] = dict(facts)
        with self.timed(name):
            yield notes
        self.reporter.stage(name, "finished", seconds=round(self.seconds[name], 4), **notes)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the block's duration to a stage."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - before

    @contextlib.contextmanager
    def author(self, what: str) -> Iterator[None]:
        """The recipe's own code runs in the block: its exceptions are the recipe's, and a stop is asked, not forced."""
        with self.stopper.patient(), author_code(what):
            yield

    def warn(self, message: str, hint: str | None = None) -> None:
        """Tell what the user should look at, now and in the result."""
        self.warnings.append(message)
        self.reporter.warning(message, hint)

    def load_recipe(self) -> Recipe:
        """Import the recipe's classes, with the libraries that they need."""
        with self.stage("import"), _no_garbage():
            recipe = load_recipe(self.spec)
        self.seed()
        return recipe

    def seed(self) -> None:
        """Seed the global random generators, which libraries use where they are told no seed."""
        seed_generators(self.found.get("seed") or 0)

    def locate(self) -> tuple[Source, dict[str, Source]]:
        """The files of the main dataset and of the further ones; reads nothing yet."""
        main = locate(self.config.input, self.config.query)
        return main, {name: locate(uri) for name, uri in self.config.inputs.items()}

    def read_inputs(self, recipe: Recipe, sources: Mapping[str, Source]) -> dict[str, pd.DataFrame]:
        """The further datasets, whole."""
        from .schema import schema_of

        return {name: read_all(source, schema_of(recipe.inputs.get(name)))[0] for name, source in sources.items()}

    @functools.cached_property
    def quarantine(self) -> Quarantine | None:
        """Who keeps the bad rows of all datasets of the run."""
        folder = self.config.quarantine
        if folder is None:
            return None
        from .quarantine import Quarantine

        shard = self.config.shard
        name = self.config.run_id if shard is None else f"{self.config.run_id}.{shard.index}-of-{shard.count}"
        return Quarantine(folder, name, self.reporter.redactor.known, self.stopper)

    def bad_rows(self, *, main: bool = True) -> BadRows:
        """A ledger for the rows of one dataset; those of the main one are told in the result."""
        from .bad_row import BadRows

        if self.helps:
            return BadRows(self.config.on_bad_rows).again()
        found = self.found if main else None
        return BadRows(self.config.on_bad_rows, self.config.max_bad_rows, self.warn, self.quarantine, found)

    def commit_bad_rows(self) -> None:
        """Make the kept bad rows visible; right before the run's own result, without which they would mean nothing."""
        place = None if self.quarantine is None else self.quarantine.commit()
        if place is not None:
            self.found["quarantine"] = str(place)

    @contextlib.contextmanager
    def keeping_bad_rows(self) -> Iterator[None]:
        """If the block fails, or does not commit them, no bad row is kept."""
        try:
            yield
        except BaseException:
            self.found.pop("quarantine", None)
            if self.quarantine is not None:
                self.quarantine.withdraw()
            raise
        if self.quarantine is not None:
            self.quarantine.close()

    def context(self, hyperparameters: Hyperparameters, inputs: Mapping[str, pd.DataFrame]) -> Context[Any]:
        """What the recipe's code gets beside the data."""
        config = self.config
        for folder in (config.outputs, config.checkpoint_dir):
            if folder is not None:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise storage_error(error, "making a folder for the recipe") from None
        return Context(
            run_id=config.run_id,
            hyperparameters=hyperparameters,
            inputs=inputs,
            kind=self.spec.kind,
            target=self.spec.target,
            keys=self.spec.keys,
            seed=int(self.found.get("seed") or 0),
            logger=logging.getLogger("mealkit.recipe"),
            outputs=config.outputs,
            checkpoint_dir=config.checkpoint_dir,
            listener=self.reporter,
            stopping=lambda: self.stopper.requested,
        )

    def declared(self) -> type[Hyperparameters]:
        """The recipe's hyperparameters as declared."""
        reference = self.spec.components.get("hyperparameters")
        return Hyperparameters if reference is None else load_class(reference, Hyperparameters, "hyperparameters")

    def decode(self, stored: Mapping[str, object] | None = None) -> Hyperparameters:
        """The run's hyperparameters; imports the recipe's light settings module only.

        Args:
            stored: Those of a trained model, which hold; of what was given now, only secrets count then.

        Raises:
            SettingsError: one is unknown, of the wrong type or out of range.
        """
        cls = self.declared()
        given = self.config.given
        redactor = self.reporter.redactor
        hidden = self.untold(cls)
        if stored is not None:
            given = {**stored, **{name: value for name, value in given.items() if name in hidden}}
        decoded: Hyperparameters = cls.decode(given)
        redactor.hide(*_secret_values(decoded))
        self.found["hyperparameters"] = decoded.model_dump(mode="json", exclude=set(hidden))
        return decoded

    def untold(self, declared: type[Hyperparameters]) -> set[str]:
        """The hyperparameters that are stored nowhere: secrets, and texts with a password in them, such as a URL."""
        change = self.reporter.redactor.text
        given = self.config.given.items()
        return set(secret_fields(declared)) | {
            name for name, value in given if isinstance(value, str) and change(value) != value
        }

    def open_model(self) -> StoredModel:
        """Verify the model directory, and take over the seed that it was trained with."""
        with self.stage("verify"):
            stored = open_model(self.config.model, self.spec.name)
        self.found["model"] = stored.to_json()
        self.found["seed"] = int(stored.facts.get("seed") or 0)
        return stored

    def load_model(self, recipe: Recipe, stored: StoredModel) -> Any:
        """Deserialise a verified model."""
        changed = [
            f"{name} {was} → {now}"
            for name, now in versions().items()
            if (was := stored.facts.get("versions", {}).get(name)) not in (None, now) and name not in ("mealkit",)
        ]
        if changed:
            self.warn(
                f"the model was trained with other versions: {', '.join(changed)}",
                "train again with this image if the results look wrong",
            )
        with self.stage("load"), self.author(f"{type(recipe.trainer).__name__}.load"):
            return lean.load(recipe.trainer, stored.artifact)

    def describe_input(self, source: Source, *, whole: bool) -> dict[str, object]:
        """What tells the input from others, for records."""
        known: dict[str, object] = {**source.facts, "fingerprint": fingerprint(source, whole=whole)}
        facts: dict[str, object] = plain(known, self.reporter.redact)
        self.found["input"] = facts
        return facts

    def keep_metrics(self, metrics: Metrics) -> None:
        """Remember an evaluation's metrics for the result."""
        self.found["metrics"] = plain(metrics.to_json(), self.reporter.redact)


def _secret_values(hyperparameters: Hyperparameters) -> list[str]:
    """What the declared secrets hold after decoding, also those that are the recipe's own defaults."""
    found = []
    for name in secret_fields(type(hyperparameters)):
        value = getattr(hyperparameters, name)
        if hasattr(value, "get_secret_value"):
            secret = value.get_secret_value()
            found.append(secret if isinstance(secret, str) else secret.decode("utf-8", "replace"))
    return found


def versions() -> dict[str, str]:
    """Versions of Python, mealkit and of the loaded libraries whose changes may change results."""
    from . import __version__

    found = {"python": platform.python_version(), "mealkit": __version__}
    for name in _LIBRARIES:
        if _MODULES.get(name, name) in sys.modules:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return found


def disk_error(error: MealkitError, doing: str, where: object) -> MealkitError:
    """The storage error behind a recipe's failing write, if that is what it is; else ``error`` itself."""
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, OSError) and (cause.errno in _DISK or _is_lost(cause)):
            return storage_error(cause, doing, where)
        cause = cause.__cause__
    return error


_DISK = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EREMOTEIO}
)


def _is_lost(error: OSError) -> bool:
    """Whether the staging folder of a file is gone: the disk was taken away, since nobody else removes it."""
    if error.errno != errno.ENOENT or not isinstance(error.filename, str):
        return False
    staging = [path for path in Path(error.filename).parents if path.name.startswith(STAGING)]
    return bool(staging) and not staging[0].exists()


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Importing makes half a million objects that live on: they are not searched for garbage, now or later.

    Searching them takes 0.1 s while scikit-learn is imported, and 0.07 s at each full collection afterwards.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def seed_generators(seed: int) -> None:
    """Seed the global generators too, for recipes and libraries that use them; of ``seed``, 32 bits count."""
    import random

    random.seed(seed % 2**32)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(seed % 2**32)


__all__ = ["Run", "disk_error", "seed_generators", "versions"]
