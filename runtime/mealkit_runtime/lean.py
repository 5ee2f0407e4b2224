"""Loads a model with skops without the half second that importing skops takes.

``skops.io._trusted_types`` lists, when it is imported, all that skops trusts by itself: for that it imports every
module of scikit-learn, and searches every loaded module for each function of numpy and scipy. A scoring run would wait
for that before its first row, and hardly any model needs the lists: :meth:`mealkit.Trainer.load` has a rule of its own.
So a model is first loaded with lists that are shorter than skops', and so can only trust less; a model that needs more,
or a skops that is made otherwise, is then loaded in the ordinary way.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mealkit.trainer import Trainer

_LISTS = "skops.io._trusted_types"


def load(trainer: Trainer[Any, Any], folder: Path) -> Any:
    """``trainer.load(folder)``, faster where that is mealkit's own and the recipe has not imported skops.

    Raises:
        Exception: whatever ``trainer.load`` raises.
    """
    if type(trainer).load is Trainer.load and not trainer.allow_pickle and "skops" not in sys.modules:
        with contextlib.suppress(Exception), _lean_skops():
            return trainer.load(folder)
    return trainer.load(folder)


@contextlib.contextmanager
def _lean_skops() -> Iterator[None]:
    """Inside the block skops has nearly empty lists; afterwards it is as if it had never been imported."""
    lists = _Lists(_LISTS)
    sys.modules[_LISTS] = lists
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == "skops" or name.startswith("skops.")]:
            del sys.modules[name]


class _Lists(ModuleType):
    """Stands in for skops' lists: plain types, numpy's scalars and its bit generators are trusted, and nothing else."""

    def __getattr__(self, name: str) -> list[str]:
        if name == "PRIMITIVE_TYPE_NAMES":
            return ["builtins.int", "builtins.float", "builtins.str", "builtins.bool"]
        if name == "CONTAINER_TYPE_NAMES":
            return ["builtins.list", "builtins.set", "builtins.map", "builtins.tuple"]
        if name == "NUMPY_DTYPE_TYPE_NAMES":
            import numpy as np

            names = {f"{kind.__module__}.{kind.__name__}" for kind in np.sctypeDict.values()}
            return sorted(name for name in names if name.startswith("numpy."))
        if name == "NUMPY_RANDOM_BIT_GENERATOR_TYPE_NAMES":
            from numpy import random

            public = {key: getattr(random, key) for key in dir(random)}
            return sorted(f"numpy.random.{key}" for key, kind in public.items() if _is_generator(kind))
        if name.endswith("_TYPE_NAMES"):
            return []
        raise AttributeError(name)


def _is_generator(kind: object) -> bool:
    from numpy.random import BitGenerator

    return isinstance(kind, type) and issubclass(kind, BitGenerator) and kind is not BitGenerator
