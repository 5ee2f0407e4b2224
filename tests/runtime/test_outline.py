"""The outline of a result: what a cluster shows of a pod that ended, in 4,096 bytes of whole JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from churn_runs import Runner
from hypothesis import given
from hypothesis import strategies as st

from mealkit_runtime.outline import MOST, outline
from mealkit_runtime.result import RunResult


def told(file: Path) -> dict[str, Any]:
    (line,) = file.read_text().splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_a_run_tells_how_it_ended(run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path) -> None:
    message, model = tmp_path / "message", tmp_path / "model"
    message.write_text("what an earlier process left, and is longer\n" * 200)
    number = message.stat().st_ino
    environment = {"MEALKIT_TERMINATION_LOG": str(message)}
    train = ("train", "--input", data / "events.csv", *common, "--model", model)
    assert run(*train, environment=environment).code == 0
    facts = told(message)
    assert (facts["status"], facts["exit_code"], facts["mode"]) == ("succeeded", 0, "train")
    assert facts["model"]["digest"].startswith("sha256:")
    assert 0 < facts["metrics"]["roc_auc"] <= 1
    assert "error" not in facts
    assert message.stat().st_ino == number, "a mounted file cannot be replaced"

    score = ("score", "--input", data / "new.parquet", *common, "--model", model, "--output", tmp_path / "scores")
    for existed in (False, True):
        assert run(*score, "--run-id", "monday", environment=environment).code == 0
        facts = told(message)
        assert facts["run_id"] == "monday"
        assert facts["batch"].pop("rows") > 0
        assert facts["batch"] == {"dataset": str(tmp_path / "scores"), "existed": existed, "waiting": 0}


def test_a_failed_run_tells_why_and_no_secret(run: Runner, common: tuple[str, ...], tmp_path: Path) -> None:
    message, canary = tmp_path / "message", "c4nary-0123456789"
    environment = {"MEALKIT_TERMINATION_LOG": str(message), "DB_PASSWORD": canary}
    train = ("train", "--input", tmp_path / f"{canary}.csv", *common, "--model", tmp_path / "model")
    assert run(*train, environment=environment).code == 3
    facts = told(message)
    assert (facts["status"], facts["exit_code"], facts["error"]["code"]) == ("failed", 3, "unreadable-data")
    assert facts["error"]["hint"]
    assert canary not in message.read_text()


def test_a_message_that_cannot_be_written_is_no_failure(
    run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path
) -> None:
    train = ("train", "--input", data / "events.csv", *common, "--model", tmp_path / "model")
    assert run(*train, environment={"MEALKIT_TERMINATION_LOG": str(tmp_path / "none" / "message")}).code == 0


def test_what_does_not_fit_is_left_out_from_behind() -> None:
    batch = {"dataset": "scores", "rows": 7, "existed": False, "waiting": 0, "files": ["a"]}
    metrics = {"metrics": [{"name": f"metric {number}", "value": 0.5} for number in range(3)], "curves": {}}
    result = RunResult("score", "monday", "succeeded", 0, {}, batch=batch, metrics=metrics, rows_read=9)
    small = json.loads(outline(result))
    assert small["metrics"] == {"metric 0": 0.5, "metric 1": 0.5, "metric 2": 0.5}
    metrics["metrics"] = [{"name": f"metric {number}", "value": 0.5} for number in range(300)]
    large = json.loads(outline(replace(result, metrics=metrics)))
    assert large == {name: value for name, value in small.items() if name != "metrics"}
    assert large["batch"]["rows"] == 7


@given(
    st.text(max_size=3000),
    st.text(max_size=3000),
    st.dictionaries(st.text(max_size=300), st.floats(), max_size=50),
)
def test_it_is_never_cut(message: str, dataset: str, metrics: dict[str, float]) -> None:
    result = RunResult(
        "score",
        "a" * 128,
        "failed",
        3,
        {},
        error={"code": "data", "message": message, "where": dataset},
        batch={"dataset": dataset, "rows": 1},
        metrics={"metrics": [{"name": name, "value": value} for name, value in metrics.items()]},
    )
    text = outline(result)
    assert len(text.encode()) <= MOST
    facts = json.loads(text)
    assert (facts["status"], facts["exit_code"], facts["run_id"]) == ("failed", 3, "a" * 128)
