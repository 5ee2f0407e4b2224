"""Several worker processes: the same bits, the same errors, and no one hangs when one of them dies."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from churn_runs import RECIPES, Outcome, Runner, make_events, spec_of, write
from processes import children, gone

from mealkit.spec import RecipeSpec
from mealkit_runtime import worker
from mealkit_runtime.crew import crew_size

JSON = ("--log-format", "json")
ROWS = 2_000


@pytest.fixture(scope="session")
def odd() -> RecipeSpec:
    return spec_of("odd")


@pytest.fixture
def files(run: Runner, odd: RecipeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset ``new.parquet`` and a model of the odd recipe."""
    monkeypatch.syspath_prepend(str(RECIPES / "odd"))
    numbers = np.arange(float(ROWS))
    frame = pd.DataFrame({"number": numbers.astype(int), "x": numbers, "z": np.sin(numbers)})
    write(frame.assign(y=3 * frame["x"] + frame["z"]), tmp_path / "training.parquet")
    write(frame, tmp_path / "new.parquet")
    argv = ("train", "--input", tmp_path / "training.parquet", "--model", tmp_path / "model", *JSON)
    assert run(*argv, spec=odd).code == 0
    return tmp_path


@pytest.fixture
def score(run: Runner, odd: RecipeSpec, files: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    def scored(output: str, *more: object, **environment: str) -> Outcome:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        argv = ("score", "--input", files / "new.parquet", "--model", files / "model", "--output", files / output)
        handles = len(list(Path("/proc/self/fd").iterdir()))
        before = children(os.getpid())  # servers of other tests
        outcome = run(*argv, "--run-id", "r", "--batch-rows", "100", *JSON, *more, spec=odd)
        assert len(list(Path("/proc/self/fd").iterdir())) <= handles
        assert set(children(os.getpid())) <= set(before)
        return outcome

    return scored


def digest(output: Path) -> str:
    return str(json.loads((output / "batch_id=r" / "_batch.json").read_text())["files"][0]["sha256"])


def test_the_same_bits_for_any_number_of_workers(score: Callable[..., Outcome], files: Path) -> None:
    outcomes = {
        "alone": score("alone"),
        "forked": score("forked", "--workers", "3", ODD_KILL=f"777:{files / 'first'}"),
        "loaded": score("loaded", "--workers", "2", ODD_KILL=f"777:{files / 'second'}", ODD_THREAD="1"),
    }
    for name, outcome in outcomes.items():
        assert outcome.code == 0, outcome.err
        assert (outcome.result["rows_read"], outcome.result["rows_scored"]) == (ROWS, ROWS)
        messages = [event["message"] for event in outcome.events if event["event"] == "log"]
        assert messages == ["scored 100 rows"] * (ROWS // 100)
        told = "a worker process was killed (SIGKILL); its batch is scored again"
        assert outcome.result["warnings"] == ([] if name == "alone" else [told])
        last = [event for event in outcome.events if event["event"] == "progress"][-1]
        assert (last["done"], last["total"], last["seconds_left"]) == (ROWS, ROWS, 0)
        assert last["rate"] > 0
    assert len({digest(files / name) for name in outcomes}) == 1, "the recipe's random numbers are the same too"


def test_workers_are_forked_from_one_that_loaded_all(score: Callable[..., Outcome], files: Path) -> None:
    alone = score("alone", ODD_TELL="1")
    assert alone.code == 0, alone.err
    left = pd.read_parquet(files / "alone" / "batch_id=r")
    assert set(left["pid"]) == {os.getpid()}
    outcome = score("s", "--workers", "2", "--unordered", ODD_SLEEP="0.02")
    assert outcome.code == 0, outcome.err
    right = pd.read_parquet(files / "s" / "batch_id=r").sort_values("number").reset_index(drop=True)
    assert right["pid"].nunique() == 2
    assert right["parent"].nunique() == 1
    assert os.getpid() not in {*right["parent"], *right["pid"]}
    assert gone([*right["pid"].unique(), *right["parent"].unique()])
    assert set(left["threads"]) == set(right["threads"]) == {1}
    told = ["pid", "parent"]
    pd.testing.assert_frame_equal(left.drop(columns=told), right.drop(columns=told), check_exact=True)


def test_what_must_not_be_forked() -> None:
    sockets = worker._sockets()
    with socket.socket():
        assert len(worker._sockets()) == len(sockets) + 1
    before = worker._threads()
    go = threading.Event()
    thread = threading.Thread(target=go.wait, args=(60,))
    thread.start()
    assert worker._threads() == before + 1
    go.set()
    thread.join()


def test_a_batch_that_kills_every_worker_can_be_retried(score: Callable[..., Outcome], files: Path) -> None:
    outcome = score("s", "--workers", "2", ODD_KILL="777")
    assert outcome.code == 75, outcome.err
    assert outcome.error["code"] == "retryable"
    assert outcome.error["retryable"] is True
    assert outcome.error["where"] == "batch 8"
    assert "fewer --workers" in outcome.error["hint"]
    assert not (files / "s").exists()


@pytest.fixture
def begin(start: Any, files: Path, tmp_path: Path, odd: RecipeSpec) -> Callable[..., Any]:
    """Start scoring with two workers, slowly, and wait for the first progress."""
    (tmp_path / "odd.json").write_text(odd.to_json())

    def beginning(output: str) -> tuple[Any, list[int]]:
        environment = {
            "MEALKIT_RECIPE": str(tmp_path / "odd.json"), "PYTHONPATH": str(RECIPES / "odd"), "ODD_SLEEP": "0.1",
        }  # fmt: skip
        process = start(
            "score", "--input", files / "new.parquet", "--model", files / "model", "--output", files / output,
            "--run-id", "r", "--batch-rows", "50", "--workers", "2", *JSON, environment=environment,
        )  # fmt: skip
        for line in process.stdout:
            if '"event": "progress"' in line:
                break
        else:
            pytest.fail(process.stderr.read())
        first = children(process.pid)
        return process, [*first, *(worker for one in first for worker in children(one))]

    return beginning


def test_the_first_process_is_killed(begin: Callable[..., Any], files: Path) -> None:
    process, pids = begin("s")
    os.kill(pids[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert json.loads(out.splitlines()[-1])["result"]["error"]["code"] == "retryable"
    assert not (files / "s").exists()
    assert gone(pids)


def test_a_stop_ends_all_at_once(begin: Callable[..., Any], files: Path) -> None:
    process, pids = begin("s")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "error[stopped]" in err
    assert "Traceback" not in err
    assert gone(pids)
    assert not (files / "s").exists()


def test_workers_do_not_outlive_a_killed_run(begin: Callable[..., Any], files: Path) -> None:
    process, pids = begin("s")
    process.kill()
    process.communicate(timeout=60)
    assert gone(pids)


def test_the_recipes_errors_are_told_as_without_workers(
    run: Runner, data: Path, common: tuple[str, ...], tmp_path: Path
) -> None:
    argv = ("--input", data / "events.csv", *common, "--model", tmp_path / "m", *JSON)
    assert run("train", *argv, "--set", "score=raise").code == 0
    outcomes = [
        run("score", *argv, "--output", tmp_path / "s", "--workers", workers, "--batch-rows", "100")
        for workers in (1, 2)
    ]
    assert [outcome.code for outcome in outcomes] == [5, 5]
    assert outcomes[0].error == outcomes[1].error
    assert "Traceback of the recipe's code" in outcomes[0].err
    assert outcomes[0].err == outcomes[1].err
    assert not (tmp_path / "s").exists()


def test_the_datas_errors_are_told_as_without_workers(run: Runner, data: Path, model: Path, tmp_path: Path) -> None:
    events = make_events(900, seed=3).drop(columns="left")
    events.loc[2_500, "amount"] = -1
    source = write(events, tmp_path / "bad.parquet")
    plans = ("--input", f"plans={data}/plans.csv", "--model", model)
    outcomes = [
        run(
            "score", "--input", source, *plans, "--output", tmp_path / "s", "--workers", workers, "--batch-rows", "100",
            *JSON,
        )
        for workers in (1, 2)
    ]  # fmt: skip
    assert [outcome.code for outcome in outcomes] == [3, 3]
    assert outcomes[0].error == outcomes[1].error
    assert "row 2,501" in outcomes[0].error["where"]
    assert not (tmp_path / "s").exists()


def test_a_model_that_cannot_be_loaded(score: Callable[..., Outcome], files: Path) -> None:
    facts = json.loads((files / "model" / "model.json").read_text())
    artifact = next((files / "model" / "artifact").iterdir())
    artifact.write_bytes(b"nothing")
    facts["files"][f"artifact/{artifact.name}"] = {"size": 7, "sha256": hashlib.sha256(b"nothing").hexdigest()}
    (files / "model" / "model.json").write_text(json.dumps(facts))
    outcomes = [score("s", "--workers", workers) for workers in (1, 2)]
    assert outcomes[0].code == outcomes[1].code != 0
    assert outcomes[0].error == outcomes[1].error


def test_a_batch_that_was_committed_before_loads_nothing(score: Callable[..., Outcome], files: Path) -> None:
    assert score("s").code == 0
    again = score("s", "--workers", "2")
    assert again.result["batch"]["existed"] is True
    assert "load" not in again.result["seconds"]


@pytest.mark.parametrize("wrong", ["-1", "many", "1.5"])
def test_workers_must_be_a_number(score: Callable[..., Outcome], wrong: str) -> None:
    outcome = score("s", f"--workers={wrong}")
    assert outcome.code == 2
    assert outcome.error["where"] == "workers"


def test_as_many_as_there_are_cores() -> None:
    assert crew_size(3) == 3
    assert 1 <= crew_size(0) <= (os.cpu_count() or 1)
