"""Confidence intervals: they cover what they say, whole groups are drawn, the quick way and the long one agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import mealkit
from mealkit.metrics import Bootstrap, Metric
from mealkit_runtime import interval
from mealkit_runtime.interval import Wanted, intervals, units_of
from mealkit_runtime.judge import Judge, describe_cases

CONTEXT: mealkit.Context[Any] = mealkit.Context(run_id="t", hyperparameters=mealkit.Hyperparameters())


class Given:
    """A model whose predictions are the features; it counts how often it is asked."""

    def __init__(self, classes: tuple[Any, ...] = (0, 1)) -> None:
        self.classes_ = np.array(classes)
        self.asked: list[int] = []

    def predict_proba(self, features: pd.DataFrame) -> npt.NDArray[np.float64]:
        self.asked.append(len(features))
        return features.to_numpy()

    def predict(self, features: pd.DataFrame) -> npt.NDArray[np.float64]:
        self.asked.append(len(features))
        return features["p"].to_numpy()


class Slow(mealkit.ClassificationEvaluator[Given]):
    def resampler(self, data: mealkit.Data, model: Given, context: mealkit.Context[Any]) -> None:
        return None


class SlowRegression(mealkit.RegressionEvaluator[Given]):
    def resampler(self, data: mealkit.Data, model: Given, context: mealkit.Context[Any]) -> None:
        return None


def binary(rows: int, seed: int = 0, groups: int | None = None, weighted: bool = False) -> mealkit.Data:
    random = np.random.default_rng(seed)
    p = random.random(rows).round(2)
    features = pd.DataFrame({"n": 1 - p, "p": p})
    target = pd.Series((random.random(rows) < p).astype(int))
    weights = pd.Series(random.random(rows)) if weighted else None
    who = None if groups is None else pd.Series(random.integers(0, groups, rows), name="who")
    return mealkit.Data(features, target, pd.DataFrame(index=features.index), weights=weights, groups=who)


def numbers(rows: int, seed: int = 0, groups: int | None = None) -> mealkit.Data:
    data = binary(rows, seed, groups)
    random = np.random.default_rng(seed)
    return replace(data, target=data.features["p"] * 3 + random.normal(size=rows))


def judged(
    evaluator: Any, data: mealkit.Data, wanted: Wanted, model: Given | None = None
) -> tuple[dict[str, Metric], Bootstrap | None]:
    told: list[str] = []
    judge = Judge(evaluator, data, model or Given(), CONTEXT)
    values, how = intervals(judge, judge.whole().values, np.arange(len(data)), wanted, told.append)
    assert told == []
    return {metric.name: metric for metric in values}, how


@pytest.mark.parametrize("groups", [None, 30])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_quick_way_and_the_long_one_agree(groups: int | None, weighted: bool) -> None:
    data, wanted = binary(200, groups=groups, weighted=weighted), Wanted(resamples=20)
    quick, how = judged(mealkit.ClassificationEvaluator[Given](), data, wanted)
    slow, same = judged(Slow(), data, wanted)
    assert how is not None
    assert same is not None
    assert how.units == ("cases" if groups is None else "groups")
    for name, metric in quick.items():
        assert (metric.low, metric.high) == pytest.approx((slow[name].low, slow[name].high)), name
        assert how.replicates[name] == pytest.approx(same.replicates[name], rel=1e-5), name


def test_so_they_do_for_three_classes() -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet([1, 1, 1], 200)
    truth = pd.Series([random.choice(["a", "b", "c"], p=row) for row in p])
    data = mealkit.Data(pd.DataFrame(p), truth, pd.DataFrame(index=range(200)))
    classes, wanted = ("a", "b", "c"), Wanted(resamples=10)
    quick, _ = judged(mealkit.ClassificationEvaluator[Given](), data, wanted, Given(classes))
    slow, _ = judged(Slow(), data, wanted, Given(classes))
    for name, metric in quick.items():
        assert (metric.low, metric.high) == pytest.approx((slow[name].low, slow[name].high)), name


@pytest.mark.parametrize("groups", [None, 30])
def test_so_they_do_for_regression_and_its_baseline(groups: int | None) -> None:
    data, wanted = numbers(150, groups=groups), Wanted(resamples=15)
    quick, _ = judged(mealkit.RegressionEvaluator[Given](), data, wanted)
    slow, _ = judged(SlowRegression(), data, wanted)
    for name, metric in quick.items():
        assert (metric.low, metric.high) == pytest.approx((slow[name].low, slow[name].high)), name
    # The row before is that of the data, not the one that happened to be drawn before.
    assert quick["mase"].low is not None
    assert 0.5 * quick["mase"].value < quick["mase"].low < quick["mase"].value


def test_ranking_and_clustering_have_intervals() -> None:
    from sklearn.cluster import KMeans

    data = binary(300, groups=40)
    ranked, how = judged(mealkit.RankingEvaluator[Given](), data, Wanted(resamples=30))
    assert how is not None
    assert how.units == "groups"
    assert how.drawn == 40
    for metric in ranked.values():
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low < metric.value < metric.high
    model = KMeans(2, n_init=1, random_state=0).fit(data.features)
    clusters, _ = judged(mealkit.ClusteringEvaluator[Any](), replace(data, groups=None), Wanted(resamples=10), model)
    assert all(metric.low is not None for metric in clusters.values())


def test_the_model_is_asked_once() -> None:
    model = Given()
    judged(Slow(), binary(100), Wanted(resamples=20), model)
    assert model.asked == [100]


def test_who_asks_for_other_features_asks_the_model() -> None:
    class Own(mealkit.Evaluator[Given]):
        def evaluate(self, data: mealkit.Data, model: Given, context: mealkit.Context[Any]) -> mealkit.Metrics:
            error = model.predict(data.features[["p"]]) - data.target
            return mealkit.Metrics((mealkit.Metric("error", float(np.abs(error).mean()), "minimize"),))

    model = Given()
    found, _ = judged(Own(), binary(50), Wanted(resamples=5), model)
    assert model.asked == [50] * 6
    assert found["error"].low is not None


@pytest.mark.parametrize("groups", [None, 60])
def test_intervals_cover_the_truth(groups: int | None) -> None:
    """Of 120 simulated evaluations, about 95 % of the intervals hold the true accuracy.

    Cases of a group are right or wrong together there: drawing single cases would cover far less often.
    """
    truth, held = 0.7, 0
    for seed in range(120):
        random = np.random.default_rng(seed)
        if groups is None:
            right = random.random(240) < truth
            who = None
        else:
            right = np.repeat(random.random(groups) < truth, 4)
            who = pd.Series(np.repeat(np.arange(groups), 4))
        p = np.where(right, 0.9, 0.1)
        features = pd.DataFrame({"n": 1 - p, "p": p})
        data = mealkit.Data(
            features, pd.Series(np.ones(240, dtype=int)), pd.DataFrame(index=features.index), groups=who
        )
        found, _ = judged(mealkit.ClassificationEvaluator[Given](), data, Wanted(resamples=60))
        low, high = found["accuracy"].low, found["accuracy"].high
        assert low is not None
        assert high is not None
        held += low <= truth <= high
    assert 0.86 <= held / 120 <= 0.99


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_fewer_units_the_wider_the_interval(confidence: float) -> None:
    from scipy.special import ndtr, stdtrit

    for units in (2, 3, 5, 8, 20, 100, 10_000):
        student = stdtrit(units - 1, (1 - confidence) / 2)
        exact = ndtr(np.sqrt(units / (units - 1)) * student)
        assert interval.tail(confidence, units) == pytest.approx(exact, rel=0.03, abs=1e-4), units
    assert interval.tail(0.95, 10**9) == pytest.approx(0.025, rel=1e-4)


def test_the_silhouette_of_draws_spreads_as_that_of_other_cases() -> None:
    """A case moves the silhouettes of others too: only with that is the interval wide enough."""
    from sklearn.metrics import silhouette_score

    centers = np.array([[0, 0], [3, 0], [0, 3]])

    def places(seed: int) -> pd.DataFrame:
        random = np.random.default_rng(seed)
        return pd.DataFrame(centers[random.integers(0, 3, 120)] + random.normal(size=(120, 2)), columns=["x", "y"])

    class Nearest:
        def predict(self, features: pd.DataFrame) -> Any:
            return ((features.to_numpy()[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)

    drawn = [places(seed) for seed in range(100)]
    others = np.std([silhouette_score(one, Nearest().predict(one)) for one in drawn])
    told = []
    for features in drawn[:4]:
        data = mealkit.Data(features, pd.Series(np.nan, index=features.index), pd.DataFrame(index=features.index))
        judge = Judge(mealkit.ClusteringEvaluator[Any](), data, Nearest(), CONTEXT)
        _, how = intervals(judge, judge.whole().values, np.arange(120), Wanted(resamples=50), told.append)
        assert how is not None
        told.append(np.std(np.array(how.replicates["silhouette"], dtype="float64")))
    assert np.mean(told) == pytest.approx(others, rel=0.25)


def test_many_cases_cost_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    data = binary(4_000)
    whole, how = judged(mealkit.ClassificationEvaluator[Given](), data, Wanted(resamples=150))
    monkeypatch.setattr(interval, "CASES", 500)
    part, other = judged(mealkit.ClassificationEvaluator[Given](), data, Wanted(resamples=150))
    assert how is not None
    assert other is not None
    assert (how.method, how.drawn, other.method, other.drawn) == ("percentile", 4_000, "scaled", 500)
    for name, metric in part.items():
        assert metric.low is not None
        assert metric.high is not None
        assert whole[name].low is not None
        assert whole[name].high is not None
        assert metric.value == whole[name].value
        width = whole[name].high - whole[name].low  # type: ignore[operator]
        assert metric.high - metric.low == pytest.approx(width, rel=0.5), name
        assert metric.low < metric.value < metric.high


def test_an_evaluator_without_a_quick_way_judges_fewer_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval, "SLOW_CASES", 300)
    data = binary(1_000)
    quick, _ = judged(mealkit.ClassificationEvaluator[Given](), data, Wanted(resamples=60))
    slow, how = judged(Slow(), data, Wanted(resamples=60))
    assert how is not None
    assert (how.method, how.drawn) == ("scaled", 300)
    for name, metric in slow.items():
        assert metric.low is not None
        assert metric.high is not None
        width = quick[name].high - quick[name].low  # type: ignore[operator]
        assert metric.high - metric.low == pytest.approx(width, rel=0.5), name


def test_slow_resamples_can_be_fewer() -> None:
    data, wanted = binary(80), Wanted(resamples=30, slow=7)
    for evaluator, times in ((mealkit.ClassificationEvaluator[Given](), 30), (Slow(), 7)):
        _, how = judged(evaluator, data, wanted)
        assert how is not None
        assert how.resamples == times
        assert all(len(column) == times for column in how.replicates.values())


def test_the_seed_decides_and_nothing_else() -> None:
    data = binary(100)
    first, second, other = (
        judged(mealkit.ClassificationEvaluator[Given](), data, Wanted(resamples=10, seed=seed))[0] for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_what_has_no_interval() -> None:
    data = binary(50)
    off, how = judged(mealkit.ClassificationEvaluator[Given](), data, Wanted(resamples=0))
    assert how is None
    assert all(metric.low is None for metric in off.values())
    one_class = replace(data, target=pd.Series(np.ones(50, dtype=int)))
    found, _ = judged(mealkit.ClassificationEvaluator[Given](), one_class, Wanted(resamples=10))
    assert found["roc_auc"].low is None
    assert found["accuracy"].low is not None
    right = replace(data, target=(data.features["p"] >= 0.5).astype(int))
    found, how = judged(mealkit.ClassificationEvaluator[Given](), right, Wanted(resamples=10))
    assert (found["accuracy"].value, found["accuracy"].low, found["accuracy"].high) == (1, None, None)
    assert found["log_loss"].low is not None
    assert how is not None
    assert set(how.replicates["accuracy"]) == {1.0}, "two models can still be compared by them"
    told: list[str] = []
    alone = replace(data, groups=pd.Series(["a"] * 50))
    judge = Judge(mealkit.ClassificationEvaluator[Given](), alone, Given(), CONTEXT)
    _values, how = intervals(judge, judge.whole().values, np.arange(50), Wanted(), told.append)
    assert how is None
    assert told == ["there is only one group: no confidence interval can be found"]


def test_an_evaluator_that_fails_on_draws_is_told() -> None:
    class Fragile(mealkit.Evaluator[Given]):
        def evaluate(self, data: mealkit.Data, model: Given, context: mealkit.Context[Any]) -> mealkit.Metrics:
            if not data.features.index.is_unique:
                raise KeyError("twice")
            return mealkit.Metrics((mealkit.Metric("one", 1.0, "maximize"),))

    told: list[str] = []
    judge = Judge(Fragile(), binary(50), Given(), CONTEXT)
    values, how = intervals(judge, judge.whole().values, np.arange(50), Wanted(), told.append)
    assert (values[0].low, how) == (None, None)
    assert "the evaluator fails on drawn cases: KeyError" in told[0]


def test_nothing_is_logged_or_written_for_draws() -> None:
    class Loud(mealkit.Evaluator[Given]):
        def evaluate(self, data: mealkit.Data, model: Given, context: mealkit.Context[Any]) -> mealkit.Metrics:
            context.log_metric("seen", len(data))
            context.progress(1)
            context.logger.warning("judging")
            assert context.outputs is None
            return mealkit.Metrics((mealkit.Metric("mean", float(data.target.mean()), "maximize"),))

    class Ears:
        def __init__(self) -> None:
            self.heard = 0

        def progress(self, done: int, total: int | None, unit: str) -> None:
            self.heard += 1

        def metric(self, name: str, value: float, step: int | None) -> None:
            self.heard += 1

    ears = Ears()
    judge = Judge(Loud(), binary(30), Given(), replace(CONTEXT, listener=ears))
    intervals(judge, judge.whole().values, np.arange(30), Wanted(resamples=10), print)
    assert ears.heard == 2


def test_the_units_are_whole_groups() -> None:
    data = binary(40, groups=7)
    judge = Judge(mealkit.ClassificationEvaluator[Given](), data, Given(), CONTEXT)
    units = units_of(judge, np.arange(40))
    assert data.groups is not None
    assert len(units) == data.groups.nunique()
    for one in range(len(units)):
        places = units.places[units.starts[one] : units.starts[one + 1]]
        assert data.groups.iloc[places].nunique() == 1
        assert list(places) == sorted(places)
    assert sorted(units.places) == list(range(40))


def test_cases_are_known_by_their_keys_and_targets() -> None:
    data = binary(20)
    known = describe_cases(data)
    assert known["cases"] == 20
    assert describe_cases(replace(data, target=data.target.astype(float))) == known
    assert describe_cases(replace(data, features=data.features * 2)) == known
    assert describe_cases(replace(data, target=1 - data.target)) != known
    assert describe_cases(replace(data, keys=pd.DataFrame({"id": range(20)}))) != known
