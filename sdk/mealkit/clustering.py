"""The ready evaluator for clustering, with and without a truth to compare with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from .context import Context
from .data import Data
from .errors import RecipeError
from .evaluator import Evaluator, with_direction
from .metrics import Metrics, Table
from .trainer import M

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from .evaluator import Resampler

NOISE = -1
"""The label that scikit-learn's clusterers give to cases of no cluster."""


_ROWS = 500
"""So many rows of distances are held at once."""


class ClusteringEvaluator(Evaluator[M]):
    """How alike the cases of a cluster are; where the recipe has a target, also how well clusters meet its classes.

    Without a target: silhouette (Rousseeuw, 1987), Davies-Bouldin and Calinski-Harabasz, in the space that
    :meth:`space` gives; cases of the label -1 (noise) do not count there. With one also the adjusted Rand index
    (Hubert and Arabie, 1985), adjusted mutual information (Vinh et al., 2010), homogeneity, completeness and their
    harmonic mean V (Rosenberg and Hirschberg, 2007); the noise is then a cluster as others. Definitions:
    scikit-learn's ``sklearn.metrics``. Weights do not count.

    Attributes:
        silhouette_cases: The silhouette is the mean over so many cases, drawn by the seed, and among them: it takes
            memory and time by the square.
    """

    silhouette_cases: ClassVar[int] = 5_000

    def labels(self, features: pd.DataFrame, model: M) -> npt.NDArray[Any]:
        """The cluster of each case; as it is: ``model.predict``."""
        import numpy as np

        estimator: Any = model
        if not hasattr(estimator, "predict"):
            raise RecipeError(
                f"a model of type {type(model).__name__} cannot tell the cluster of new cases: it has no predict",
                where=f"{type(self).__name__}.labels",
                hint="override labels in your evaluator, or use a model with predict, such as KMeans",
            )
        return np.asarray(estimator.predict(features))

    def space(self, features: pd.DataFrame, model: M) -> npt.NDArray[np.float64]:
        """Where each case lies, of shape (cases, dimensions): what a pipeline's last step sees, else the numbers."""
        import numpy as np

        estimator: Any = model
        if len(getattr(estimator, "steps", ())) > 1:
            seen = estimator[:-1].transform(features)
            seen = seen.toarray() if hasattr(seen, "toarray") else seen
        else:
            seen = features.select_dtypes(["number", "bool"])
        return np.asarray(seen, dtype="float64")

    def evaluate(self, data: Data, model: M, context: Context[Any]) -> Metrics:
        """The metrics of the class docstring; those that too few clusters leave undefined are NaN."""
        import numpy as np

        labels = self.labels(data.features, model)
        names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        values = {} if _truth(data) is None else _against(_truth(data), codes)
        space = self.space(data.features, model)
        chosen, silhouettes = self._silhouettes(space, labels, context)
        values["silhouette"] = float(silhouettes.mean()) if len(silhouettes) else math.nan
        values |= _within(space, labels)
        mean = dict.fromkeys(names, math.nan)
        for name in names:
            mine = silhouettes[labels[chosen] == name]
            mean[name] = float(mine.mean()) if len(mine) else math.nan
        sizes = Table(
            "cluster_sizes",
            ("cluster", "cases", "share", "mean silhouette"),
            tuple(
                ("noise" if name == NOISE else str(name), int(count), float(count / len(labels)), mean[name])
                for name, count in zip(names, counts, strict=True)
            ),
        )
        return Metrics(with_direction("clustering", values), (), (sizes,))

    def resampler(self, data: Data, model: M, context: Context[Any]) -> Resampler | None:
        """The metrics of drawn cases; the silhouette changes by what each case brings (the infinitesimal jackknife)."""
        import numpy as np

        labels = self.labels(data.features, model)
        codes = np.unique(labels, return_inverse=True)[1]
        truth = _truth(data)
        space = self.space(data.features, model)
        chosen, silhouettes = self._silhouettes(space, labels, context)
        whole = float(silhouettes.mean()) if len(silhouettes) else math.nan
        brings = _brings(space[chosen], labels[chosen], silhouettes) if len(silhouettes) else silhouettes

        def measure(counts: npt.NDArray[np.int64]) -> dict[str, float]:
            drawn = np.repeat(np.arange(len(counts)), counts)
            values = {} if truth is None else _against(truth[drawn], codes[drawn])
            times = counts[chosen]
            moved = float((brings * times).sum() / times.sum()) if times.sum() else math.nan
            values["silhouette"] = min(max(whole + moved, -1.0), 1.0)
            return values | _within(space[drawn], labels[drawn])

        return measure

    def _silhouettes(
        self, space: npt.NDArray[np.float64], labels: npt.NDArray[Any], context: Context[Any]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The cases that count, by their places, and the silhouette of each."""
        import numpy as np
        from sklearn.metrics import silhouette_samples

        chosen = np.flatnonzero(labels != NOISE)
        if len(chosen) > self.silhouette_cases:
            random = np.random.default_rng(context.seed)
            chosen = np.sort(random.choice(chosen, self.silhouette_cases, replace=False))
        if not _judged(space[chosen], labels[chosen]):
            return chosen[:0], np.empty(0)
        return chosen, silhouette_samples(space[chosen], labels[chosen])


def _brings(space: Any, labels: Any, silhouettes: Any) -> npt.NDArray[np.float64]:
    """By how much, to first order, the mean silhouette changes with each case's weight; the sum of all is 0.

    A case has a silhouette of its own, and moves those of others: it is one of those to which their mean distances are.
    """
    import numpy as np
    from sklearn.metrics import pairwise_distances

    codes = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(codes)
    member = np.eye(len(sizes))[codes]
    found: npt.NDArray[np.float64] = silhouettes - silhouettes.mean()
    for start in range(0, len(codes), _ROWS):
        own = codes[start : start + _ROWS]
        rows, others = np.arange(len(own)), np.maximum(sizes[own] - 1, 1)
        distances = pairwise_distances(space[start : start + _ROWS], space)
        sums = distances @ member
        inner = sums[rows, own] / others
        means = sums / sizes
        means[rows, own] = np.inf
        near = means.argmin(axis=1)
        outer = means[rows, near]
        larger = np.maximum(inner, outer)
        counts = (sizes[own] > 1) & (larger > 0)  # alone in its cluster a case has the silhouette 0
        unit = np.divide(1, larger, out=np.zeros(len(own)), where=counts)
        ratio = np.minimum(inner, outer) * unit
        by_inner = np.where(inner < outer, -unit, -ratio * unit) / others
        by_outer = np.where(inner < outer, ratio * unit, unit) / sizes[near]
        change, still = np.zeros((2, len(own), len(sizes)))
        change[rows, own], change[rows, near] = by_inner, by_outer
        still[rows, own], still[rows, near] = by_inner * inner, by_outer * outer
        found += (change.T @ distances)[codes, np.arange(len(codes))] - still.sum(axis=0)[codes]
        found[start : start + _ROWS] += by_inner * inner  # to itself a case is nothing
    return found


def _truth(data: Data) -> npt.NDArray[np.int64] | None:
    """The number of each case's true class; None: the recipe has no target."""
    import pandas as pd

    if data.target.isna().all():
        return None
    return pd.factorize(data.target)[0]


def _against(truth: Any, codes: Any) -> dict[str, float]:
    """How well clusters meet the true classes."""
    from sklearn import metrics as sk

    homogeneity, completeness, v = sk.homogeneity_completeness_v_measure(truth, codes)
    return {
        "adjusted_rand": float(sk.adjusted_rand_score(truth, codes)),
        "adjusted_mutual_info": float(sk.adjusted_mutual_info_score(truth, codes)),
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
        "v_measure": float(v),
    }


def _within(space: Any, labels: Any) -> dict[str, float]:
    """How close together clusters are, and how far apart."""
    from sklearn import metrics as sk

    kept = labels != NOISE
    space, labels = space[kept], labels[kept]
    if not _judged(space, labels):
        return {"davies_bouldin": math.nan, "calinski_harabasz": math.nan}
    return {
        "davies_bouldin": float(sk.davies_bouldin_score(space, labels)),
        "calinski_harabasz": float(sk.calinski_harabasz_score(space, labels)),
    }


def _judged(space: Any, labels: Any) -> bool:
    """Whether the measures within are defined: two clusters, fewer of them than cases, and places that are known."""
    import numpy as np

    return bool(1 < len(np.unique(labels)) < len(labels) and space.shape[1] and np.isfinite(space).all())
