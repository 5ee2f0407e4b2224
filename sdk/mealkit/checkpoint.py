"""Checkpoints: what a training saves on its way, so that an interrupted one goes on instead of beginning anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mealkit._value import dataclass


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of a training that was found complete and unchanged.

    Attributes:
        step: The last step that is in it.
        folder: Holds the files that were written; read them, and change nothing.
    """

    step: int
    folder: Path


class Checkpoints(Protocol):
    """Saves checkpoints and finds the latest; the runtime keeps them in ``--checkpoint-dir``."""

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Save the state after ``step``: ``write`` gets an empty folder and writes plain files into it.

        All of them are kept or, if anything fails or the run is killed meanwhile, none. The metrics logged so far, what
        rules for early stopping have seen, and the state of Python's and numpy's global random generators are saved
        with them. Where the run keeps no checkpoints, ``write`` is not called.
        """

    def latest(self) -> Checkpoint | None:
        """The checkpoint to go on from; None: begin anew.

        With it the metrics, rules and global random generators become what they were when it was saved.
        """


class NoCheckpoints:
    """Keeps none: for runs without a folder, and for tests."""

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Do nothing."""

    def latest(self) -> Checkpoint | None:
        """None: there is nothing to go on from."""
        return None
