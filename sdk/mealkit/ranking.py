"""The ready evaluator for ranking and recommendation: how well the best cases of each query stand on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mealkit._value import dataclass

from .context import Context
from .data import Data
from .errors import RecipeError
from .evaluator import Evaluator, curve_of, with_direction
from .metrics import Curve, Metrics, Table
from .trainer import M

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from .evaluator import Resampler

    Floats = npt.NDArray[np.float64]

MOST_RANKS = 50
"""Curves by rank go no further."""


class RankingEvaluator(Evaluator[M]):
    """MAP, NDCG, MRR, precision and recall, each the mean over the queries that have a relevant case.

    A case is an item offered for a query (a visitor, a search), its target how relevant it was. The query is the
    loader's ``keep_together``, or the column that ``query`` names. With ``k`` other than 10 the names end in it.

    - ``precision_at_10``, ``recall_at_10``: relevant items among the first ten, by ten and by all that are relevant.
    - ``map_at_10``: mean average precision: the mean of the precisions at the ranks of the relevant items among the
      first ten, by as many as could be there (Manning, Raghavan and Schütze, 2008, with the cut of a top list).
    - ``ndcg_at_10``: discounted cumulative gain by the best possible (Järvelin and Kekäläinen, 2002), with logarithms
      to base 2, as scikit-learn's ``ndcg_score``.
    - ``mrr``: mean of 1 / rank of the first relevant item, at any depth (Voorhees, 1999).

    Items of equal score stand in every order with equal chance; what is given is the mean over these orders (McSherry
    and Najork, 2008), so that the order of the rows does not matter. Weights do not count.

    Attributes:
        k: How many items of a query count.
        relevant_from: An item is relevant from this target on.
        gain: ``linear``: an item's gain is its target; ``exponential``: 2**target - 1 (Burges et al., 2005).
        query: The column (a key or a feature) that tells the query; None: the loader's ``keep_together``.
    """

    k: ClassVar[int] = 10
    relevant_from: ClassVar[float] = 1
    gain: ClassVar[Literal["linear", "exponential"]] = "linear"
    query: ClassVar[str | None] = None

    def groups(self, data: Data) -> pd.Series:
        """The query of each case.

        Raises:
            RecipeError: nothing tells it.
        """
        if self.query is None and data.groups is not None:
            return data.groups
        for frame in (data.keys, data.features):
            if self.query in frame.columns:
                column: pd.Series = frame[self.query]
                return column
        raise RecipeError(
            "nothing tells which cases are of one query"
            if self.query is None
            else f"there is no column {self.query!r}",
            where=f"{type(self).__name__}.query",
            hint="set keep_together in the loader, or name a key or feature as query in your evaluator",
        )

    def scores(self, features: pd.DataFrame, model: M) -> Floats:
        """Each case's score, the higher the better; as it is: ``predict_proba`` of the last class, or ``predict``."""
        import numpy as np

        estimator: Any = model
        if hasattr(estimator, "predict_proba"):
            return np.asarray(estimator.predict_proba(features)[:, -1], dtype="float64")
        return np.asarray(estimator.predict(features), dtype="float64")

    def evaluate(self, data: Data, model: M, context: Context[Any]) -> Metrics:
        """The metrics of the class docstring; NaN where no query has a relevant item."""
        import numpy as np

        found = self._judge(data, model)
        with np.errstate(invalid="ignore"):
            values = {name: _mean(column) for name, column in found.values.items()}
        curves: tuple[Curve, ...] = ()
        if len(found.recall):
            ranks = np.arange(1, len(found.recall) + 1)
            curves = (
                curve_of("recall_by_rank", "rank", "part of the relevant items that is found", ranks, found.recall),
                curve_of("precision_by_rank", "rank", "part of the items that is relevant", ranks, found.precision),
            )
        judged = len(next(iter(found.values.values())))
        table = Table(
            "queries",
            ("queries", "judged", "without a relevant item", "items", "relevant items"),
            ((found.queries, judged, found.queries - judged, len(data), found.relevant),),
        )
        return Metrics(with_direction("ranking", values), curves, (table,))

    def resampler(self, data: Data, model: M, context: Context[Any]) -> Resampler | None:
        """The metrics of drawn queries: means over them."""
        found = self._judge(data, model)

        def measure(counts: npt.NDArray[np.int64]) -> dict[str, float]:
            times = counts[found.first]
            total = int(times.sum())
            if not total:
                return {}
            return {name: float((column * times).sum() / total) for name, column in found.values.items()}

        return measure

    def _judge(self, data: Data, model: M) -> _Judged:
        import numpy as np
        import pandas as pd

        scores = self.scores(data.features, model)
        target = np.asarray(data.target, dtype="float64")
        query = pd.factorize(self.groups(data), use_na_sentinel=False)[0]
        relevant = target >= self.relevant_from
        gain = target if self.gain == "linear" else np.exp2(target) - 1
        return _judge(query, scores, relevant, gain, self.k)


@dataclass(frozen=True)
class _Judged:
    """What the items of each query came to.

    Attributes:
        queries: How many there are.
        relevant: How many items are relevant.
        first: Of each judged query, the place of one of its cases.
        values: By metric, its value for each judged query.
        recall: By rank, the mean part of the relevant items that is found so far.
        precision: By rank, the mean part of the items so far that is relevant.
    """

    queries: int
    relevant: int
    first: npt.NDArray[np.int64]
    values: dict[str, Floats]
    recall: Floats
    precision: Floats


def _judge(query: Any, scores: Floats, relevant: Any, gain: Floats, k: int) -> _Judged:
    """All queries at once: rows are sorted by query and falling score, and sums are taken over ranks and ties."""
    import numpy as np
    from scipy.special import gammaln

    queries = int(query.max()) + 1 if len(query) else 0
    all_relevant = np.bincount(query, weights=relevant, minlength=queries)
    order = np.lexsort((-scores, query))
    query, scores, relevant, gain, place = query[order], scores[order], relevant[order], gain[order], order
    size = np.bincount(query, minlength=queries)
    start = np.concatenate(([0], np.cumsum(size)))[:-1]
    rank = np.arange(len(query)) - start[query] + 1

    # A tie: rows of one query and one score. Each of its ranks gets the mean of what its items could bring there.
    opens = np.ones(len(query), dtype=bool)
    opens[1:] = (query[1:] != query[:-1]) | (scores[1:] != scores[:-1])
    tie = np.cumsum(opens) - 1
    length = np.bincount(tie)
    hits = np.bincount(tie, weights=relevant)
    mean_gain = np.bincount(tie, weights=gain) / length
    first_rank = rank[opens]
    before = np.cumsum(hits) - hits
    before = before - before[tie[start]][query[opens]]
    t, r, above = length[tie], hits[tie], before[tie]
    within = rank - first_rank[tie] + 1
    share = r / t

    best = np.lexsort((-gain, query))
    discount = 1 / np.log2(rank + 1)
    counted = rank <= k

    def total(values: Any) -> Any:
        return np.bincount(query, weights=values, minlength=queries)

    ideal = total(gain[best] * discount * counted)
    expected = above + 1 + (within - 1) * (r - 1) / np.maximum(t - 1, 1)
    # The first relevant item of a query stands in the first tie that has one, at its j-th rank with the chance that
    # j - 1 others, none of them relevant, were drawn before: C(t - j, r - 1) / C(t, r).
    leading = (above == 0) & (r > 0) & (within <= t - r + 1)
    chance = np.zeros(len(query))
    j, many, few = within[leading], t[leading], r[leading]
    chance[leading] = np.exp(
        gammaln(many - j + 1) - gammaln(few) - gammaln(many - j - few + 2)
        - gammaln(many + 1) + gammaln(few + 1) + gammaln(many - few + 1)
    )  # fmt: skip

    judged = np.flatnonzero(all_relevant > 0)
    there = all_relevant[judged]
    dcg = total(mean_gain[tie] * discount * counted)[judged]
    found = total(share * counted)[judged]
    values = {
        f"map_at_{k}": total(share * expected / rank * counted)[judged] / np.minimum(there, k),
        f"ndcg_at_{k}": np.divide(dcg, ideal[judged], out=np.zeros(len(judged)), where=ideal[judged] > 0),
        "mrr": total(chance / rank)[judged],
        f"precision_at_{k}": found / k,
        f"recall_at_{k}": found / there,
    }
    ranks = min(MOST_RANKS, int(size[judged].max())) if len(judged) else 0
    shown = (rank <= ranks) & (all_relevant[query] > 0)
    by_rank = np.bincount(rank[shown], weights=(share / all_relevant[query].clip(1))[shown], minlength=ranks + 1)[1:]
    hit = np.bincount(rank[shown], weights=share[shown], minlength=ranks + 1)[1:]
    return _Judged(
        queries=queries,
        relevant=int(relevant.sum()),
        first=place[start[judged]],
        values=values,
        recall=np.cumsum(by_rank) / max(len(judged), 1),
        precision=np.cumsum(hit) / max(len(judged), 1) / np.arange(1, ranks + 1),
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
