"""Trials: hyperparameters searched within their ranges, the best model kept, every trial recorded."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from churn_runs import Outcome, Runner, write
from processes import children, gone
from step_runs import JSON, STEPS, artifact, begun, facts, make_cases, wait_for
from study_runs import COUNT, plan, together

from mealkit.errors import SettingsError
from mealkit_runtime.objective import find_objective
from mealkit_runtime.study import Study

Train = Callable[..., Outcome]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make_cases(), tmp_path_factory.mktemp("cases") / "cases.csv")


@pytest.fixture
def train(run: Runner, cases: Path, tmp_path: Path) -> Train:
    """Train the recipe ``steps`` into the folder ``name``."""

    def trainer(name: str, *more: object, **options: Any) -> Outcome:
        spec = options.pop("spec", STEPS)
        return run("train", "--input", cases, "--model", tmp_path / name, *JSON, *more, spec=spec, **options)

    return trainer


def plain(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trials without what differs between two equal ones."""
    return [{key: value for key, value in one.items() if key not in ("seconds", "worker")} for one in records]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def test_the_best_of_the_trials_is_kept_and_all_are_recorded(train: Train, tmp_path: Path) -> None:
    given = ("--set", "average=true", "--set", "token=canary")
    outcome = train("m", "--trials", 8, "--outputs", tmp_path / "out", "--run-id", "search", *given)
    assert outcome.code == 0, outcome.err
    told = outcome.result["trials"]
    assert (told["study"], told["objective"], told["direction"], told["count"]) == (
        "search", "log_loss", "minimize", 8,
    )  # fmt: skip
    assert sum(told["counts"].values()) == 8
    records = lines(tmp_path / "out")
    assert [one["number"] for one in records] == list(range(8))
    assert records == facts(tmp_path / "m")["trials"]["all"]
    complete = [one for one in records if one["state"] == "complete"]
    best = min(complete, key=lambda one: one["value"])
    assert told["best"] == best
    assert records[0]["hyperparameters"]["alpha"] == 1e-3, "the first trial is of the defaults"
    assert {one["hyperparameters"]["average"] for one in records} == {True}, "what was set is not searched"
    assert {one["hyperparameters"]["kind"] for one in records} == {"sgd"}
    assert len({one["hyperparameters"]["alpha"] for one in records}) == 8
    assert all(2 <= one["hyperparameters"]["steps"] <= 8 for one in records)
    assert outcome.result["hyperparameters"] == best["hyperparameters"] == facts(tmp_path / "m")["hyperparameters"]
    assert {one["name"]: one["value"] for one in outcome.result["metrics"]} == best["metrics"]
    assert "canary" not in outcome.out + "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*.json*"))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["artifact", "model.json"]
    # The kept model is the one that training with these hyperparameters alone gives.
    sets = [f"--set={name}={value}" for name, value in best["hyperparameters"].items() if value is not None]
    alone = train("alone", *sets)
    assert alone.code == 0, alone.err
    assert artifact(tmp_path / "alone") == artifact(tmp_path / "m")
    assert facts(tmp_path / "alone")["history"] == facts(tmp_path / "m")["history"]


def test_one_worker_gives_the_same_study_again(train: Train, tmp_path: Path) -> None:
    found = []
    for name, seed, count in (("a", 1, 13), ("b", 1, 13), ("c", 2, 3)):  # from the eleventh on, it learns
        assert train(name, "--trials", count, "--seed", seed).code == 0
        found.append(plain(facts(tmp_path / name)["trials"]["all"]))
    assert found[0] == found[1]
    assert found[0][:3] != found[2]
    assert artifact(tmp_path / "a") == artifact(tmp_path / "b")


def test_bad_trials_are_pruned_by_their_steps(train: Train, tmp_path: Path) -> None:
    outcome = train("m", "--trials", 14, "--set", "steps=8")
    assert outcome.code == 0, outcome.err
    records = facts(tmp_path / "m")["trials"]["all"]
    pruned = [one for one in records if one["state"] == "pruned"]
    assert pruned, [one["state"] for one in records]
    assert all(one["steps"] < 8 and one["value"] is None for one in pruned)
    assert all(one["steps"] == 8 for one in records if one["state"] == "complete")


def test_a_failing_trial_does_not_end_the_study(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS_FAIL_OVER", "0.01")
    outcome = train("m", "--trials", 8, "--outputs", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    failed = [one for one in lines(tmp_path / "out") if one["state"] == "failed"]
    assert failed
    assert len(failed) == outcome.result["trials"]["counts"]["failed"] < 8
    assert all("is too much" in one["error"]["message"] for one in failed)
    assert all(one["hyperparameters"]["alpha"] > 0.01 for one in failed)


def test_where_all_fail_the_first_error_is_told(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS_FAIL_OVER", "0")
    outcome = train("m", "--trials", 3, "--outputs", tmp_path / "out")
    assert (outcome.code, outcome.error["code"]) == (5, "recipe")
    assert "no trial was completed; the first error: StepsTrainer.train failed: ValueError" in outcome.error["message"]
    assert "steps_model.py" in outcome.error["where"]
    assert "ValueError: alpha" in outcome.err, "the author sees the traceback"
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".mealkit*"))
    assert [one["state"] for one in lines(tmp_path / "out")] == ["failed"] * 3


def test_sigterm_keeps_what_is_finished_and_resume_goes_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--outputs", tmp_path / "out", "--set", "steps=4", "--trials", 6)
    half = ("--checkpoint-dir", tmp_path / "state", *more, "--trials", 2)
    assert train("half", *half, "--run-id", "half").code == 0
    (tmp_path / "ask").touch()
    monkeypatch.setenv("STEPS_TERM", str(tmp_path / "ask"))
    stopped = train("m", "--checkpoint-dir", tmp_path / "state", "--resume", *more)
    assert (stopped.code, stopped.result["status"]) == (143, "stopped"), stopped.err
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".mealkit*"))
    before = lines(tmp_path / "out")
    assert [one["state"] for one in before] == ["complete"] * 2
    assert stopped.result["trials"]["counts"]["complete"] == 2
    assert (tmp_path / "state" / "trial-0002" / "checkpoint-000001").is_dir()
    resumed = train("m", "--checkpoint-dir", tmp_path / "state", "--resume", *more)
    assert resumed.code == 0, resumed.err
    after = lines(tmp_path / "out")
    assert after[: len(before)] == before
    assert len(after) == 6
    assert train("whole", "--trials", 6, "--set", "steps=4").code == 0
    assert plain(facts(tmp_path / "whole")["trials"]["all"]) == plain(after), "as if it had not been interrupted"
    assert artifact(tmp_path / "whole") == artifact(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["trials.journal"]
    longer = train("longer", "--checkpoint-dir", tmp_path / "state", "--resume", *more, "--trials", 8)
    assert longer.code == 0, longer.err
    assert plain(lines(tmp_path / "out"))[:6] == plain(after)
    assert len(lines(tmp_path / "out")) == 8
    other = train("other", "--checkpoint-dir", tmp_path / "state", "--resume", *more, "--seed", 5)
    assert (other.code, "the seed (0 then, 5 now)" in other.error["message"]) == (2, True)


def test_two_workers_and_one_that_is_killed(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS_KILL", str(tmp_path / "killed"))
    outcome = train("m", "--trials", 6, "--trial-workers", 2, "--set", "steps=3", "--outputs", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "killed").exists()
    records = lines(tmp_path / "out")
    assert len(records) == 6
    (failed,) = [one for one in records if one["state"] == "failed"]
    assert "was killed by signal 9" in failed["error"]["message"]
    assert len({one["worker"]["pid"] for one in records}) >= 2
    told = outcome.result["trials"]["best"]
    assert told["value"] == min(one["value"] for one in records if one["state"] == "complete")
    assert facts(tmp_path / "m")["trials"]["trained_again"] is False
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["artifact", "model.json"]


def test_workers_do_not_outlive_a_killed_run(cases: Path, tmp_path: Path) -> None:
    argv = ("train", "--input", cases, "--model", tmp_path / "m", "--set", "steps=500", "--trials", 2)
    with begun(tmp_path, *argv, "--trial-workers", 2, STEPS_NAP="0.1") as process:
        wait_for(process, '"stage": "trials"')
        pids: list[int] = []
        for _ in range(6000):
            pids = children(process.pid)
            if len(list(tmp_path.glob(".mealkit-staging/*/trials/*"))) == 2:
                break
            time.sleep(0.01)
        assert len(pids) >= 2, "two that work, and what multiprocessing starts"
        process.kill()
        process.communicate()
        assert gone(pids)


def test_a_trial_that_had_nothing_left_to_do_tells_its_steps(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was interrupted after its last step; the pruner compares others with what it reports."""
    pytest.importorskip("skops.io")  # the first checkpoint has no time for that once the run was asked to stop
    more = ("--checkpoint-dir", tmp_path / "state", "--outputs", tmp_path / "out", "--set", "steps=1", "--run-id", "r")
    (tmp_path / "ask").touch()
    monkeypatch.setenv("STEPS_TERM", str(tmp_path / "ask"))
    assert train("m", "--trials", 2, *more).code == 143
    assert (tmp_path / "state" / "trial-0000" / "checkpoint-000001").is_dir()
    again = train("m", "--trials", 2, *more)
    assert again.code == 0, again.err
    assert [one["steps"] for one in lines(tmp_path / "out")] == [1, 1]


def test_runs_of_one_id_work_on_one_study(cases: Path, train: Train, tmp_path: Path) -> None:
    shared = ("--trials", 6, "--set", "steps=3", "--run-id", "night", "--trial-storage", tmp_path / "study")
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
    argv = ("train", "--input", cases, "--model", tmp_path / "a" / "m", *shared)
    with begun(tmp_path / "a", *argv, STEPS_NAP="0.7") as process:  # so slow that the other one gets some, too
        wait_for(process, "trial 0: ")
        here = train("b/m", *shared)
        _, err = process.communicate(timeout=200)
    assert (process.returncode, here.code) == (0, 0), err + here.err
    found = [facts(tmp_path / side / "m") for side in ("a", "b")]
    assert len({one["worker"]["pid"] for one in found[0]["trials"]["all"]}) == 2
    assert found[0]["trials"]["all"] == found[1]["trials"]["all"]
    assert len(found[0]["trials"]["all"]) == 6
    assert artifact(tmp_path / "a" / "m") == artifact(tmp_path / "b" / "m"), "the other trained the best one again"
    again = train("a/m", *shared)
    assert again.code == 0, again.err
    assert again.result["trials"]["best"] == found[0]["trials"]["best"]
    assert "nothing is done again" in again.out
    other = train("c", *shared, "--set", "average=true")
    assert (other.code, other.error["code"]) == (2, "settings")


def test_a_study_in_a_database(train: Train, tmp_path: Path) -> None:
    """SQLite, here; the first run ends with the study half done, the second one finds its trials there."""
    shared = ("--set", "steps=2", "--run-id", "night", "--trial-storage", tmp_path / "study.db")
    assert train("a", *shared, "--trials", 2).code == 0
    outcome = train("b", *shared, "--trials", 4)
    assert outcome.code == 0, outcome.err
    assert train("c", "--set", "steps=2", "--trials", 4).code == 0
    first, second, whole = (plain(facts(tmp_path / name)["trials"]["all"]) for name in "abc")
    assert first == second[:2]
    # In a shared study, trials that still run count as bad ones; with one worker there are none.
    assert second == whole


@pytest.mark.parametrize("storage", ["study-{}.db", "study-{}.journal"])
def test_processes_that_begin_at_once_and_one_that_is_killed(tmp_path: Path, storage: str) -> None:
    """All pods of a Job begin at the same moment: each makes the database's tables, if no other was faster."""
    assert sorted(together(tmp_path, storage, 3, 2), key=str) == [-9, 0, 0]
    study = Study(plan("night"), str(tmp_path / storage.format(1)), contextlib.nullcontext)
    records = study.records()
    assert [(one["number"], one["state"]) for one in records] == [(rank, "complete") for rank in range(COUNT)]
    assert len({one["made"] for one in records}) == COUNT
    assert {"x": 0.5} in [one["hyperparameters"] for one in records], "the defaults are tried"
    assert len({one["worker"]["pid"] for one in records}) <= 2
    assert study.claim() is None


def test_a_trial_of_a_dead_process_is_tried_again(train: Train, tmp_path: Path, cases: Path) -> None:
    argv = ("train", "--input", cases, "--model", tmp_path / "m", "--checkpoint-dir", tmp_path / "state")
    with begun(tmp_path, *argv, "--trials", 4, "--set", "steps=2", STEPS_NAP="0.8") as process:
        wait_for(process, "trial 0: ")
    outcome = train("m", "--checkpoint-dir", tmp_path / "state", "--resume", "--trials", 4, "--set", "steps=2")
    assert outcome.code == 0, outcome.err
    assert train("whole", "--trials", 4, "--set", "steps=2").code == 0
    found = [plain(facts(tmp_path / name)["trials"]["all"]) for name in ("m", "whole")]
    assert found[0] == found[1]


def test_the_best_trial_is_known_by_more_than_its_rank(tmp_path: Path) -> None:
    """When an earlier trial is to be tried again, later ones move up: they must not get each other's models."""
    study = Study(plan("night"), str(tmp_path / "s.journal"), contextlib.nullcontext)
    claims = [study.claim() for _ in range(3)]
    first, second, third = (claim for claim in claims if claim is not None)
    study.complete(second, 0.5, {})
    study.complete(third, 0.1, {})
    assert (study.best() or {})["number"] == third.rank == 2
    study.stopped(first)
    assert (study.best() or {})["number"] == second.rank == 1
    assert study.best_key() == third.key != second.key


def test_what_is_set_wins_in_the_order_of_the_sources(train: Train, tmp_path: Path) -> None:
    """Arguments before the environment, that before the file; and what any of them names is not searched."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"hyperparameters": {"alpha": 0.1, "steps": 5, "average": True}}))
    variables = {"MEALKIT_SET_ALPHA": "0.2", "MEALKIT_SET_STEPS": "4"}
    for more in ((), ("--trials", 3)):
        argv = ("--config", file, "--set", "alpha=0.3", "--overwrite", *more)
        outcome = train("m", *argv, environment=variables)
        if more:  # nothing is left to be searched
            assert (outcome.code, outcome.error["where"]) == (2, "trials")
            continue
        found = outcome.result["hyperparameters"]
        assert (found["alpha"], found["steps"], found["average"]) == (0.3, 4, True)
    file.write_text(json.dumps({"hyperparameters": {"alpha": 0.1, "steps": 5}}))
    outcome = train("m", "--config", file, "--set", "alpha=0.3", "--overwrite", "--trials", 6, environment=variables)
    assert outcome.code == 0, outcome.err
    tried = [one["hyperparameters"] for one in facts(tmp_path / "m")["trials"]["all"]]
    assert {(one["alpha"], one["steps"]) for one in tried} == {(0.3, 4)}
    assert {one["average"] for one in tried} == {True, False}


def test_the_objective() -> None:
    assert find_objective(STEPS, None) == ("log_loss", "minimize")
    assert find_objective(STEPS, "roc_auc") == ("roc_auc", "maximize")
    assert find_objective(replace(STEPS, objective="f1"), None) == ("f1", "maximize")
    assert find_objective(replace(STEPS, objective="f1"), "accuracy") == ("accuracy", "maximize")
    own = replace(STEPS, kind="custom", metrics={"profit": "maximize"})
    assert find_objective(own, None) == ("profit", "maximize")
    for spec, wanted in ((STEPS, "rocauc"), (replace(own, metrics={}), None)):
        with pytest.raises(SettingsError) as caught:
            find_objective(spec, wanted)
        assert caught.value.where == "objective"


@pytest.mark.parametrize(
    ("more", "where", "said"),
    [
        (("--trials", "0"), "trials", "trials cannot be '0'"),
        (("--trials", "3", "--objective", "profit"), "objective", "no metric 'profit'"),
        (("--trials", "3", "--resume"), "resume", "nothing to resume from"),
        (("--trials", "3", "--trial-storage", "FOLDER/x.db"), "FOLDER/x.db", "the trials' storage cannot be used"),
    ],
)
def test_mistakes_are_told(train: Train, tmp_path: Path, more: tuple[str, ...], where: str, said: str) -> None:
    (tmp_path / "x.db").write_text("no database, but a text that is long enough to be taken for one" * 9)
    more, where = tuple(item.replace("FOLDER", str(tmp_path)) for item in more), where.replace("FOLDER", str(tmp_path))
    outcome = train("m", *more)
    assert (outcome.code, outcome.error["where"]) == (2, where)
    assert said in outcome.error["message"]


def test_a_storage_that_cannot_be_written_is_told(train: Train) -> None:
    outcome = train("m", "--trials", 2, "--trial-storage", "/proc/none/x.journal")
    assert (outcome.code, outcome.error["code"]) == (8, "storage")


def test_a_database_that_does_not_answer_is_told_without_its_password(train: Train) -> None:
    outcome = train("m", "--trials", 2, "--trial-storage", "redis://user:canary@127.0.0.1:1/0")
    assert outcome.code in (2, 75)
    assert "canary" not in outcome.out + outcome.err


def test_without_optuna_the_hint_says_what_to_add(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = train("m", "--trials", 2)
    assert (outcome.code, outcome.error["hint"]) == (2, 'add "optuna" to the recipe\'s dependencies')
