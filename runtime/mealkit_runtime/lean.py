"""Loads a model with skops without importing all of scikit-learn.

``skops.io`` lists scikit-learn's estimators when it is imported, and for that imports every module of it: half a second
that a scoring run would spend before its first row. The list only says which types skops trusts by itself, and
:meth:`mealkit.Trainer.load` asks skops for *all* types in the file and trusts by its own rule, so it can do without.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def lean_skops() -> Iterator[None]:
    """Inside the block, ``import skops.io`` trusts no estimator by itself; afterwards it is as if never imported.

    Where the recipe has imported skops already, nothing is changed. An import after the block gives the full module,
    so a recipe that uses skops in its own way meets the one it knows.
    """
    if "skops" in sys.modules:
        yield
        return
    import sklearn.utils
    import sklearn.utils.discovery as discovery

    def none(*_: Any, **__: Any) -> list[Any]:
        return []

    before = discovery.all_estimators, sklearn.utils.all_estimators
    discovery.all_estimators = sklearn.utils.all_estimators = none
    try:
        import skops.io  # noqa: F401
    finally:
        discovery.all_estimators, sklearn.utils.all_estimators = before
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == "skops" or name.startswith("skops.")]:
            del sys.modules[name]
