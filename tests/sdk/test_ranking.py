"""The ready ranking metrics: hand-computed lists, scikit-learn where it has them, and the mean over orders of ties."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

import mealkit
from mealkit.errors import RecipeError

CONTEXT: mealkit.Context[Any] = mealkit.Context(run_id="t", hyperparameters=mealkit.Hyperparameters(), kind="ranking")


class Given:
    def predict(self, features: pd.DataFrame) -> Any:
        return features["score"].to_numpy()


class Top3(mealkit.RankingEvaluator[Given]):
    k = 3


class All(mealkit.RankingEvaluator[Given]):
    k = 100


def data(queries: dict[str, list[tuple[float, float]]]) -> mealkit.Data:
    """Items as (score, relevance) of each query."""
    rows = [(name, *item) for name, items in queries.items() for item in items]
    frame = pd.DataFrame(rows, columns=["query", "score", "relevance"])
    return mealkit.Data(
        frame[["score"]], frame["relevance"], frame[["query"]].iloc[:, :0], groups=frame["query"].rename("query")
    )


def values(
    evaluator: mealkit.RankingEvaluator[Given], queries: dict[str, list[tuple[float, float]]]
) -> dict[str, float]:
    return {metric.name: metric.value for metric in evaluator.evaluate(data(queries), Given(), CONTEXT)}


def test_a_list_computed_by_hand() -> None:
    # Ranked: relevant, not, relevant, not, relevant (below the cut).
    found = values(Top3(), {"a": [(5, 1), (4, 0), (3, 1), (2, 0), (1, 1)]})
    assert found == pytest.approx(
        {
            "map_at_3": (1 / 1 + 2 / 3) / 3,
            "ndcg_at_3": (1 + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2),
            "mrr": 1,
            "precision_at_3": 2 / 3,
            "recall_at_3": 2 / 3,
        }
    )


def test_the_mean_is_over_queries_with_a_relevant_item() -> None:
    one, two = [(2.0, 0.0), (1.0, 1.0)], [(2.0, 1.0), (1.0, 0.0)]
    found = mealkit.RankingEvaluator[Given]().evaluate(
        data({"a": one, "b": two, "nothing": [(1, 0), (2, 0)]}), Given(), CONTEXT
    )
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["precision_at_10"] == pytest.approx(1 / 10)
    assert found.tables[0].rows == ((3, 2, 1, 6, 2),)
    assert found.curves[0].y == pytest.approx((0.5, 1))
    nothing = mealkit.RankingEvaluator[Given]().evaluate(data({"a": [(1, 0)]}), Given(), CONTEXT)
    assert all(math.isnan(metric.value) for metric in nothing)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=12))
def test_ndcg_is_scikit_learns_also_with_ties(items: list[tuple[float, float]]) -> None:
    score, relevance = (np.array([column], dtype=float) for column in zip(*items, strict=True))
    found = values(Top3(), {"a": items})
    if (relevance >= 1).any():
        assert found["ndcg_at_3"] == pytest.approx(ndcg_score(relevance, score, k=3))
    else:
        assert math.isnan(found["ndcg_at_3"])


def test_without_ties_and_cut_map_is_the_average_precision() -> None:
    random = np.random.default_rng(0)
    queries = {
        str(number): list(
            zip(random.permutation(20).astype(float), random.integers(0, 2, 20).astype(float), strict=True)
        )
        for number in range(30)
    }
    queries = {name: items for name, items in queries.items() if any(relevance for _, relevance in items)}
    expected = [average_precision_score([r for _, r in items], [s for s, _ in items]) for items in queries.values()]
    assert values(All(), queries)["map_at_100"] == pytest.approx(np.mean(expected))


@settings(deadline=None, max_examples=12)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=3, max_size=5))
def test_ties_count_as_the_mean_over_all_their_orders(items: list[tuple[float, float]]) -> None:
    if not any(relevance for _, relevance in items):
        return
    every = []
    for order in itertools.permutations(items):
        ranked = sorted(order, key=lambda item: -item[0])
        every.append(values(Top3(), {"a": [(float(-place), item[1]) for place, item in enumerate(ranked)]}))
    mean = {name: np.mean([one[name] for one in every]) for name in every[0]}
    assert values(Top3(), {"a": items}) == pytest.approx(mean)


def test_gains_may_grow_exponentially() -> None:
    class Burges(mealkit.RankingEvaluator[Given]):
        gain = "exponential"

    found = values(Burges(), {"a": [(3, 0), (2, 3), (1, 1)]})
    assert found["ndcg_at_10"] == pytest.approx((7 / math.log2(3) + 1 / 2) / (7 + 1 / math.log2(3)))


def test_the_query_is_a_group_a_key_or_a_mistake() -> None:
    class ByKey(mealkit.RankingEvaluator[Given]):
        query = "who"

    class Missing(mealkit.RankingEvaluator[Given]):
        query = "whom"

    features = pd.DataFrame({"score": [2.0, 1.0, 1.0, 2.0]})
    whole = mealkit.Data(features, pd.Series([1, 0, 1, 0]), pd.DataFrame({"who": ["a", "a", "b", "b"]}))
    assert ByKey().evaluate(whole, Given(), CONTEXT)["mrr"] == pytest.approx(0.75)
    with pytest.raises(RecipeError, match="there is no column 'whom'"):
        Missing().evaluate(whole, Given(), CONTEXT)
    with pytest.raises(RecipeError, match="nothing tells which cases are of one query"):
        mealkit.RankingEvaluator[Given]().evaluate(whole, Given(), CONTEXT)


def test_the_default_scorer_ranks() -> None:
    class Chances:
        classes_ = (0, 1)

        def predict(self, features: pd.DataFrame) -> Any:
            raise AssertionError

        def predict_proba(self, features: pd.DataFrame) -> Any:
            return np.array([[0.9, 0.1], [0.2, 0.8]])

    batch = pd.DataFrame({"score": [1.0, 2.0]})
    assert mealkit.Scorer[Any]().score(batch, Given(), CONTEXT)["score"].tolist() == [1, 2]
    assert mealkit.Scorer[Any]().score(batch, Chances(), CONTEXT)["score"].tolist() == [0.1, 0.8]
