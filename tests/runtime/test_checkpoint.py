"""Checkpoints: an interrupted training goes on, and gives the model that it would have given."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from churn_runs import Outcome, Runner, write
from step_runs import JSON, STEPS, artifact, begun, facts, make_cases, wait_for

from mealkit.history import History
from mealkit_runtime.checkpoint import KEPT, CheckpointFolder

Train = Callable[..., Outcome]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make_cases(), tmp_path_factory.mktemp("cases") / "cases.csv")


@pytest.fixture
def train(run: Runner, cases: Path, tmp_path: Path) -> Train:
    """Train the recipe ``steps`` into the folder ``name``."""

    def trainer(name: str, *more: object, data: Path = cases, **options: Any) -> Outcome:
        return run("train", "--input", data, "--model", tmp_path / name, *JSON, *more, spec=STEPS, **options)

    return trainer


@pytest.mark.parametrize("kind", ["sgd", "boost", "forest", "pipeline"])
def test_a_resumed_training_gives_the_same_model(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    given = ("--set", f"kind={kind}", "--set", "patience=50", "--seed", 3)
    whole = train("whole", *given)
    assert whole.code == 0, whole.err
    saved = ("--checkpoint-dir", tmp_path / "state", "--resume", *given)
    for bump in (3, 2):  # it fails twice: at step 3, then at the second step of those that are left
        monkeypatch.setenv("STEPS_FAIL_AFTER", str(bump))
        broken = train("resumed", *saved)
        assert (broken.code, broken.error["code"]) == (5, "recipe"), broken.err
        assert not (tmp_path / "resumed").exists()
    monkeypatch.delenv("STEPS_FAIL_AFTER")
    resumed = train("resumed", *saved)
    assert resumed.code == 0, resumed.err
    assert artifact(tmp_path / "resumed") == artifact(tmp_path / "whole")
    first, second = facts(tmp_path / "whole"), facts(tmp_path / "resumed")
    assert second["history"] == first["history"]
    assert len(first["history"]["validation_log_loss"]) == 6
    assert second["training"]["early_stopping"] == first["training"]["early_stopping"]
    assert second["metrics"] == first["metrics"]
    assert second["training"]["resumed"]["step"] == 3
    assert first["training"]["resumed"] is None
    assert not resumed.result["warnings"]


def test_checkpoints_tell_what_they_are_and_only_the_last_stay(train: Train, tmp_path: Path) -> None:
    state = tmp_path / "state"
    outcome = train("m", "--checkpoint-dir", state, "--run-id", "r", "--set", "token=canary", "--set", "steps=5")
    assert outcome.code == 0, outcome.err
    assert outcome.result["training"]["checkpoints"] == 5
    names = sorted(path.name for path in state.iterdir())
    assert names == ["checkpoint-000003", "checkpoint-000004", "checkpoint-000005"][-KEPT:]
    told = json.loads((state / names[-1] / "checkpoint.json").read_text())
    assert (told["step"], told["run_id"]) == (5, "r")
    identity = told["identity"]
    assert identity["hyperparameters"]["steps"] == 5
    assert identity["data"]["input"].startswith("sha256:")
    assert identity["recipe"]["spec_digest"] == STEPS.digest
    assert identity["seed"] == 0
    assert set(told["files"]) == {"random.json", "state/model.skops"}
    assert "canary" not in "".join(path.read_text(errors="replace") for path in state.rglob("*") if path.is_file())


@pytest.fixture
def broken(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The checkpoints of a training that failed at step 5."""
    monkeypatch.setenv("STEPS_FAIL_AFTER", "5")
    assert train("m", "--checkpoint-dir", tmp_path / "state").code == 5
    monkeypatch.delenv("STEPS_FAIL_AFTER")
    return tmp_path / "state"


def damage(state: Path, number: int, how: str) -> None:
    place = state / f"checkpoint-{number:06d}"
    model = place / "state" / "model.skops"
    if how == "changed":
        model.write_bytes(model.read_bytes()[:-1] + b"?")
    elif how == "short":
        model.write_bytes(b"")
    elif how == "missing":
        model.unlink()
    elif how == "added":
        (place / "state" / "more").write_text("x")
    elif how == "linked":
        model.rename(place.parent / "elsewhere")
        model.symlink_to(place.parent / "elsewhere")
    elif how == "no record":
        (place / "checkpoint.json").unlink()
    elif how == "half a record":
        text = (place / "checkpoint.json").read_text()
        (place / "checkpoint.json").write_text(text[: len(text) // 2])
    elif how == "another record":
        (place / "checkpoint.json").write_text("[]")
    elif how == "another format":
        text = (place / "checkpoint.json").read_text()
        (place / "checkpoint.json").write_text(text.replace('"format": 1', '"format": 2'))


HOW = (
    "changed", "short", "missing", "added", "linked", "no record", "half a record", "another record", "another format",
)  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_checkpoint_is_passed_over(train: Train, tmp_path: Path, broken: Path, how: str) -> None:
    damage(broken, 4, how)
    outcome = train("m", "--checkpoint-dir", broken, "--resume")
    assert outcome.code == 0, outcome.err
    assert facts(tmp_path / "m")["training"]["resumed"]["step"] == 3
    (warning,) = outcome.result["warnings"]
    assert warning.startswith("the checkpoint checkpoint-000004 is passed over")


def test_where_all_are_damaged_or_none_is_there_training_begins_anew(
    train: Train, tmp_path: Path, broken: Path
) -> None:
    for number in (2, 3, 4):
        damage(broken, number, "changed")
    (broken / ".mealkit-staging-left").mkdir()
    outcome = train("m", "--checkpoint-dir", broken, "--resume")
    assert outcome.code == 0, outcome.err
    assert len(outcome.result["warnings"]) == 3
    assert "begins anew" in outcome.out
    assert facts(tmp_path / "m")["training"]["resumed"] is None
    assert not (broken / ".mealkit-staging-left").exists()
    assert train("n").code == 0
    assert artifact(tmp_path / "n") == artifact(tmp_path / "m")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--set", "alpha=0.5"), "the hyperparameter alpha (0.001 then, 0.5 now)"),
        (("--seed", "9"), "the seed (0 then, 9 now)"),
        (("--validation", "OTHER"), "the content of the validation dataset (null then, sha256:"),
    ],
)
def test_checkpoints_of_another_training_are_refused(
    train: Train, tmp_path: Path, broken: Path, more: tuple[str, ...], told: str
) -> None:
    other = write(make_cases(60, seed=1), tmp_path / "other.csv")
    more = tuple(str(other) if item == "OTHER" else item for item in more)
    outcome = train("m", "--checkpoint-dir", broken, "--resume", *more)
    assert outcome.code == 2
    assert told in outcome.error["message"]
    assert "--resume" in outcome.error["hint"]
    assert not (tmp_path / "m").exists()


def test_checkpoints_of_other_data_or_another_image_are_refused(train: Train, tmp_path: Path, broken: Path) -> None:
    other = write(make_cases(seed=1), tmp_path / "cases.csv")
    outcome = train("m", "--checkpoint-dir", broken, "--resume", data=other)
    assert (outcome.code, "the content of the input dataset" in outcome.error["message"]) == (2, True)
    known = {"MEALKIT_IMAGE": "host/repo@sha256:1"}
    assert train("m", "--checkpoint-dir", broken, "--resume", environment=known).code == 0
    again = train("n", "--checkpoint-dir", broken, "--resume", environment={"MEALKIT_IMAGE": "host/repo@sha256:2"})
    assert (again.code, "the image (host/repo@sha256:1 then" in again.error["message"]) == (2, True)


def test_without_resume_training_begins_anew_and_says_so(train: Train, tmp_path: Path, broken: Path) -> None:
    outcome = train("m", "--checkpoint-dir", broken)
    assert outcome.code == 0, outcome.err
    assert "give --resume" in outcome.out
    assert facts(tmp_path / "m")["training"]["resumed"] is None
    assert sorted(path.name for path in broken.iterdir())[-1] == "checkpoint-000010"


def test_resume_needs_a_folder_and_a_recipe_that_can(train: Train, tmp_path: Path) -> None:
    outcome = train("m", "--resume")
    assert (outcome.code, outcome.error["hint"]) == (2, "add --checkpoint-dir DIR")
    outcome = train("m", "--resume", "--checkpoint-dir", tmp_path / "state", "--set", "kind=plain")
    assert outcome.code == 0, outcome.err
    assert "saves no checkpoints" in outcome.result["warnings"][0]


def test_early_stopping_ends_the_training_and_is_recorded(train: Train, tmp_path: Path) -> None:
    outcome = train("m", "--set", "steps=200", "--set", "patience=2")
    assert outcome.code == 0, outcome.err
    (told,) = outcome.result["training"]["early_stopping"]
    points = facts(tmp_path / "m")["history"]["validation_log_loss"]
    assert told["stopped"] is True
    assert len(points) == told["step"] == told["best_step"] + 2 < 200
    assert told["best"] == min(value for _, value in points)


class Fake:
    """As much of a run as a checkpoint folder needs."""

    def __init__(self) -> None:
        from types import SimpleNamespace

        from mealkit_runtime.stop import Stopper

        self.stopper = Stopper()
        self.config = SimpleNamespace(run_id="r")
        self.clock = lambda: 0.0
        self.warnings: list[str] = []
        self.reporter = SimpleNamespace(log=lambda level, message: None)

    def warn(self, message: str, hint: str | None = None) -> None:
        self.warnings.append(message)


def folder_of(tmp_path: Path) -> CheckpointFolder:
    run: Any = Fake()
    identity = {"seed": 0, "hyperparameters": {}}
    return CheckpointFolder(run, tmp_path / "state", identity, History())


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mealkit.errors import MealkitError, ModelError, RecipeError, StorageError

    folder = folder_of(tmp_path)
    folder.begin(resume=False)
    folder.save(1, lambda place: (place / "a").write_text("sound"))

    def full(place: Path) -> None:
        (place / "a").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_in_a_library(place: Path) -> None:
        try:
            full(place)
        except OSError as error:
            raise ModelError("cannot be written") from error

    def none(place: Path) -> None:
        pass

    def linked(place: Path) -> None:
        (place / "a").symlink_to("/etc/passwd")

    expected: list[tuple[Any, type[MealkitError]]] = [
        (full, StorageError), (full_in_a_library, StorageError), (none, RecipeError), (linked, RecipeError),
    ]  # fmt: skip
    for write_it, kind in expected:
        with pytest.raises(kind):
            folder.save(2, write_it)
    monkeypatch.setattr("mealkit_runtime.checkpoint.sync_tree", full)
    with pytest.raises(StorageError):
        folder.save(2, lambda place: (place / "a").write_text("never forced to the disk"))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["checkpoint-000001"]
    again = folder_of(tmp_path)
    again.begin(resume=True)
    found = again.latest()
    assert found is not None
    assert (found.step, (found.folder / "a").read_text()) == (1, "sound")


def test_the_global_generators_go_on_too(tmp_path: Path) -> None:
    import random

    import numpy as np

    folder = folder_of(tmp_path)
    folder.begin(resume=False)
    folder.save(1, lambda place: (place / "a").write_text("x"))
    then = random.random(), float(np.random.rand()), float(np.random.normal())
    again = folder_of(tmp_path)
    again.begin(resume=True)
    again.latest()
    assert (random.random(), float(np.random.rand()), float(np.random.normal())) == then


def test_sigterm_leaves_a_checkpoint_and_no_model(cases: Path, tmp_path: Path, train: Train) -> None:
    argv = ("train", "--input", cases, "--model", tmp_path / "m", "--checkpoint-dir", tmp_path / "state", "--resume")
    with begun(tmp_path, *argv, "--set", "steps=40", STEPS_NAP="0.3") as process:
        wait_for(process, '"step": 3')
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".mealkit*"))
    last = sorted((tmp_path / "state").glob("checkpoint-*"))[-1]
    assert json.loads((last / "checkpoint.json").read_text())["step"] >= 3
    outcome = train("m", "--checkpoint-dir", tmp_path / "state", "--resume", "--set", "steps=40")
    assert outcome.code == 0, outcome.err
    assert outcome.result["training"]["resumed"]["step"] >= 3
    shutil.rmtree(tmp_path / "state")
    assert train("n", "--set", "steps=40").code == 0
    assert artifact(tmp_path / "n") == artifact(tmp_path / "m")
