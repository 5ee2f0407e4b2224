"""The ready clustering metrics are scikit-learn's; what too few clusters leave undefined is NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.cluster import DBSCAN, KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mealkit
from mealkit.errors import RecipeError
from mealkit.metrics import directions

CONTEXT: mealkit.Context[Any] = mealkit.Context(
    run_id="t", hyperparameters=mealkit.Hyperparameters(), kind="clustering"
)


def blobs(rows: int = 300) -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, rows)
    places = np.array([[0, 0], [4, 0], [0, 400]])[truth] + random.normal(size=(rows, 2)) * [1, 100]
    return pd.DataFrame(places, columns=["x", "y"]), pd.Series(np.array(["a", "b", "c"])[truth])


def data(features: pd.DataFrame, truth: pd.Series | None) -> mealkit.Data:
    target = pd.Series(math.nan, index=features.index) if truth is None else truth
    return mealkit.Data(features, target, pd.DataFrame(index=features.index))


def test_with_and_without_a_truth() -> None:
    features, truth = blobs()
    model = make_pipeline(StandardScaler(), KMeans(3, random_state=0, n_init=3)).fit(features)
    labels, scaled = model.predict(features), model[:-1].transform(features)
    found = mealkit.ClusteringEvaluator[Any]().evaluate(data(features, truth), model, CONTEXT)
    assert {metric.name: metric.value for metric in found} == pytest.approx(
        {
            "adjusted_rand": sk.adjusted_rand_score(truth, labels),
            "adjusted_mutual_info": sk.adjusted_mutual_info_score(truth, labels),
            "homogeneity": sk.homogeneity_score(truth, labels),
            "completeness": sk.completeness_score(truth, labels),
            "v_measure": sk.v_measure_score(truth, labels),
            "silhouette": sk.silhouette_score(scaled, labels),
            "davies_bouldin": sk.davies_bouldin_score(scaled, labels),
            "calinski_harabasz": sk.calinski_harabasz_score(scaled, labels),
        }
    )
    assert {metric.name: metric.direction for metric in found} == directions("clustering", "truth")
    sizes = {row[0]: row[1] for row in found.tables[0].rows}
    assert sizes == {str(name): int((labels == name).sum()) for name in range(3)}
    alone = mealkit.ClusteringEvaluator[Any]().evaluate(data(features, None), model, CONTEXT)
    assert [metric.name for metric in alone] == list(directions("clustering", None))
    assert alone["silhouette"] == found["silhouette"]


def test_the_silhouette_of_many_cases_is_of_a_seeded_part() -> None:
    class Few(mealkit.ClusteringEvaluator[Any]):
        silhouette_cases = 60

    features, _ = blobs()
    model = KMeans(3, random_state=0, n_init=3).fit(features)
    whole = mealkit.ClusteringEvaluator[Any]().evaluate(data(features, None), model, CONTEXT)
    some = [Few().evaluate(data(features, None), model, CONTEXT)["silhouette"] for _ in range(2)]
    assert some[0] == some[1]
    assert some[0] == pytest.approx(whole["silhouette"], abs=0.1)
    assert some[0] != whole["silhouette"]


def test_noise_counts_with_the_truth_alone() -> None:
    class Known(mealkit.ClusteringEvaluator[Any]):
        def labels(self, features: pd.DataFrame, model: Any) -> Any:
            return model.labels_

    features = pd.DataFrame({"x": [0.0, 0.1, 5.0, 5.1, 100.0]})
    model = DBSCAN(eps=1, min_samples=2).fit(features)
    found = Known().evaluate(data(features, pd.Series([0, 0, 1, 1, 2])), model, CONTEXT)
    assert found["v_measure"] == pytest.approx(1)
    assert found["silhouette"] == pytest.approx(sk.silhouette_score(features[:4], model.labels_[:4]))
    assert [row[:2] for row in found.tables[0].rows] == [("noise", 1), ("0", 2), ("1", 2)]


def test_what_is_undefined_and_what_cannot_be_asked() -> None:
    features, _ = blobs(20)
    one = mealkit.ClusteringEvaluator[Any]().evaluate(data(features, None), KMeans(1, n_init=1).fit(features), CONTEXT)
    assert all(math.isnan(metric.value) for metric in one)
    with pytest.raises(RecipeError, match="DBSCAN cannot tell the cluster of new cases"):
        mealkit.ClusteringEvaluator[Any]().evaluate(data(features, None), DBSCAN().fit(features), CONTEXT)
