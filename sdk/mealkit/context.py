"""The context: what a run gives to a recipe's code beside the data; it does not tell the mode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol

from typing_extensions import TypeVar

from .checkpoint import Checkpoints, NoCheckpoints
from .history import EarlyStopping, History, Watch
from .hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import pandas as pd

H = TypeVar("H", bound=Hyperparameters, default=Hyperparameters)
H_co = TypeVar("H_co", bound=Hyperparameters, default=Hyperparameters, covariant=True)


class Listener(Protocol):
    """Who is told of a run's progress and metrics; the runtime is one."""

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` units are finished; ``total`` None: unknown."""

    def metric(self, name: str, value: float, step: int | None) -> None:
        """A metric has this value, at this step."""


class _Silent:
    def progress(self, done: int, total: int | None, unit: str) -> None:
        pass

    def metric(self, name: str, value: float, step: int | None) -> None:
        pass


def _never() -> bool:
    return False


def _no_model() -> None:
    return None


@dataclass(frozen=True)
class Context(Generic[H_co]):
    """What a run gives to a recipe's code beside the data.

    Attributes:
        run_id: The name of the run; the same id twice means the same run again.
        hyperparameters: Typed and validated.
        inputs: The further named datasets of ``[tool.mealkit.inputs]``, read whole.
        kind: The recipe's kind, such as ``classification``.
        target: The name of the target.
        keys: The names of the key columns.
        seed: The seed of everything random; the same seed gives the same model.
        logger: Where to write messages; they reach the run's log.
        outputs: A folder for further files of the run (plots, reports); None when the run keeps none.
        checkpoint_dir: A folder that outlives an interrupted run; None when the run keeps none.
        checkpoint: Saves checkpoints there, and finds the latest; see :class:`mealkit.Checkpoints`.
        history: The metrics that were logged.
    """

    run_id: str
    hyperparameters: H_co
    inputs: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    kind: str = "custom"
    target: str | None = None
    keys: tuple[str, ...] = ()
    seed: int = 0
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("mealkit.recipe"))
    outputs: Path | None = None
    checkpoint_dir: Path | None = None
    checkpoint: Checkpoints = field(default_factory=NoCheckpoints, repr=False)
    history: History = field(default_factory=History, repr=False)
    listener: Listener = field(default_factory=_Silent, repr=False)
    stopping: Callable[[], bool] = field(default=_never, repr=False)
    earlier: Callable[[], Any] = field(default=_no_model, repr=False)

    def progress(self, done: int, total: int | None = None, unit: str = "step") -> None:
        """Tell how far the work is: ``done`` of ``total`` units (None: unknown)."""
        self.listener.progress(done, total, unit)

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Tell a metric while training; ``step`` orders the values (None: a single value)."""
        number = float(value)
        self.history.add(name, number, step)
        self.listener.metric(name, number, step)

    def watch(self, rule: EarlyStopping) -> Watch:
        """Watch a metric that is logged: ``watch.stop`` tells when it no longer improves."""
        return self.history.watch(rule)

    @property
    def stop_requested(self) -> bool:
        """Whether the run was asked to stop; long loops look here, save a checkpoint and return."""
        return self.stopping()

    @property
    def warm_start(self) -> Any:
        """The earlier model to start from (``--warm-start``), as ``Trainer.load`` gave it; None: start from nothing."""
        return self.earlier()
