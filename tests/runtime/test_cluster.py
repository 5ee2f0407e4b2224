"""Scoring and training on a Dask cluster: what one process gives, also when workers, runs or the scheduler die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from churn_runs import Outcome, Runner, spec_of, write
from nodes import SECRET, Nodes, free_port
from step_runs import artifact, facts, make_cases

from mealkit.errors import SettingsError
from mealkit_runtime.batches import find_batch, verify_batch
from mealkit_runtime.engine import cluster_address

GROVE = spec_of("grove")
JSON = ("--log-format", "json")
CANARY = "canary-in-a-coal-mine"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    one = Nodes(tmp_path_factory.mktemp("nodes"), "grove", 2)
    yield one
    one.close()


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make_cases(400), tmp_path_factory.mktemp("cases") / "cases.parquet")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 rows in two files and row groups of 200."""
    folder = tmp_path_factory.mktemp("new")
    frame = make_cases(2_000, seed=1).drop(columns="y")
    for name, part in (("a", frame[:1200]), ("b", frame[1200:])):
        part.to_parquet(folder / f"{name}.parquet", index=False, row_group_size=200)
    return folder


@pytest.fixture
def grove(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "recipes" / "grove"))

    def runner(*argv: object, **options: Any) -> Outcome:
        return run(*argv, *JSON, spec=GROVE, **options)

    return runner


@pytest.fixture
def model(grove: Callable[..., Outcome], cases: Path, tmp_path: Path) -> Callable[..., Path]:
    """A model that was trained here, with these hyperparameters."""

    def trainer(**given: object) -> Path:
        folder = tmp_path / "model"
        values = [item for name, value in given.items() for item in ("--set", f"{name}={value}")]
        assert grove("train", "--input", cases, "--model", folder, *values).code == 0
        return folder

    return trainer


def rows(dataset: Path, batch: str) -> pd.DataFrame:
    """A batch's rows, in the order of its files' names."""
    files = sorted((dataset / f"batch_id={batch}").glob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def started(*argv: object, **environment: str) -> subprocess.Popen[str]:
    """A run of the recipe in a process of its own."""
    path = {"PYTHONPATH": str(Path(__file__).parent / "recipes" / "grove"), "MEALKIT_LOG_FORMAT": "json"}
    return subprocess.Popen(
        [sys.executable, "-m", "mealkit_runtime", *map(str, argv)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **path, **environment},
    )  # fmt: skip


def wait_until(true: Callable[[], object], within: float = 240) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def marks(dataset: Path) -> list[Path]:
    return list((dataset / ".mealkit-shards").glob("*/shard-*.json"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("dask://scheduler:8786", "tcp://scheduler:8786"),
        ("dask+tls://10.0.0.1:1/", "tls://10.0.0.1:1"),
        ("dask://[::1]:8786", "tcp://[::1]:8786"),
    ],
)
def test_the_address_of_an_engine(text: str, address: str) -> None:
    assert cluster_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "dask://", "dask://host", "dask://host:0", "dask://host:99999", "ray://h:1", "h:1"]
)
def test_what_is_no_engine(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        cluster_address(text)
    assert "dask://HOST:PORT" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["", "delta:"])
def test_the_workers_score_what_one_process_scores(
    grove: Callable[..., Outcome], model: Callable[..., Path], nodes: Nodes, new: Path, tmp_path: Path, kind: str
) -> None:
    argv = ("score", "--input", new, "--model", model(), "--run-id", "r", "--batch-rows", 100)
    assert grove(*argv, "--output", tmp_path / "here").code == 0
    there = f"{kind}{tmp_path}/there"
    outcome = grove(*argv, "--output", there, "--engine", nodes.engine)
    assert outcome.code == 0, outcome.err
    result = outcome.result
    assert (result["rows_read"], result["rows_used"], result["rows_scored"]) == (2_000, 2_000, 2_000)
    assert (result["batch"]["rows"], result["batch"]["existed"], len(result["batch"]["files"])) == (2_000, False, 10)
    pd.testing.assert_frame_equal(rows(tmp_path / "there", "r"), rows(tmp_path / "here", "r"), check_exact=True)
    record = find_batch(there, "r")
    assert not verify_batch(there, record)
    assert record.provenance["input"]["rows"] == 2_000
    assert record.provenance["shards"] == 10
    progress = [event for event in outcome.events if event["event"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["total"]) == (2_000, 2_000)
    again = grove(*argv, "--output", there, "--engine", nodes.engine)
    assert (again.code, again.result["batch"]["existed"], again.result["batch"]["rows"]) == (0, True, 2_000)
    assert not list((tmp_path / "there").rglob(".mealkit*"))
    assert not list((tmp_path / "there").rglob("_mealkit/shards/*"))


def test_a_worker_that_is_killed_changes_nothing(
    grove: Callable[..., Outcome], model: Callable[..., Path], nodes: Nodes, new: Path, tmp_path: Path
) -> None:
    folder = model(nap=0.1, score="draw")
    argv = ("score", "--input", new, "--model", folder, "--run-id", "r", "--batch-rows", 100, "--engine", nodes.engine)
    assert grove(*argv, "--output", tmp_path / "calm").code == 0
    process = started(*argv, "--output", tmp_path / "s", MEALKIT_RECIPE=nodes.environment["MEALKIT_RECIPE"])
    wait_until(lambda: len(marks(tmp_path / "s")) >= 2)
    before = set(nodes.workers())
    nodes.kill_a_worker()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(set(nodes.workers()) & before) == 1, "one was killed while the run went on"
    result = json.loads(out.splitlines()[-1])["result"]
    assert (result["rows_scored"], result["batch"]["existed"]) == (2_000, False)
    pd.testing.assert_frame_equal(rows(tmp_path / "s", "r"), rows(tmp_path / "calm", "r"), check_exact=True)
    assert len(rows(tmp_path / "s", "r")["luck"].unique()) == 2_000, "no two batches draw the same lots"
    assert grove(*argv[:-2], "--output", tmp_path / "s", "--run-id", "next").code == 0, "here, and it cleans up"
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["batch_id=next", "batch_id=r"]


def test_a_run_that_is_killed_goes_on(
    grove: Callable[..., Outcome], model: Callable[..., Path], nodes: Nodes, new: Path, tmp_path: Path
) -> None:
    folder, dataset = model(nap=0.2), tmp_path / "s"
    argv = (
        "score", "--input", new, "--model", folder, "--run-id", "r", "--batch-rows", 100, "--engine", nodes.engine,
        "--output", dataset,
    )  # fmt: skip
    process = started(*argv, MEALKIT_RECIPE=nodes.environment["MEALKIT_RECIPE"])
    wait_until(lambda: len(marks(dataset)) >= 3)
    process.kill()
    process.communicate()
    assert not list(dataset.glob("batch_id=*")), "nothing is visible"
    kept = {path: path.read_bytes() for path in marks(dataset)}
    outcome = grove(*argv)
    assert outcome.code == 0, outcome.err
    assert outcome.result["rows_read"] == outcome.result["rows_scored"] == 2_000
    written = {part.name for part in find_batch(str(dataset), "r").parts}
    assert {json.loads(text)["part"]["name"] for text in kept.values()} <= written, "what was done is not done again"
    assert sorted(path.name for path in dataset.iterdir()) == ["batch_id=r"]


def test_a_run_that_is_asked_to_stop(model: Callable[..., Path], nodes: Nodes, new: Path, tmp_path: Path) -> None:
    process = started(
        "score", "--input", new, "--model", model(nap=0.3), "--output", tmp_path / "s", "--run-id", "r",
        "--batch-rows", 100, "--engine", nodes.engine, MEALKIT_RECIPE=nodes.environment["MEALKIT_RECIPE"],
    )  # fmt: skip
    wait_until(lambda: marks(tmp_path / "s"))
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert time.monotonic() - begun < 10
    assert "Traceback" not in err
    assert not list((tmp_path / "s").glob("batch_id=*"))


def test_bad_rows_add_up(
    grove: Callable[..., Outcome], model: Callable[..., Path], nodes: Nodes, tmp_path: Path
) -> None:
    frame = make_cases(1_000, seed=2).drop(columns="y")
    frame.loc[[5, 250, 251, 999], "a"] = 99.0
    frame.to_parquet(tmp_path / "bad.parquet", index=False, row_group_size=200)
    argv = (
        "score", "--input", tmp_path / "bad.parquet", "--model", model(), "--output", tmp_path / "s",
        "--batch-rows", 100, "--engine", nodes.engine,
    )  # fmt: skip
    failed = grove(*argv)
    assert failed.code == 3, failed.err
    assert any(f"row {row}, column a" in failed.error["where"] for row in ("6", "251", "1,000"))
    outcome = grove(*argv, "--run-id", "r", "--on-bad-rows", "quarantine", "--quarantine", tmp_path / "q")
    assert outcome.code == 0, outcome.err
    result = outcome.result
    counts = [result[name] for name in ("rows_read", "rows_used", "rows_skipped", "rows_quarantined", "rows_scored")]
    assert counts == [1_000, 996, 0, 4, 996]
    assert result["bad_rows"] == {"a": {"le": 4}}
    assert result["quarantine"] == str(tmp_path / "q")
    kept = pd.concat([pd.read_csv(file) for file in (tmp_path / "q").rglob("bad-rows.csv")])
    assert sorted(kept["_row"]) == [6, 251, 252, 1_000]
    few = grove(*argv, "--run-id", "few", "--on-bad-rows", "skip", "--max-bad-rows", "0.001")
    assert (few.code, few.error["code"]) == (3, "bad-rows")
    assert grove(*argv, "--run-id", "many", "--on-bad-rows", "skip", "--max-bad-rows", "0.01").code == 0
    assert sorted(path.name for path in (tmp_path / "s").glob("batch_id=*")) == ["batch_id=many", "batch_id=r"]


def test_errors_of_the_recipe_are_the_recipes(
    grove: Callable[..., Outcome], model: Callable[..., Path], nodes: Nodes, new: Path, tmp_path: Path
) -> None:
    argv = ("score", "--input", new, "--output", tmp_path / "s", "--batch-rows", 100, "--engine", nodes.engine)
    outcome = grove(*argv, "--model", model(score="raise"))
    assert (outcome.code, outcome.error["code"]) == (5, "recipe"), outcome.err
    assert "no such feature" in outcome.error["message"]
    assert "grove.py:" in outcome.error["where"]
    assert not list((tmp_path / "s").glob("batch_id=*"))


def test_a_batch_that_kills_its_workers_ends_the_run(
    grove: Callable[..., Outcome], model: Callable[..., Path], nodes: Nodes, tmp_path: Path
) -> None:
    make_cases(100).drop(columns="y").to_parquet(tmp_path / "few.parquet", index=False)
    outcome = grove(
        "score", "--input", tmp_path / "few.parquet", "--output", tmp_path / "s", "--model", model(score="die"),
        "--engine", nodes.engine,
    )  # fmt: skip
    assert (outcome.code, outcome.error["code"]) == (75, "retryable"), outcome.err
    assert "part 1 of 1" in outcome.error["message"]
    assert outcome.error["hint"]


def test_what_is_refused(grove: Callable[..., Outcome], model: Callable[..., Path], new: Path, tmp_path: Path) -> None:
    argv = ("score", "--input", new, "--model", model(), "--output", tmp_path / "s", "--run-id", "r")
    nobody = f"dask://127.0.0.1:{free_port()}"
    for more, what in (
        (("--engine", "ray://h:1"), "not an engine"),
        (("--engine", nobody, "--shard", "0/2"), "shard and engine"),
        (("--engine", nobody, "--workers", "2"), "workers and engine"),
        (("--engine", nobody, "--limit", "5"), "without --engine, or without --sample and --limit"),
    ):
        outcome = grove(*argv, *more)
        assert outcome.code == 2, outcome.err
        assert what in outcome.err
    outcome = grove(*argv, "--engine", nobody, "--engine-wait", "1")
    assert (outcome.code, outcome.error["code"]) == (75, "retryable")
    assert "no scheduler answers" in outcome.error["message"]
    assert not (tmp_path / "s").exists()


def test_a_worker_of_another_recipe_is_refused(
    run: Runner, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "recipes" / "rent"))
    rent, frame = spec_of("rent"), pd.DataFrame({"flat": range(20), "rooms": range(20), "rent": range(20)})
    write(frame, tmp_path / "rent.parquet")
    target = ("--input", tmp_path / "rent.parquet", "--model", tmp_path / "m")
    assert run("train", *target, *JSON, spec=rent).code == 0
    outcome = run("score", *target, "--output", tmp_path / "s", "--engine", nodes.engine, *JSON, spec=rent)
    assert outcome.code == 2, outcome.err
    assert "another recipe" in outcome.error["message"]
    assert "one image" in outcome.error["hint"]


def test_scikit_learn_trains_on_the_workers(
    grove: Callable[..., Outcome], nodes: Nodes, cases: Path, tmp_path: Path
) -> None:
    argv = ("train", "--input", cases, "--set", "trees=12")
    assert grove(*argv, "--model", tmp_path / "here").code == 0
    outcome = grove(*argv, "--model", tmp_path / "there", "--engine", nodes.engine)
    assert outcome.code == 0, outcome.err
    assert artifact(tmp_path / "there") == artifact(tmp_path / "here")
    metrics = {event["name"]: event["value"] for event in outcome.events if event["event"] == "metric"}
    assert metrics["here"] == 0, "nothing of it was done by this process"
    failed = grove(*argv, "--model", tmp_path / "none", "--engine", nodes.engine, "--set", "train=raise")
    assert (failed.code, failed.error["code"]) == (5, "recipe")
    assert not (tmp_path / "none").exists()


def test_a_training_outlives_a_worker(grove: Callable[..., Outcome], nodes: Nodes, cases: Path, tmp_path: Path) -> None:
    argv = ("train", "--input", cases, "--set", "nap=0.4", "--set", "trees=6", "--engine", nodes.engine)
    assert grove(*argv[:-2], "--model", tmp_path / "calm").code == 0
    process = started(*argv, "--model", tmp_path / "m", MEALKIT_RECIPE=nodes.environment["MEALKIT_RECIPE"])
    assert any('"connect", "status": "finished"' in line for line in process.stdout)
    time.sleep(1)
    nodes.kill_a_worker()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert artifact(tmp_path / "m") == artifact(tmp_path / "calm")


def test_trials_are_tried_by_the_workers(
    grove: Callable[..., Outcome], nodes: Nodes, cases: Path, tmp_path: Path
) -> None:
    argv = (
        "train", "--input", cases, "--trials", 5, "--set", "nap=0.2", "--set", f"token={CANARY}", "--outputs",
        tmp_path / "out", "--engine", nodes.engine,
    )  # fmt: skip
    process = started(
        *argv, "--model", tmp_path / "m", "--run-id", "t", MEALKIT_RECIPE=nodes.environment["MEALKIT_RECIPE"]
    )
    assert any('"trial"' in line and '"done": 1' in line for line in process.stdout)
    nodes.kill_a_worker()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    result = json.loads(out.splitlines()[-1])["result"]
    assert sum(result["trials"]["counts"].values()) == 5
    assert result["trials"]["counts"]["failed"] == 0, out
    stored = facts(tmp_path / "m")
    assert [one["number"] for one in stored["trials"]["all"]] == list(range(5))
    assert stored["trials"]["trained_again"] is False, "the model came from the worker"
    assert stored["run_id"] == "t"
    assert len((tmp_path / "out" / "trials.jsonl").read_text().splitlines()) == 5
    best = min(
        (one for one in stored["trials"]["all"] if one["state"] == "complete"),
        key=lambda one: (one["value"], one["number"]),
    )
    assert stored["hyperparameters"]["trees"] == best["hyperparameters"]["trees"]
    judged = {one["name"]: one["value"] for one in stored["metrics"]}
    assert judged["log_loss"] == pytest.approx(best["value"], abs=0)
    assert CANARY not in out + err
    assert all(CANARY not in path.read_text(errors="replace") for path in tmp_path.rglob("*.json*"))


def test_bad_trials_are_given_up_on_the_workers(
    grove: Callable[..., Outcome], nodes: Nodes, cases: Path, tmp_path: Path
) -> None:
    outcome = grove(
        "train", "--input", cases, "--model", tmp_path / "m", "--trials", 12, "--set", "nap=0.05", "--set", "steps=12",
        "--engine", nodes.engine,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    counts = outcome.result["trials"]["counts"]
    assert counts["pruned"] >= 1, counts
    assert counts["pruned"] + counts["complete"] == 12


def test_nothing_secret_is_in_what_nodes_tell(nodes: Nodes) -> None:
    told = nodes.told("worker") + nodes.told("scheduler")
    assert "scored with" in told, "the recipe's own words are there"
    assert SECRET not in told
    assert CANARY not in told
    assert "Traceback" not in told


def test_the_end_of_the_scheduler(
    grove: Callable[..., Outcome], model: Callable[..., Path], new: Path, tmp_path: Path
) -> None:
    """A run ends with a status that allows another try, and the node ends well."""
    own = Nodes(tmp_path, "grove", 1)
    try:
        process = started(
            "score", "--input", new, "--model", model(nap=0.3), "--output", tmp_path / "s", "--run-id", "r",
            "--batch-rows", 100, "--engine", own.engine, MEALKIT_RECIPE=own.environment["MEALKIT_RECIPE"],
        )  # fmt: skip
        wait_until(lambda: marks(tmp_path / "s"))
        own.scheduler.send_signal(signal.SIGTERM)
        assert own.scheduler.wait(20) == 143
        out, err = process.communicate(timeout=60)
        assert process.returncode == 75, out + err
        assert json.loads(out.splitlines()[-1])["result"]["error"]["code"] == "retryable"
        assert own.node.wait(60) == 0
        assert "the scheduler has gone" in own.told("worker")
        assert not list((tmp_path / "s").glob("batch_id=*"))
    finally:
        own.close()


def test_a_node_waits_for_its_scheduler_and_stops(tmp_path: Path) -> None:
    port = free_port()
    waiting = started("worker", "--engine", f"dask://127.0.0.1:{port}", MEALKIT_RECIPE=_spec(tmp_path))
    assert any("waits for the scheduler" in line for line in waiting.stderr)
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(20) == 143
    waiting.communicate()
    alone = started(
        "worker", "--engine", f"dask://127.0.0.1:{port}", "--engine-wait", 0, MEALKIT_RECIPE=_spec(tmp_path)
    )
    _, err = alone.communicate(timeout=60)
    assert alone.returncode == 75
    assert "no scheduler answers" in err
    assert "hint:" in err


def test_by_tls(
    grove: Callable[..., Outcome],
    model: Callable[..., Path],
    new: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scheduler, worker and run show one another their certificates; who has none is told."""
    folder = model()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    nobody = f"dask+tls://127.0.0.1:{free_port()}"
    argv = ("score", "--input", new, "--model", folder, "--output", tmp_path / "s", "--run-id", "r")
    outcome = grove(*argv, "--engine", nobody, "--engine-wait", "0")
    assert (outcome.code, outcome.error["code"]) == (2, "settings"), outcome.err
    assert "certificates" in outcome.error["hint"]
    assert "Traceback" not in outcome.err
    variables = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": "cert.pem"}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        variables[f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT"] = "cert.pem"
        variables[f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY"] = "key.pem"
    paths = {name: str(tmp_path / file) for name, file in variables.items()}
    always = {"DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tls", "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}
    for name, value in (paths | always).items():
        monkeypatch.setenv(name, value)
    nodes = Nodes(tmp_path, "grove", 1, scheme="dask+tls")
    try:
        process = started(*argv, "--engine", nodes.engine, MEALKIT_RECIPE=nodes.environment["MEALKIT_RECIPE"])
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        assert len(rows(tmp_path / "s", "r")) == 2_000
        assert "tls://127.0.0.1" in nodes.told("scheduler")
    finally:
        nodes.close()


def _spec(folder: Path) -> str:
    file = folder / "spec.json"
    file.write_text(GROVE.to_json())
    return str(file)
