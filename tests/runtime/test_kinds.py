"""Recipes of the kinds clustering and ranking run with their kind's defaults: evaluator, scorer, intervals, slices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from churn_runs import RECIPES, Runner, spec_of, write

JSON = ("--log-format", "json")


def test_clustering_needs_no_target(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "segments"))
    spec = spec_of("segments")
    assert list(spec.metrics) == ["silhouette", "davies_bouldin", "calinski_harabasz"]
    random = np.random.default_rng(0)
    segment = np.arange(240) % 3
    customers = pd.DataFrame(
        {
            "customer": [f"c{number}" for number in range(240)],
            "visits": segment * 20 + random.normal(0, 1, 240),
            "spent": (segment == 1) * 900 + random.normal(0, 30, 240),
        }
    )
    source, model, result = write(customers, tmp_path / "customers.csv"), tmp_path / "m", tmp_path / "r.json"
    trained = run("train", "--input", source, "--model", model, *JSON, spec=spec)
    assert trained.code == 0, trained.err
    judged = run(
        "evaluate", "--input", source, "--model", model, "--bootstrap", 20, "--slice", "visits", "--result", result,
        *JSON, spec=spec,
    )  # fmt: skip
    assert judged.code == 0, judged.err
    metrics = {metric["name"]: metric for metric in judged.result["metrics"]}
    assert list(metrics) == list(spec.metrics)
    assert 0.8 < metrics["silhouette"]["low"] < metrics["silhouette"]["value"] < metrics["silhouette"]["high"] < 1
    written = json.loads(result.read_text())["metrics"]
    assert sorted(row[1] for row in written["tables"][0]["rows"]) == [80, 80, 80]
    assert sum(one["cases"] for one in written["slices"]) == 240
    output = ("--output", tmp_path / "s", "--run-id", "x")
    scored = run("score", "--input", source, "--model", model, *output, *JSON, spec=spec)
    assert scored.code == 0, scored.err
    rows = pd.read_parquet(tmp_path / "s" / "batch_id=x")
    assert list(rows.columns) == ["customer", "cluster"]
    assert rows["cluster"].value_counts().tolist() == [80, 80, 80]


def test_ranking_by_what_is_kept_together(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES / "offers"))
    spec = spec_of("offers")
    random = np.random.default_rng(0)
    visitors = np.repeat(np.arange(60), 14)
    fit = random.normal(size=840)
    offers = pd.DataFrame(
        {
            "visitor": visitors,
            "item": np.tile(np.arange(14), 60),
            "price": random.gamma(2, 10, 840).round(2),
            "fit": fit,
            "clicks": (fit + random.normal(0, 0.7, 840) > 1).astype(int),
            "device": np.where(visitors % 3 == 0, "phone", "desktop"),
        }
    )
    source, model = write(offers, tmp_path / "offers.parquet"), tmp_path / "m"
    trained = run("train", "--input", source, "--model", model, *JSON, spec=spec)
    assert trained.code == 0, trained.err
    judged = run(
        "evaluate", "--input", source, "--model", model, "--bootstrap", 50, "--slice", "device", "--result",
        tmp_path / "r.json", *JSON, spec=spec,
    )  # fmt: skip
    assert judged.code == 0, judged.err
    metrics = {metric["name"]: metric for metric in judged.result["metrics"]}
    assert list(metrics) == list(spec.metrics)
    for metric in metrics.values():
        assert metric["low"] < metric["value"] < metric["high"]
    assert metrics["ndcg_at_10"]["value"] > 0.8
    written = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert (written["bootstrap"]["units"], written["bootstrap"]["drawn"]) == ("groups", 60)
    assert {one["value"]: one["cases"] for one in written["slices"]} == {"desktop": 560, "phone": 280}
    output = ("--output", tmp_path / "s", "--run-id", "x")
    scored = run("score", "--input", source, "--model", model, *output, *JSON, spec=spec)
    assert scored.code == 0, scored.err
    rows = pd.read_parquet(tmp_path / "s" / "batch_id=x")
    assert list(rows.columns) == ["visitor", "item", "score"]
    by_fit = rows.merge(offers, on=["visitor", "item"])
    assert by_fit["score"].corr(by_fit["fit"]) > 0.9
