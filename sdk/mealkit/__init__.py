"""The SDK for recipe authors: declare data, hyperparameters, training, evaluation and scoring.

Names are loaded on first use, so ``import mealkit`` costs nothing and brings nothing in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import Field as Field

    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import Checkpoints as Checkpoints
    from .clustering import ClusteringEvaluator as ClusteringEvaluator
    from .context import Context as Context
    from .data import Data as Data
    from .errors import MealkitError as MealkitError
    from .evaluator import ClassificationEvaluator as ClassificationEvaluator
    from .evaluator import Evaluator as Evaluator
    from .evaluator import RegressionEvaluator as RegressionEvaluator
    from .history import EarlyStopping as EarlyStopping
    from .hyperparameters import Hyperparameters as Hyperparameters
    from .loader import DataLoader as DataLoader
    from .metrics import Bootstrap as Bootstrap
    from .metrics import Curve as Curve
    from .metrics import Metric as Metric
    from .metrics import Metrics as Metrics
    from .metrics import Slice as Slice
    from .metrics import Table as Table
    from .ranking import RankingEvaluator as RankingEvaluator
    from .row import Row as Row
    from .saver import BatchRecord as BatchRecord
    from .saver import DataSaver as DataSaver
    from .scorer import Scorer as Scorer
    from .space import search as search
    from .spec import RecipeSpec as RecipeSpec
    from .trainer import Trainer as Trainer

__version__ = "0.1.0"

_WHERE = {
    "BatchRecord": "saver",
    "Bootstrap": "metrics",
    "Checkpoint": "checkpoint",
    "Checkpoints": "checkpoint",
    "ClassificationEvaluator": "evaluator",
    "ClusteringEvaluator": "clustering",
    "Context": "context",
    "Curve": "metrics",
    "Data": "data",
    "DataLoader": "loader",
    "DataSaver": "saver",
    "EarlyStopping": "history",
    "Evaluator": "evaluator",
    "Hyperparameters": "hyperparameters",
    "MealkitError": "errors",
    "Metric": "metrics",
    "Metrics": "metrics",
    "RankingEvaluator": "ranking",
    "RecipeSpec": "spec",
    "RegressionEvaluator": "evaluator",
    "Row": "row",
    "Scorer": "scorer",
    "Slice": "metrics",
    "Table": "metrics",
    "Trainer": "trainer",
    "search": "space",
}

__all__ = [
    "BatchRecord",
    "Bootstrap",
    "Checkpoint",
    "Checkpoints",
    "ClassificationEvaluator",
    "ClusteringEvaluator",
    "Context",
    "Curve",
    "Data",
    "DataLoader",
    "DataSaver",
    "EarlyStopping",
    "Evaluator",
    "Field",
    "Hyperparameters",
    "MealkitError",
    "Metric",
    "Metrics",
    "RankingEvaluator",
    "RecipeSpec",
    "RegressionEvaluator",
    "Row",
    "Scorer",
    "Slice",
    "Table",
    "Trainer",
    "__version__",
    "search",
]


def __getattr__(name: str) -> object:
    if name == "Field":
        from pydantic import Field

        value: object = Field
    elif name in _WHERE:
        value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
