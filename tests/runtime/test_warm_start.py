"""Starting from an earlier model, and getting the same model from the same seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from churn_runs import Outcome, Runner, write
from step_runs import JSON, STEPS, artifact, begun, facts, make_cases

Train = Callable[..., Outcome]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make_cases(), tmp_path_factory.mktemp("cases") / "cases.csv")


@pytest.fixture
def train(run: Runner, cases: Path, tmp_path: Path) -> Train:
    """Train the recipe ``steps`` into the folder ``name``."""

    def trainer(name: str, *more: object, data: Path = cases, **options: Any) -> Outcome:
        spec = options.pop("spec", STEPS)
        return run("train", "--input", data, "--model", tmp_path / name, *JSON, *more, spec=spec, **options)

    return trainer


@pytest.mark.parametrize("kind", ["sgd", "boost", "pipeline"])
def test_a_training_goes_on_from_an_earlier_model(train: Train, tmp_path: Path, kind: str) -> None:
    given = ("--set", f"kind={kind}")
    assert train("old", *given, "--set", "steps=4").code == 0
    outcome = train("new", *given, "--set", "steps=2", "--warm-start", tmp_path / "old")
    assert outcome.code == 0, outcome.err
    assert not outcome.result["warnings"]
    assert train("whole", *given, "--set", "steps=6").code == 0
    # Four steps and then two are six; of the whole model only the parameters of the last call may differ.
    losses = [facts(tmp_path / name)["history"]["validation_log_loss"] for name in ("whole", "new")]
    assert [value for _, value in losses[1]] == [value for _, value in losses[0][4:]]
    told = facts(tmp_path / "new")["training"]["warm_start"]
    assert told["used"] is True
    assert told["run_id"] == facts(tmp_path / "old")["run_id"]
    assert told["digest"].startswith("sha256:")
    assert told["recipe"]["name"] == "steps"


def test_a_recipe_that_does_not_look_at_the_earlier_model_is_told_of(train: Train, tmp_path: Path) -> None:
    assert train("old", "--set", "kind=plain").code == 0
    outcome = train("new", "--set", "kind=plain", "--warm-start", tmp_path / "old")
    assert outcome.code == 0, outcome.err
    assert "made no use of the earlier model" in outcome.result["warnings"][0]
    assert facts(tmp_path / "new")["training"]["warm_start"]["used"] is False


def test_an_earlier_model_that_does_not_fit_is_refused(
    train: Train, run: Runner, data: Path, model: Path, tmp_path: Path
) -> None:
    assert train("old").code == 0
    other = train("new", "--set", "kind=boost", "--warm-start", tmp_path / "old")
    assert (other.code, "the earlier model is a SGDClassifier" in other.error["message"]) == (5, True)
    missing = train("new", "--warm-start", tmp_path / "none")
    assert (missing.code, missing.error["code"]) == (4, "model")
    foreign = train("new", "--warm-start", model)
    assert (foreign.code, "of the recipe 'churn'" in foreign.error["message"]) == (4, True)
    file = tmp_path / "old" / "artifact" / "model.skops"
    file.write_bytes(file.read_bytes() + b"?")
    changed = train("new", "--warm-start", tmp_path / "old")
    assert (changed.code, "tampered" in changed.error["message"]) == (4, True)
    assert not (tmp_path / "new").exists()


def test_checkpoints_of_another_start_are_refused(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("old").code == 0
    monkeypatch.setenv("STEPS_FAIL_AFTER", "3")
    assert train("new", "--warm-start", tmp_path / "old", "--checkpoint-dir", tmp_path / "state").code == 5
    monkeypatch.delenv("STEPS_FAIL_AFTER")
    outcome = train("new", "--checkpoint-dir", tmp_path / "state", "--resume")
    assert (outcome.code, "the earlier model to start from" in outcome.error["message"]) == (2, True)
    resumed = train("new", "--warm-start", tmp_path / "old", "--checkpoint-dir", tmp_path / "state", "--resume")
    assert resumed.code == 0, resumed.err
    assert train("whole", "--warm-start", tmp_path / "old").code == 0
    assert artifact(tmp_path / "new") == artifact(tmp_path / "whole")


def test_the_same_seed_gives_the_same_model_in_another_process(train: Train, cases: Path, tmp_path: Path) -> None:
    given = ("--set", "kind=forest", "--seed", "11")
    assert train("here", *given).code == 0
    argv = ("train", "--input", cases, "--model", tmp_path / "there", *given)
    with begun(tmp_path, *argv, PYTHONHASHSEED="7") as process:
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert artifact(tmp_path / "there") == artifact(tmp_path / "here")
    told = json.loads(out.splitlines()[-1])["result"]["model"]
    assert told["artifact"] == train("again", *given).result["model"]["artifact"]
    assert train("other", "--set", "kind=forest", "--seed", "12").code == 0
    assert artifact(tmp_path / "other") != artifact(tmp_path / "here")
