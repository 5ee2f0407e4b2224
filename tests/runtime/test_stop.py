"""SIGTERM, as a process and as PID 1: exit 143 within five seconds, nothing half-written, a result that tells."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from churn_runs import Runner, make_events, spec_of, write

from mealkit_runtime.events import Reporter

JSON = ("--log-format", "json")


def wait_for(process: Any, text: str) -> None:
    """Read events until one has ``text``."""
    deadline = time.monotonic() + 60
    for line in process.stdout:
        if text in line:
            return
        assert time.monotonic() < deadline
    pytest.fail(f"the run ended before {text!r}: {process.stderr.read()}")


def end(process: Any, *, within: float = 30.0) -> tuple[float, str]:
    """Wait for the end; how long it took, and what stood on stderr."""
    begun = time.monotonic()
    _, err = process.communicate(timeout=within)
    return time.monotonic() - begun, err


def train(
    start: Any, common: tuple[str, ...], data: Path, folder: Path, how: str, *more: object, **options: Any
) -> Any:
    return start(
        "train", "--input", data / "events.csv", *common, "--model", folder / "model", "--set", f"train={how}",
        "--result", folder / "result.json", *JSON, *more, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "low", "high"),
    [("look", 0.0, 2.0), ("sleep", 3.0, 5.5), ("stuck", 3.0, 6.0)],
)
def test_training_stops(
    start: Any, common: tuple[str, ...], data: Path, tmp_path: Path, how: str, low: float, high: float
) -> None:
    process = train(start, common, data, tmp_path, how, "--checkpoint-dir", tmp_path / "checkpoints")
    wait_for(process, '"stage": "train"')
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    seconds, err = end(process)
    assert process.returncode == 143, err
    assert low <= seconds < high
    assert "error[stopped]" in err
    assert "Traceback" not in err
    assert (tmp_path / "checkpoints" / "checkpoint").exists() is (how == "look")
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".mealkit*"))
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["exit_code"], result["error"]["code"]) == ("stopped", 143, "stopped")


def test_a_second_signal_does_not_wait(start: Any, common: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    process = train(start, common, data, tmp_path, "sleep")
    wait_for(process, '"event": "progress"')
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    seconds, err = end(process)
    assert process.returncode == 143, err
    assert seconds < 2
    assert not (tmp_path / "model").exists()


def test_a_stop_while_the_libraries_are_imported(
    start: Any, common: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    process = train(start, common, data, tmp_path, "well")
    wait_for(process, '"stage": "import"')
    process.send_signal(signal.SIGTERM)
    seconds, err = end(process)
    assert process.returncode == 143, err
    assert seconds < 5
    assert "Traceback" not in err


def test_scoring_stops_between_batches_and_again_gives_one(
    start: Any, run: Any, common: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    run("train", "--input", data / "events.csv", *common, "--model", tmp_path / "m", "--set", "score=slow")
    source = write(make_events(2_000).drop(columns="left"), tmp_path / "many.parquet")
    argv = ("score", "--input", source, *common, "--model", tmp_path / "m", "--output", tmp_path / "scores", *JSON)
    process = start(*argv, "--run-id", "r", "--batch-rows", "100")
    wait_for(process, '"event": "progress"')
    process.send_signal(signal.SIGTERM)
    seconds, err = end(process)
    assert process.returncode == 143, err
    assert seconds < 3
    assert not (tmp_path / "scores").exists()
    assert run(*argv, "--run-id", "r").code == 0
    assert len(pd.read_parquet(tmp_path / "scores" / "batch_id=r")) == 2_000


def test_what_a_killed_run_left_is_removed_by_the_next(
    start: Any, run: Any, common: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    run("train", "--input", data / "events.csv", *common, "--model", tmp_path / "m", "--set", "score=slow")
    argv = ("score", "--input", data / "new.parquet", *common, "--model", tmp_path / "m", "--output", tmp_path / "s")
    process = start(*argv, *JSON, "--run-id", "killed", "--batch-rows", "20")
    wait_for(process, '"event": "progress"')
    for _ in range(1000):  # the writer is a step behind
        if list((tmp_path / "s" / ".mealkit-staging").glob("killed-*/part-*")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    assert list((tmp_path / "s" / ".mealkit-staging").glob("killed-*/part-*"))
    with pytest.raises(FileNotFoundError):
        pd.read_parquet(next((tmp_path / "s").glob("batch_id=*"), tmp_path / "none"))
    living = start(*argv, *JSON, "--run-id", "living", "--batch-rows", "20")
    wait_for(living, '"event": "progress"')
    living.send_signal(signal.SIGSTOP)
    process.kill()
    process.communicate()
    assert run(*argv, "--run-id", "next").code == 0
    left = [path.name for path in (tmp_path / "s" / ".mealkit-staging").iterdir()]
    assert len(left) == 1
    assert left[0].startswith("living-"), "the living keep their work"
    living.send_signal(signal.SIGCONT)
    end(living, within=60)
    assert living.returncode == 0
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["batch_id=living", "batch_id=next"]


def test_two_runs_of_one_id_at_once_give_one_batch(
    start: Any, common: tuple[str, ...], data: Path, model: Path, tmp_path: Path
) -> None:
    argv = ("score", "--input", data / "new.parquet", *common, "--model", model, "--output", tmp_path / "s", *JSON)
    both = [start(*argv, "--run-id", "same", "--batch-rows", "50") for _ in range(2)]
    outcomes = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outcomes
    existed = [json.loads(out.splitlines()[-1])["result"]["batch"]["existed"] for out, _ in outcomes]
    assert sorted(existed) == [False, True]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["batch_id=same"]


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
@pytest.mark.parametrize("how", ["look", "sleep"])
def test_as_pid_1(start: Any, common: tuple[str, ...], data: Path, tmp_path: Path, how: str) -> None:
    prefix = ("unshare", "--pid", "--fork", "--kill-child")
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets no PID namespace be made")
    process = train(start, common, data, tmp_path, how, "--checkpoint-dir", tmp_path, prefix=prefix)
    wait_for(process, '"stage": "train"')
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    inner = int(children.stdout.split()[0])
    status = Path(f"/proc/{inner}/status").read_text()
    assert next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1] == "1"
    os.kill(inner, signal.SIGTERM)
    seconds, err = end(process)
    assert process.returncode == 143, err
    assert seconds < 5.5
    assert not (tmp_path / "model").exists()


STAGES = {
    "train": ("import", "read", "prepare", "train", "save", "evaluate", "commit"),
    "evaluate": ("verify", "import", "load", "read", "prepare", "evaluate"),
    "score": ("verify", "import", "load", "score", "commit"),
}


@pytest.mark.parametrize(
    ("mode", "stage", "status"),
    [(mode, stage, status) for mode in STAGES for stage in STAGES[mode] for status in ("started", "finished")],
)
def test_a_stop_in_every_stage(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, stage: str, status: str
) -> None:
    noisy, made = spec_of("noisy"), tmp_path / "made"
    rows = write(pd.DataFrame({"name": list("abcdefgh"), "x": range(8), "y": range(8)}), tmp_path / "rows.csv")
    argv: list[object] = [mode, "--input", rows, "--model", made / "m", *JSON, "--run-id", "r"]
    argv += ["--output", made / "s"] if mode == "score" else []
    argv += ["--result", made / "result.json"]
    if mode != "train":
        assert run("train", "--input", rows, "--model", made / "m", spec=noisy).code == 0
    before = set(made.rglob("*"))
    seen: list[str] = []
    told = Reporter.stage

    def tell(self: Reporter, name: str, how: str, **facts: object) -> None:
        told(self, name, how, **facts)
        if (name, how) == (stage, status):
            seen.append(name)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Reporter, "stage", tell)
    begun = time.monotonic()
    outcome = run(*argv, spec=noisy)
    assert time.monotonic() - begun < 5
    assert seen, "the run has that stage"
    assert outcome.code == 143, outcome.err
    assert outcome.err.count("error[stopped]") == 1
    assert outcome.result["status"] == json.loads((made / "result.json").read_text())["status"] == "stopped"
    monkeypatch.undo()
    left = {path for path in made.rglob("*") if path.is_file() and path not in before} - {made / "result.json"}
    if (stage, status) == ("commit", "finished"):
        assert left, "what was committed before the stop stays"
    else:
        assert not left
        assert not list(made.rglob(".mealkit*"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "recipes" / "noisy"))
    again = run(*argv, *(["--overwrite"] if mode == "train" else []), spec=noisy)
    assert again.code == 0, again.err
    assert not list(made.rglob(".mealkit*"))


def test_a_stop_with_many_staged_files(start: Any, tmp_path: Path) -> None:
    rows = write(pd.DataFrame({"name": list("abcdefgh"), "x": range(8), "y": range(8)}), tmp_path / "rows.csv")
    process = start(
        "train", "--input", rows, "--model", tmp_path / "m", *JSON, "--set", "train=many", recipe="noisy"
    )  # fmt: skip
    for line in process.stderr:
        if "saved many" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    seconds, err = end(process)
    assert process.returncode == 143, err
    assert seconds < 5.5
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".mealkit*"))
