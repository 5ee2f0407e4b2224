"""Disks that are full, read-only or lost at any moment: told as such, nothing visible, and the same run again works."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from churn_runs import Outcome, Runner, spec_of, write
from injection import failing, killing

from mealkit.errors import ModelError
from mealkit_runtime.model import open_model

JSON = ("--log-format", "json")

Disk = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a file system of a given size, with room for so many files."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system that is small enough to fill")
    with contextlib.ExitStack() as mounted:

        def make(size: str, files: int = 10_000) -> Path:
            path = tmp_path / f"disk-{size}-{files}"
            path.mkdir()
            options = f"size={size},nr_inodes={files},mode=0755"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True, timeout=10)
            mounted.callback(subprocess.run, ["umount", str(path)], capture_output=True, timeout=10)
            return path

        yield make


def remount(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True, timeout=10)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    count = 3_000
    frame = pd.DataFrame(
        {"name": [f"n{number * 7919 % count}" for number in range(count)], "x": 1.5, "y": range(count)}
    )
    return write(frame, tmp_path / "rows.parquet")


@pytest.fixture
def noisy(run: Runner, rows: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Train into, or score into, a folder."""
    spec = spec_of("noisy")
    model = tmp_path / "model"
    assert run("train", "--input", rows, "--model", model, spec=spec).code == 0

    def runner(mode: str, folder: Path, *more: object, **options: Any) -> Outcome:
        where = ("--model", folder / "m") if mode == "train" else ("--model", model, "--output", folder / "s")
        return run(mode, "--input", rows, *where, "--run-id", "r", *JSON, *more, spec=spec, **options)

    return runner


def told(outcome: Outcome, what: str, where: Path) -> None:
    assert outcome.code == 8, outcome.err
    assert outcome.error["code"] == "storage"
    assert what in outcome.error["message"]
    assert str(where) in outcome.error["where"]
    assert outcome.error["hint"]
    assert "Traceback" not in outcome.err


def nothing_in(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("mode", ["train", "score"])
def test_a_disk_that_fills_at_any_moment(noisy: Callable[..., Outcome], disk: Disk, mode: str) -> None:
    """From no room for a folder to just too little for the last file."""
    path = disk("1m")
    failed = 0
    for free in (0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 48):
        with (path / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        size = (path / "ballast").stat().st_size
        os.truncate(path / "ballast", size - free * 1024)
        outcome = noisy(mode, path)
        if outcome.code == 0:
            break
        told(outcome, "the disk is full", path)
        nothing_in(path, "ballast")
        failed += 1
    assert failed >= 2, "the disk was too full at first"
    assert outcome.code == 0, "and had room enough at last"
    assert not list(path.rglob(".mealkit*"))


@pytest.mark.parametrize("mode", ["train", "score"])
def test_a_disk_with_room_for_few_files(noisy: Callable[..., Outcome], disk: Disk, mode: str) -> None:
    for files in (1, 2, 3, 4):  # the root of the file system is one
        path = disk("1m", files)
        outcome = noisy(mode, path)
        told(outcome, "the disk is full", path)
        nothing_in(path)


@pytest.mark.parametrize("mode", ["train", "score"])
def test_a_read_only_disk(noisy: Callable[..., Outcome], disk: Disk, mode: str) -> None:
    path = disk("1m")
    remount(path, "ro")
    outcome = noisy(mode, path)
    told(outcome, "read-only", path)
    nothing_in(path)
    remount(path, "rw")
    assert noisy(mode, path).code == 0


@pytest.mark.parametrize("mode", ["train", "score"])
def test_a_disk_that_is_lost_in_the_middle(
    noisy: Callable[..., Outcome], disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    path = disk("1m")
    monkeypatch.setenv("NOISY_DISK", str(path))
    lose = ("--set", "train=lose") if mode == "train" else ()
    environment: dict[str, str] = {}
    if mode == "score":
        file = tmp_path / "model" / "model.json"
        file.write_text(file.read_text().replace('"score": "well"', '"score": "lose"'))
    outcome = noisy(mode, path, *lose, environment=environment)
    assert outcome.code == 8, outcome.err
    assert outcome.error["code"] == "storage"
    assert str(path) in outcome.error["where"]
    assert "Traceback" not in outcome.err
    nothing_in(path)


@pytest.mark.parametrize("size", ["0", "4k"])
def test_a_result_that_cannot_be_written(noisy: Callable[..., Outcome], disk: Disk, tmp_path: Path, size: str) -> None:
    path = disk("4k" if size == "0" else "64k", 3 if size == "0" else 1)
    if size == "0":
        (path / "ballast").write_bytes(bytes(4096))
    outcome = noisy("train", tmp_path / "made", "--result", path / "r.json")
    told(outcome, "writing the result: the disk is full", path)
    assert outcome.result["status"] == "failed"
    assert outcome.result["model"]["digest"], "the model is there all the same, and is told"
    assert not (path / "r.json").exists()
    assert not list(path.glob(".*"))


@pytest.mark.parametrize(("mode", "call"), [(m, c) for m in ("train", "score") for c in ("fsync", "rename")])
def test_a_disk_that_fails(
    start: Callable[..., Any], noisy: Callable[..., Outcome], rows: Path, tmp_path: Path, mode: str, call: str
) -> None:
    """As a lost network disk or a broken one does: at the commit, when all seemed well."""
    made = tmp_path / "made"
    made.mkdir()
    where = ("--model", made / "m") if mode == "train" else ("--model", tmp_path / "model", "--output", made / "s")
    process = start(
        mode, "--input", rows, *where, "--run-id", "r", *JSON, recipe="noisy", prefix=failing(call, "EIO"),
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    told(Outcome(process.returncode, out, err), "the disk failed to read or write", made)
    nothing_in(made)
    assert noisy(mode, made).code == 0
    assert not list(made.rglob(".mealkit*"))


@pytest.mark.parametrize(("call", "number"), [("mkdir", 3), ("fsync", 1), ("fsync", 3), ("rename", 1), ("rename", 2)])
def test_a_training_that_is_killed(
    start: Callable[..., Any], noisy: Callable[..., Outcome], rows: Path, tmp_path: Path, call: str, number: int
) -> None:
    """A model is there whole or not at all, and the same run again removes what the dead one left."""
    made = tmp_path / "made"
    (made / "m").mkdir(parents=True)  # as a mount point would be: the model is moved in piece by piece
    process = start(
        "train", "--input", rows, "--model", made / "m", "--run-id", "r", *JSON, recipe="noisy",
        prefix=killing(call, number), environment={"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    process.communicate(timeout=120)
    assert process.returncode in (-9, 137), "the run came to that call"
    assert not (made / "m" / "model.json").exists()
    if (call, number) == ("rename", 2):  # the first one was the commit
        assert open_model(made / "m", "noisy").facts["run_id"] == "r"
    else:
        with pytest.raises(ModelError):
            open_model(made / "m", "noisy")
    assert noisy("train", made).code == 0
    assert open_model(made / "m", "noisy").facts["recipe"]["name"] == "noisy"
    nothing_in(made / "m", "artifact", "model.json")
