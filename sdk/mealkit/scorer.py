"""The scorer: turns prepared rows and a model into output rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from .context import Context
from .errors import RecipeError
from .trainer import M

if TYPE_CHECKING:
    import pandas as pd


class Scorer(Generic[M]):
    """Subclass it to write your own output; as it is, it asks a scikit-learn model.

    As it is, it gives ``prediction``; for a classification model with ``predict_proba`` also ``probability`` (of the
    last class, when there are two) or ``probability_CLASS`` of each; for clustering ``cluster``; for ranking ``score``,
    the higher the better. The runtime puts the recipe's keys in front.
    """

    def score(self, batch: pd.DataFrame, model: M, context: Context[Any]) -> pd.DataFrame:
        """Output rows on the index of ``batch`` (prepared features, one row a case)."""
        import pandas as pd

        estimator: Any = model
        if not hasattr(estimator, "predict"):
            raise RecipeError(
                f"the default scorer cannot use a model of type {type(model).__name__}: it has no predict",
                where="mealkit.Scorer.score",
                hint="name a scorer in [tool.mealkit] that knows this model",
            )
        if context.kind == "ranking" and hasattr(estimator, "predict_proba"):
            return pd.DataFrame({"score": estimator.predict_proba(batch)[:, -1]}, index=batch.index)
        predicted = estimator.predict(batch)
        if context.kind == "ranking":
            return pd.DataFrame({"score": predicted}, index=batch.index)
        if context.kind == "clustering":
            return pd.DataFrame({"cluster": predicted}, index=batch.index)
        scores = pd.DataFrame({"prediction": predicted}, index=batch.index)
        if context.kind == "classification" and hasattr(estimator, "predict_proba"):
            probabilities = estimator.predict_proba(batch)
            classes = list(estimator.classes_)
            if len(classes) == 2:
                scores["probability"] = probabilities[:, 1]
            else:
                for position, name in enumerate(classes):
                    scores[f"probability_{name}"] = probabilities[:, position]
        return scores
