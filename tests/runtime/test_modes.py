"""Train, evaluate and score: what they write, tell and repeat."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from churn_runs import Outcome, Runner, make_events, write

from mealkit.errors import ModelError
from mealkit.spec import RecipeSpec
from mealkit_runtime.model import open_model

JSON = ("--log-format", "json")


def score(run: Runner, data: Path, model: Path, output: Path, *more: object) -> Outcome:
    return run(
        "score", "--input", data, "--input", f"plans={data.parent}/plans.csv", "--model", model, "--output", output,
        *JSON, *more,
    )  # fmt: skip


def test_train_writes_a_model_and_says_so(run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path) -> None:
    model, result = tmp_path / "deep" / "model", tmp_path / "out" / "result.json"
    outcome = run(
        "train", "--input", data / "events.csv", *common, "--model", model, "--set", "c=0.5", "--seed", 7,
        "--run-id", "first", "--result", result, *JSON, environment={"MEALKIT_IMAGE": "host/repo@sha256:1"},
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in model.rglob("*") if path.is_file()) == ["model.json", "model.skops"]
    assert not list(model.parent.glob(".mealkit*"))
    facts = json.loads((model / "model.json").read_text())
    assert facts["recipe"]["name"] == "churn"
    assert facts["hyperparameters"] == {"c": 0.5, "train": "well", "score": "well"}
    assert facts["image"] == "host/repo@sha256:1"
    assert facts["seed"] == 7
    assert facts["pickle"] is False
    assert facts["input"]["fingerprint"].startswith("sha256:")
    assert facts["columns"]["items"] == {"kind": "int", "nullable": True}
    assert set(facts["files"]) == {"artifact/model.skops"}
    assert {metric["name"] for metric in facts["metrics"]} >= {"roc_auc", "log_loss"}
    written = json.loads(result.read_text())
    assert written["status"] == "succeeded"
    assert written["run_id"] == "first"
    assert written["rows_read"] == len(make_events())
    assert written["metrics"]["curves"]
    assert set(written["seconds"]) >= {"import", "read", "prepare", "train", "save", "evaluate", "commit", "total"}
    kinds = [event["event"] for event in outcome.events]
    assert set(kinds) >= {"stage", "metric", "log", "result"}
    assert "printed by the recipe" in outcome.err, "what a recipe prints must not mix with the events"
    assert outcome.result["metrics"] == written["metrics"]["metrics"]


def test_the_same_run_of_a_training_again_does_nothing(
    run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path
) -> None:
    """It may have been killed between its commit and its end; another training is no such run."""
    model = tmp_path / "m"
    argv = ("train", "--input", data / "events.csv", *common, "--model", model, "--run-id", "r", *JSON)
    first = run(*argv)
    written = (model / "model.json").read_bytes()
    for more in ((), ("--overwrite",)):
        again = run(*argv, *more)
        assert again.code == 0, again.err
        assert again.result["model"] == first.result["model"]
        assert again.result["metrics"] == first.result["metrics"]
        assert "train" not in again.result["seconds"]
        assert (model / "model.json").read_bytes() == written
    for more in (("--set", "c=0.5"), ("--seed", "5"), ("--where", "amount > 1")):
        assert run(*argv, *more).error["message"] == "the model directory has a model already"
        assert (model / "model.json").read_bytes() == written
    changed = run(*argv, "--set", "c=0.5", "--overwrite")
    assert changed.code == 0, changed.err
    assert json.loads((model / "model.json").read_text())["hyperparameters"]["c"] == 0.5
    (model / "artifact" / "model.skops").write_bytes(b"damaged")
    assert run(*argv, "--set", "c=0.5").code == 2
    assert (
        run(*argv, "--set", "c=0.5", "--overwrite").result["model"]["artifact"] == changed.result["model"]["artifact"]
    )


def test_a_model_that_takes_anothers_place_is_read_whole(model: Path, tmp_path: Path) -> None:
    """As a run leaves it that is killed while it moves the parts of a model."""
    place, following = tmp_path / "m", tmp_path / "m" / ".mealkit-next"
    shutil.copytree(model, place)
    shutil.copytree(model, following)
    facts = json.loads((following / "model.json").read_text())
    (following / "model.json").write_text(json.dumps({**facts, "run_id": "next"}))
    (place / "artifact" / "model.skops").unlink()
    assert open_model(place, "churn").facts["run_id"] == "next"
    assert open_model(place, "churn").artifact == following / "artifact"
    for path, what in (
        (following / "more", "is not listed"), (following / "artifact" / "more", "is not listed"),
    ):  # fmt: skip
        path.write_text("x")
        with pytest.raises(ModelError, match=what):
            open_model(place, "churn")
        path.unlink()
    shutil.rmtree(place / "artifact")
    (following / "artifact").rename(place / "artifact")
    stored = open_model(place, "churn")
    assert (stored.facts["run_id"], stored.artifact) == ("next", place / "artifact")
    (place / "artifact" / "model.skops").write_bytes(b"another")
    with pytest.raises(ModelError, match="is not the file that was written"):
        open_model(place, "churn")


def test_the_same_training_gives_the_same_model(
    run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        run("train", "--input", data / "events.csv", *common, "--model", tmp_path / name)
    first, second = (json.loads((tmp_path / name / "model.json").read_text())["metrics"] for name in ("a", "b"))
    assert first == second


def test_evaluate(run: Runner, data: Path, model: Path, common: tuple[str, ...]) -> None:
    outcome = run("evaluate", "--input", data / "events.csv", *common, "--model", model, *JSON)
    assert outcome.code == 0, outcome.err
    values = {metric["name"]: metric["value"] for metric in outcome.result["metrics"]}
    assert 0.6 < values["roc_auc"] < 1
    assert outcome.result["model"]["digest"].startswith("sha256:")


def test_validation_dataset(run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path) -> None:
    judged = write(make_events(seed=5), tmp_path / "judge.jsonl.gz")
    outcome = run(
        "train", "--input", data / "events.csv", *common, "--validation", judged, "--model", tmp_path / "m", *JSON
    )
    assert outcome.code == 0, outcome.err
    again = run("evaluate", "--input", judged, *common, "--model", tmp_path / "m", *JSON)
    trained = {metric["name"]: metric["value"] for metric in outcome.result["metrics"]}
    assert {metric["name"]: metric["value"] for metric in again.result["metrics"]} == trained


def test_score_adds_one_batch(run: Runner, data: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores"
    outcome = score(run, data / "new.parquet", model, output, "--run-id", "monday")
    assert outcome.code == 0, outcome.err
    rows = pd.read_parquet(output / "batch_id=monday")
    new = make_events(seed=1)
    assert list(rows.columns) == ["customer", "probability", "events"]
    assert set(rows["customer"]) == set(new["customer"])
    assert outcome.result["rows_read"] == len(new)
    assert outcome.result["rows_scored"] == len(rows)
    record = json.loads((output / "batch_id=monday" / "_batch.json").read_text())
    assert record["rows"] == len(rows)
    assert record["input"]["rows"] == len(new)
    assert record["model"]["digest"] == outcome.result["model"]["digest"]
    assert sorted(path.name for path in output.iterdir()) == ["batch_id=monday"]


def test_the_same_run_again_adds_nothing(run: Runner, data: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores"
    score(run, data / "new.parquet", model, output, "--run-id", "monday")
    again = score(run, data / "new.parquet", model, output, "--run-id", "monday")
    assert again.code == 0
    assert again.result["batch"]["existed"] is True
    assert again.result["warnings"] == []
    other = score(run, data / "events.csv", model, output, "--run-id", "monday")
    assert other.code == 0
    assert "another input" in other.result["warnings"][0]
    score(run, data / "new.parquet", model, output)
    assert len(list(output.glob("batch_id=*/part-*.parquet"))) == 2
    whole = pd.read_parquet(output)
    assert whole["batch_id"].nunique() == 2, "readers of hive partitions get the batch's id"


def test_a_batch_that_another_program_removed_is_told_of(
    run: Runner, data: Path, model: Path, tmp_path: Path, common: tuple[str, ...]
) -> None:
    import deltalake

    argv = ("score", "--input", data / "new.parquet", *common, "--model", model, "--run-id", "r1", *JSON)
    for expected in (False, True):
        outcome = run(*argv, "--output", f"delta:{tmp_path}/scores")
        assert (outcome.code, outcome.result["batch"]["existed"], outcome.result["warnings"]) == (0, expected, [])
    deltalake.DeltaTable(str(tmp_path / "scores")).delete("batch_id = 'r1'")
    outcome = run(*argv, "--output", f"delta:{tmp_path}/scores")
    assert outcome.code == 0
    assert "another program has removed its rows" in outcome.result["warnings"][0]
    assert outcome.events[-2]["hint"].startswith("to add it again: mealkit batches delta:")


@pytest.mark.parametrize("rows", [1, 7, 50, 10_000])
def test_the_size_of_batches_does_not_matter(run: Runner, data: Path, model: Path, tmp_path: Path, rows: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    score(run, data / "new.parquet", model, whole, "--run-id", "x")
    assert score(run, data / "new.parquet", model, parts, "--run-id", "x", "--batch-rows", rows).code == 0
    left, right = (pd.read_parquet(folder / "batch_id=x") for folder in (whole, parts))
    pd.testing.assert_frame_equal(left, right, rtol=1e-12)


@pytest.mark.parametrize("name", ["new.csv", "new.csv.gz", "new.jsonl", "new.ndjson.gz", "new.pq"])
def test_the_format_does_not_matter(run: Runner, data: Path, model: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(data / "plans.csv", tmp_path)
    source = write(make_events(seed=1).drop(columns="left"), tmp_path / name)
    score(run, data / "new.parquet", model, tmp_path / "a", "--run-id", "x")
    outcome = score(run, source, model, tmp_path / "b", "--run-id", "x")
    assert outcome.code == 0, outcome.err
    left, right = (pd.read_parquet(tmp_path / out / "batch_id=x") for out in ("a", "b"))
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def test_the_target_may_stand_in_the_data_to_score(run: Runner, data: Path, model: Path, tmp_path: Path) -> None:
    with_target = write(make_events(seed=1), tmp_path / "with.parquet")
    shutil.copy(data / "plans.csv", tmp_path)
    score(run, data / "new.parquet", model, tmp_path / "a", "--run-id", "x")
    score(run, with_target, model, tmp_path / "b", "--run-id", "x")
    left, right = (pd.read_parquet(tmp_path / out / "batch_id=x") for out in ("a", "b"))
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def test_a_recipe_of_a_trainer_alone(run: Runner, rent: RecipeSpec, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    area = random.integers(20, 150, 200)
    flats = pd.DataFrame({"flat": [f"f{number}" for number in range(200)], "area": area, "rent": area * 10.0 + 50})
    train = write(flats, tmp_path / "flats.csv")
    outcome = run("train", "--input", train, "--model", tmp_path / "m", *JSON, spec=rent)
    assert outcome.code == 0, outcome.err
    values = {metric["name"]: metric["value"] for metric in outcome.result["metrics"]}
    assert values["r2"] == pytest.approx(1)
    new = write(flats[["flat", "area"]], tmp_path / "new.jsonl")
    outcome = run("score", "--input", new, "--model", tmp_path / "m", "--output", tmp_path / "s", *JSON, spec=rent)
    assert outcome.code == 0, outcome.err
    rows = pd.read_parquet(tmp_path / "s" / f"batch_id={outcome.result['run_id']}")
    assert list(rows.columns) == ["flat", "prediction"]
    assert rows["prediction"].to_numpy() == pytest.approx(flats["rent"].to_numpy())


def test_text_on_a_terminal(run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path) -> None:
    outcome = run("train", "--input", data / "events.csv", *common, "--model", tmp_path / "m", "--log-format", "text")
    assert outcome.out.startswith("train churn 0.3.0: succeeded in ")
    assert "roc_auc" in outcome.out
    assert "read" in outcome.err


def test_secrets_show_nowhere(run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path) -> None:
    secret = "canary-7f3a"
    arguments = ("--input", data / "events.csv", *common, "--model", tmp_path / "m", "--result", tmp_path / "r.json")
    outcome = run("train", *arguments, *JSON, "--set", f"token={secret}", environment={"MEALKIT_SET_TRAIN": "well"})
    assert outcome.code == 0, outcome.err
    failed = run(
        "train", *arguments, *JSON, "--overwrite", environment={"MEALKIT_SET_TOKEN": secret, "MEALKIT_SET_C": "-1"}
    )
    assert failed.code == 2
    files = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert secret not in outcome.out + outcome.err + failed.out + failed.err + files


def test_describe(run: Runner, churn: RecipeSpec) -> None:
    text = run("describe").out
    assert "c      number, > 0, ≤ 1000, default 1.0  – inverse strength of the penalty" in text
    assert "customer  string, matches ^c[0-9]+$" in text
    assert RecipeSpec.from_json(run("describe", "--json").out) == churn


def test_help_teaches(run: Runner) -> None:
    for argv in (["--help"], ["score", "--help"]):
        outcome = run(*argv)
        assert outcome.code == 0
        assert "MEALKIT_OUTPUT" in outcome.out
        assert "mealkit score --input" in outcome.out
    assert run("--version").out.startswith("mealkit-runtime ")
    assert run().code == 2


def test_a_saver_of_the_recipes_own(run: Runner, churn: RecipeSpec, data: Path, model: Path, tmp_path: Path) -> None:
    import importlib

    spec = replace(churn, components={**churn.components, "saver": "churn.model:LoudSaver"})
    calls = importlib.import_module("churn.model").LoudSaver.calls

    def scored(output: object, run_id: str) -> tuple[Outcome, list[str]]:
        calls.clear()
        plans = f"plans={data}/plans.csv"
        outcome = run(
            "score", "--input", data / "new.parquet", "--input", plans, "--model", model, "--output", output,
            "--run-id", run_id, "--batch-rows", "300", *JSON, spec=spec,
        )  # fmt: skip
        return outcome, list(calls)

    outcome, asked = scored("somewhere", "new")
    assert outcome.code == 0, outcome.err
    assert asked == ["open new", "write", "write", "commit"]
    assert outcome.result["batch"]["rows"] == outcome.result["rows_scored"] == 120
    outcome, asked = scored("somewhere", "again")
    assert (outcome.code, asked, outcome.result["batch"]["existed"]) == (0, ["open again"], True)
    outcome, asked = scored("broken", "new")
    assert (outcome.code, asked) == (5, ["open new", "write", "abort"])
    assert "ConnectionError: the database is gone" in outcome.error["message"]
