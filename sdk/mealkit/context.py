"""The context: what a run gives to a recipe's code beside the data; it does not tell the mode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol

from typing_extensions import TypeVar

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
    listener: Listener = field(default_factory=_Silent, repr=False)
    stopping: Callable[[], bool] = field(default=_never, repr=False)

    def progress(self, done: int, total: int | None = None, unit: str = "step") -> None:
        """Tell how far the work is: ``done`` of ``total`` units (None: unknown)."""
        self.listener.progress(done, total, unit)

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Tell a metric while training; ``step`` orders the values (None: a single value)."""
        self.listener.metric(name, float(value), step)

    @property
    def stop_requested(self) -> bool:
        """Whether the run was asked to stop; long loops look here, save a checkpoint and return."""
        return self.stopping()
