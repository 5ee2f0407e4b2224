"""What is killed: one scene for each mode and kind of output, with what readers look at and what may be left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from churn_runs import RECIPES, make_events, spec_of, write
from kills.launcher import Ended, Launcher, Order
from step_runs import make_cases
from storage import KEYS

Eye = tuple[str, ...]
"""A function of :mod:`kills.reader`, and what it is given; ``PLACE`` in it stands for the place."""

Argv = tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """Commands, of which the last is killed; afterwards all of them are run again.

    Attributes:
        name: For the table.
        recipe: Whose runs these are.
        runs: The commands; ``PLACE`` stands for the place that they write to, ``PANTRY`` for what they read.
        eyes: What readers look at: after a kill each sees what was there before, or all of the new.
        sound: What readers look at that grows while a run goes on: whenever it is looked at, it is whole.
        before: Prepares an empty place.
        dataset: What only ``mealkit batches DATASET clean`` tidies up: object storage and Delta tables.
        children: How many processes the run starts.
        needs: The models that it reads.
    """

    name: str
    recipe: str
    runs: tuple[Argv, ...]
    eyes: Mapping[str, Eye]
    sound: Mapping[str, Eye] = field(default_factory=dict)
    before: Callable[[Path, Path], None] = lambda place, pantry: None
    dataset: str | None = None
    children: int = 0
    needs: tuple[str, ...] = ()


TRAIN = ("train", "--input", "PANTRY/rows.parquet", "--model", "PLACE/made/m", "--run-id", "r",
         "--result", "PLACE/made/result.json")  # fmt: skip
STEPS = ("train", "--input", "PANTRY/cases.csv", "--model", "PLACE/made/m", "--run-id", "r", "--set", "steps=3",
         "--checkpoint-dir", "PLACE/state", "--resume")  # fmt: skip

CHURN = ("churn",)

MODEL: Eye = ("model", "PLACE/made/m", "noisy")
RESULT: Eye = ("result", "PLACE/made/result.json")


def _earlier(place: Path, pantry: Path) -> None:
    shutil.copytree(pantry / "earlier", place / "made" / "m", dirs_exist_ok=True)


def _mounted(place: Path, pantry: Path) -> None:
    """The model directory is a mount point, as it is in a container."""
    (place / "made" / "m").mkdir(parents=True)
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place / "made" / "m")], check=True, timeout=10)


def _mounted_earlier(place: Path, pantry: Path) -> None:
    _mounted(place, pantry)
    _earlier(place, pantry)


def _judged(place: Path, pantry: Path) -> None:
    """An earlier evaluation's result and report are there already."""
    (place / "made").mkdir(parents=True)
    for name in ("result.json", "report.html"):
        shutil.copy(pantry / name, place / "made" / name)


def _score(output: str, *more: str, rows: str = "new") -> Argv:
    return ("score", "--input", f"PANTRY/{rows}.parquet", "--input", "plans=PANTRY/plans.csv", "--model",
            "PANTRY/churn", "--run-id", "r", "--batch-rows", "200", "--output", output, *more)  # fmt: skip


def _batch(output: str) -> dict[str, Eye]:
    return {"batch": ("dataset", output)}


def scenes(endpoint: str | None) -> list[Scene]:
    """All scenes; those of object storage need the endpoint of a server."""
    folder, table = "PLACE/made/s", "delta:PLACE/made/s"
    found = [
        Scene("train, a new model", "noisy", (TRAIN,), {"model": MODEL, "result": RESULT}),
        Scene("train, a mount point", "noisy", (TRAIN,), {"model": MODEL, "result": RESULT}, before=_mounted),
        Scene(
            "train --overwrite", "noisy", ((*TRAIN, "--overwrite"),), {"model": MODEL, "result": RESULT},
            before=_earlier, needs=("earlier",),
        ),
        Scene(
            "train --overwrite, a mount point", "noisy", ((*TRAIN, "--overwrite"),),
            {"model": MODEL, "result": RESULT}, before=_mounted_earlier,
            needs=("earlier",),
        ),
        Scene(
            "train --checkpoint-dir --resume", "steps", (STEPS,), {"model": ("model", "PLACE/made/m", "steps")},
            {"checkpoints": ("checkpoints", "PLACE/state")},
        ),
        Scene(
            "train --trials, a journal", "steps", ((*STEPS, "--trials", "3", "--outputs", "PLACE/out"),),
            {"model": ("model", "PLACE/made/m", "steps")},
            {"trials": ("trials", "PLACE/out/trials.jsonl"), "journal": ("journal", "PLACE/state/trials.journal")},
        ),
        Scene(
            "train --trials --trial-workers 2", "steps",
            ((*STEPS, "--set", "steps=1", "--trials", "2", "--trial-workers", "2", "--outputs", "PLACE/out"),),
            {"model": ("made", "PLACE/made/m", "steps")}, {"trials": ("trials", "PLACE/out/trials.jsonl")},
            children=2,
        ),
        Scene(
            "evaluate --result --report", "steps",
            (("evaluate", "--input", "PANTRY/cases.csv", "--model", "PANTRY/steps", "--run-id", "r", "--bootstrap",
              "20", "--result", "PLACE/made/result.json", "--report", "PLACE/made/report.html"),),
            {"result": RESULT, "report": ("text", "PLACE/made/report.html", "</html>")}, before=_judged,
            needs=("steps", "report"),
        ),
        Scene("score, a folder", "churn", (_score(folder),), _batch(folder), needs=CHURN),
        Scene("score, a Delta table", "churn", (_score(table),), _batch(table), dataset=table, needs=CHURN),
        Scene(
            "score --workers 2", "churn", (_score(folder, "--workers", "2"),), _batch(folder), children=3, needs=CHURN
        ),
        Scene(
            "score --shard, a folder", "churn", (_score(folder, "--shard", "0/2"), _score(folder, "--shard", "1/2")),
            _batch(folder), needs=CHURN,
        ),
        Scene(
            "score --shard, a Delta table", "churn",
            (_score(table, "--shard", "0/2"), _score(table, "--shard", "1/2")), _batch(table), dataset=table,
        ),
        Scene(
            "score --on-bad-rows quarantine", "churn",
            (_score(folder, "--on-bad-rows", "quarantine", "--quarantine", "PLACE/made/bad", rows="odd"),),
            {**_batch(folder), "bad rows": ("bad_rows", "PLACE/made/bad")}, needs=CHURN,
        ),
        Scene(
            "score --group", "churn", (_score(folder, "--group", "engine", rows="mixed"),), _batch(folder), needs=CHURN,
        ),
    ]  # fmt: skip
    if endpoint is not None:
        for name, output in (("S3", "s3://shop/plain"), ("a Delta table in S3", "delta:s3://shop/table")):
            found.append(
                Scene(f"score, {name}", "churn", (_score(output),), _batch(output), dataset=output, needs=CHURN)
            )
    return found


MADE: dict[str, tuple[str, Argv]] = {
    "earlier": ("noisy", ("train", "--input", "PANTRY/rows.parquet", "--model", "PANTRY/earlier", "--limit", "100",
                          "--run-id", "earlier")),
    "steps": ("steps", ("train", "--input", "PANTRY/cases.csv", "--model", "PANTRY/steps", "--set", "steps=5")),
    "churn": ("churn", ("train", "--input", "PANTRY/events.csv", "--input", "plans=PANTRY/plans.csv", "--model",
                        "PANTRY/churn")),
    "report": ("steps", ("evaluate", "--input", "PANTRY/cases.csv", "--model", "PANTRY/steps", "--bootstrap", "0",
                         "--limit", "200", "--result", "PANTRY/result.json", "--report", "PANTRY/report.html")),
}  # fmt: skip
"""What the pantry makes when it is needed: by which recipe, and how."""


class Pantry:
    """What the scenes read: data and models, made once.

    Args:
        folder: Of its own.
        launcher: Trains the models.
        endpoint: Of a server that speaks S3.
    """

    def __init__(self, folder: Path, launcher: Launcher, endpoint: str | None = None) -> None:
        self.folder = folder
        self.endpoint = endpoint
        folder.mkdir(parents=True)
        count = 3_000
        rows = {"name": [f"n{number * 7919 % count}" for number in range(count)], "x": 1.5, "y": range(count)}
        write(pd.DataFrame(rows), folder / "rows.parquet")
        write(make_cases(), folder / "cases.csv")
        write(make_events(), folder / "events.csv")
        new = make_events(150, seed=1).drop(columns="left").sort_values("customer", kind="stable")
        new.to_parquet(folder / "new.parquet", index=False, row_group_size=100)
        write(new.sample(frac=1, random_state=0), folder / "mixed.parquet")
        write(new.assign(amount=new["amount"].mask(new["items"] == 3, -1.0)), folder / "odd.parquet")
        write(pd.DataFrame({"plan": ["basic", "gold"], "price": [10, 25.5]}), folder / "plans.csv")
        for name in ("noisy", "steps", "churn"):
            (folder / f"{name}.json").write_text(spec_of(name).to_json())
        self.launcher = launcher
        self._made: set[str] = set()

    def need(self, names: tuple[str, ...]) -> None:
        """Have these models made, if they are not."""
        for name in names:
            if name not in self._made:
                recipe, argv = MADE[name]
                ended = self.launcher.run(self.order(argv, recipe, self.folder))
                assert ended.code == 0, ended.err
                self._made.add(name)

    def order(self, argv: Argv, recipe: str, place: Path) -> Order:
        """A run of a recipe that writes to a place."""
        filled = tuple(self.fill(item, place) for item in argv)
        return Order(filled, place, self.environment(place, recipe), (str(RECIPES / recipe),))

    def environment(self, place: Path, recipe: str = "churn") -> dict[str, str]:
        """All of a run's environment: no home, so that one is made for it, and temporary files in the place."""
        found = {
            "PATH": os.environ["PATH"], "LOGNAME": "tester", "TMPDIR": str(place / "tmp"), "MPLBACKEND": "svg",
            "MEALKIT_RECIPE": str(self.folder / f"{recipe}.json"), "MEALKIT_LOG_FORMAT": "json",
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        if self.endpoint is not None:
            found |= {**KEYS, "AWS_ENDPOINT_URL": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true",
                      "AWS_ALLOW_HTTP": "true"}  # fmt: skip
        return found

    def fill(self, text: str, place: Path) -> str:
        """A text with the real folders."""
        return text.replace("PLACE", str(place)).replace("PANTRY", str(self.folder))


class Stage:
    """A scene at a place, which is made anew for every kill under the same name.

    Args:
        scene: What is played.
        pantry: What it reads.
        launcher: Starts the runs.
        place: The folder, which is there for this alone.
    """

    def __init__(self, scene: Scene, pantry: Pantry, launcher: Launcher, place: Path) -> None:
        self.scene, self.pantry, self.launcher, self.place = scene, pantry, launcher, place
        pantry.need(scene.needs)
        self.orders = [pantry.order(argv, scene.recipe, place) for argv in scene.runs]

    @property
    def is_far(self) -> bool:
        """Whether the scene plays in object storage."""
        return self.scene.dataset is not None and "://" in self.scene.dataset

    @property
    def killed(self) -> Order:
        """The run that is killed."""
        return self.orders[-1]

    def reset(self) -> None:
        """An empty place, as the scene begins."""
        self.leave()
        (self.place / "tmp").mkdir(parents=True)
        self.scene.before(self.place, self.pantry.folder)
        if self.is_far:
            self.launcher.look(self.pantry.environment(self.pantry.folder), "empty", self.scene.dataset)
        for order in self.orders[:-1]:
            self.succeed(order)

    def leave(self) -> None:
        """Nothing is left of the place."""
        mounted = self.place / "made" / "m"
        if mounted.is_mount():
            subprocess.run(["umount", str(mounted)], check=True, timeout=10)
        shutil.rmtree(self.place, ignore_errors=True)

    def succeed(self, order: Order) -> Ended:
        """A run that must end well."""
        ended = self.launcher.run(order)
        assert ended.code == 0, f"{' '.join(order.argv)} ended with {ended.code}: {ended.err}{ended.out[-2000:]}"
        return ended

    def again(self) -> None:
        """All commands once more, the killed one first."""
        for order in reversed(self.orders):
            self.succeed(order)

    def seen(self) -> dict[str, Any]:
        """What readers see; what grows is only looked at."""
        import json

        eyes = {**self.scene.eyes, **self.scene.sound}
        filled = [[self.pantry.fill(item, self.place) for item in eye] for eye in eyes.values()]
        answers = self.launcher.look(self.pantry.environment(self.pantry.folder), "see", json.dumps(filled))
        return {name: answer for name, answer in zip(eyes, answers, strict=True) if name in self.scene.eyes}

    def clean(self) -> int:
        """What ``mealkit batches DATASET clean`` removes where the next run cannot."""
        if self.scene.dataset is None:
            return 0
        dataset = self.pantry.fill(self.scene.dataset, self.place)
        return int(self.launcher.look(self.pantry.environment(self.pantry.folder), "clean", dataset))

    def tree(self) -> list[str]:
        """All files and empty folders, wherever they are, without what is random in their names."""
        found = [
            str(path.relative_to(self.place))
            for path in self.place.rglob("*")
            if not path.is_dir() or not any(path.iterdir())
        ]
        if self.is_far:
            found += self.launcher.look(self.pantry.environment(self.pantry.folder), "names", self.scene.dataset)
        return sorted(re.sub(r"-[0-9a-f]{8}(?=\.(parquet|json)$)|(?<=checkpoint-)\d{6}", "-*", name) for name in found)
