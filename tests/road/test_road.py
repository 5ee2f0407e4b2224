"""The whole road: from source files to an image in a registry, then train, evaluate and score, in a container and here.

The same code on the same data gives the same bits on both sides.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from docker.errors import ImageNotFound
from pods import Ended, run_pod
from services import RunningRegistry, missing
from testcontainers.core.container import DockerContainer

from mealkit_builder.remote import open_image

REPOSITORY = Path(__file__).parents[2]
MEALKIT = str(Path(sys.executable).with_name("mealkit"))
GOLDEN = Path(__file__).with_name("golden.json")
RETAIL_DATA = REPOSITORY.parent / "shared" / "data" / "retail" / "retail.csv"

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.slow]


@dataclass(frozen=True)
class Road:
    """A recipe that was built and pushed, and its data."""

    name: str
    project: Path
    url: str
    record: dict[str, Any]
    training: Path
    scoring: Path
    environment: dict[str, str]

    def mealkit(self, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [MEALKIT, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done


def _sample(folder: Path) -> tuple[Path, Path, Path]:
    training, scoring = folder / "training.csv", folder / "scoring.csv"
    for path, seed in ((training, 7), (scoring, 8)):
        command = [sys.executable, "-m", "propensity.simulate", "--visitors", "800", "--seed", str(seed)]
        subprocess.run([*command, "--output", str(path)], cwd=REPOSITORY / "sample_recipe", check=True, timeout=60)
    return REPOSITORY / "sample_recipe", training, scoring


def _retail(folder: Path) -> tuple[Path, Path, Path]:
    if not RETAIL_DATA.is_file():
        pytest.skip(f"no retail sales in {RETAIL_DATA.parent}")
    training = folder / "retail.csv"
    # Batches are read in order, and the weeks of a store belong together.
    pd.read_csv(RETAIL_DATA, dtype=str).sort_values("store", kind="stable").to_csv(training, index=False)
    return REPOSITORY / "tests" / "retail" / "recipe", training, training


@pytest.fixture(scope="module", params=["sample", "retail"])
def road(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, registry: RunningRegistry, engine: Any
) -> Iterator[Road]:
    folder = tmp_path_factory.mktemp(request.param)
    source, training, scoring = {"sample": _sample, "retail": _retail}[request.param](folder)
    project = folder / "project"
    shutil.copytree(source, project, ignore=shutil.ignore_patterns(".mealkit", "pylock.toml", "__pycache__"))
    environment = {
        **os.environ,
        "MEALKIT_CACHE": str(tmp_path_factory.getbasetemp() / "road-cache"),
        # The image's packages are those of this environment: a comparison of bits needs the same arithmetic.
        "UV_CONSTRAINT": str(REPOSITORY / ".ci" / "requirements.txt"),
    }
    command = [MEALKIT, "build", "--project", str(project), "--to", f"{registry.host}/road/{request.param}", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    yield Road(request.param, project, record["url"], record, training, scoring, environment)
    with contextlib.suppress(ImageNotFound):  # a test that ran nothing pulled nothing
        engine.images.remove(record["url"], force=True)


@pytest.fixture(scope="module")
def results(road: Road, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train, evaluate and score on both sides; gives the two folders of results."""
    folders = {}
    for side in ("here", "container"):
        folder = folders[side] = tmp_path_factory.mktemp(f"{road.name}-{side}")
        prefix: tuple[object, ...] = ("run", "--runner", "container", road.url) if side == "container" else ()
        suffix: tuple[object, ...] = () if side == "container" else ("--project", road.project)
        model = ("--model", folder / "model")
        for mode, options in {
            "train": ("--input", road.training, *model, "--seed", "3"),
            "evaluate": ("--input", road.scoring, *model),
            "score": ("--input", road.scoring, *model, "--output", folder / "scores", "--run-id", "road"),
        }.items():
            road.mealkit(*prefix, mode, *options, "--result", folder / f"{mode}.json", *suffix)
    return folders


def test_the_samples_layers_are_golden(road: Road) -> None:
    """Wheels of the pinned versions give the same layers for ever; what was compiled does for one interpreter.

    New pins (``./task pins``) bring new layers: write them with ``MEALKIT_WRITE_GOLDEN=1``, and look at the difference,
    in which no layer of an unchanged wheel may stand.
    """
    if road.name != "sample":
        return
    with open_image(road.url, road.environment) as found:
        layers = {
            layer.title: {"digest": layer.digest, "diff_id": layer.diff_id, "kind": layer.kind}
            for layer in found.pulled.image.layers
            if layer.kind in ("wheel", "wheels", "bytecode")
        }
    made = {"python": platform.python_version(), "machine": platform.machine(), "layers": layers}
    if os.environ.get("MEALKIT_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    golden = json.loads(GOLDEN.read_text())
    if golden["machine"] != made["machine"] or not made["python"].startswith(golden["python"].rpartition(".")[0]):
        pytest.skip("the golden digests are those of another kind of machine, or of another minor version of Python")
    if golden["python"] != made["python"]:  # another compiler, the same wheels
        for one in (golden, made):
            one["layers"] = {title: layer for title, layer in one["layers"].items() if layer["kind"] != "bytecode"}
    assert made["layers"] == golden["layers"]


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_metrics_are_the_same_bits(results: dict[str, Path], mode: str) -> None:
    here, container = (json.loads((results[side] / f"{mode}.json").read_text()) for side in ("here", "container"))
    assert here["metrics"] == container["metrics"]
    assert here["metrics"]
    assert {**here["versions"]} == {**container["versions"]}


def test_scores_are_the_same_bits(results: dict[str, Path]) -> None:
    here, container = (pd.read_parquet(results[side] / "scores") for side in ("here", "container"))
    assert len(here) > 100
    pd.testing.assert_frame_equal(here, container, check_exact=True)


def test_every_row_that_can_be_scored_is(road: Road, results: dict[str, Path]) -> None:
    scores = pd.read_parquet(results["container"] / "scores")
    if road.name == "retail":
        # The last week is scored, though nobody knows the sales of the week after it.
        assert pd.to_datetime(scores["date"], format="%m/%d/%y").max() == pd.Timestamp(2012, 10, 26)
    else:
        assert set(scores["visitor_id"]) <= set(pd.read_csv(road.scoring)["visitor_id"])
        assert scores["probability"].between(0, 1).all()


def test_scoring_again_adds_nothing(road: Road, results: dict[str, Path]) -> None:
    folder = results["container"]
    before = sorted(path.name for path in (folder / "scores").rglob("*"))
    model, output = ("--model", folder / "model"), ("--output", folder / "scores")
    road.mealkit("run", road.url, "score", "--input", road.scoring, *model, *output, "--run-id", "road")
    assert sorted(path.name for path in (folder / "scores").rglob("*")) == before


def test_an_indexed_job_adds_one_batch(road: Road, results: dict[str, Path], engine: Any, tmp_path: Path) -> None:
    """What the manifest says, done for each index at once: read-only root, no capabilities, any user."""
    if road.name != "sample":
        return
    volume, models = tmp_path / "volume", tmp_path / "models"
    volume.mkdir()
    shutil.copytree(results["here"] / "model", models / "churn")
    # As Kubernetes gives a volume to the group of the pod.
    for path in (volume, models, *models.rglob("*")):
        path.chmod(0o777)
    visits = pa.csv.read_csv(road.scoring).sort_by("visitor_id")
    pa.parquet.write_table(visits, volume / "visits.parquet", row_group_size=visits.num_rows // 9)
    printed = road.mealkit(
        "run", "--kubernetes", "--dry-run", "--volume", "shop:/data", "--volume", "models:/models:ro", "--user",
        "12345:12345", "--memory", "1g", road.url, "score", "--input", "/data/visits.parquet", "--model",
        "/models/churn", "--output", "/data/scores", "--shard", "auto/3",
    )  # fmt: skip
    job = yaml.safe_load(printed.stdout)
    name = job["metadata"]["name"]
    assert f"run id {name}" in printed.stderr

    def run(index: int) -> Ended:
        return run_pod(engine, job, index, {"shop": volume, "models": models}, tmp_path)

    with ThreadPoolExecutor(3) as pool:
        pods = list(pool.map(run, range(job["spec"]["completions"])))
    assert [pod.status for pod in pods] == [0, 0, 0], [pod.output for pod in pods]
    assert {pod.told["run_id"] for pod in pods} == {name}
    told = [pod.told["batch"] for pod in pods]
    assert [one["waiting"] for one in told].count(0) >= 1
    scores = pd.read_parquet(volume / "scores")
    alone = pd.read_parquet(results["here"] / "scores")
    assert set(scores["batch_id"]) == {name}
    order = ["visitor_id", "session_id"]
    pd.testing.assert_frame_equal(
        scores[alone.columns].drop(columns="batch_id").sort_values(order, ignore_index=True),
        alone.drop(columns="batch_id").sort_values(order, ignore_index=True),
    )
    again = run(1)  # a pod of the Job that is tried again, though its shard was done
    assert again.status == 0, again.output
    assert again.told["batch"]["existed"]
    assert len(pd.read_parquet(volume / "scores")) == len(scores)
    assert [path.name for path in (volume / "scores").iterdir() if path.name.startswith("batch_id")] == [
        f"batch_id={name}"
    ]


def test_what_the_image_says_of_itself(road: Road) -> None:
    told = json.loads(road.mealkit("inspect", road.url, "--json").stdout)
    here = json.loads(road.mealkit("describe", "--json", "--project", road.project).stdout)
    assert told["recipe"] == here


@pytest.mark.parametrize("user", ["0:0", "12345:12345", "65532:65532"])
def test_it_runs_closed_off_as_any_user(road: Road, user: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    data = tmp_path / "data.csv"
    shutil.copyfile(road.training, data)
    tmp_path.chmod(0o755)
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    container = (
        DockerContainer(road.url)
        .with_command(["train", "--input", "/data.csv", "--model", "/out/model", "--result", "/out/result.json"])
        .with_volume_mapping(str(data), "/data.csv", "ro")
        .with_volume_mapping(str(tmp_path / "out"), "/out", "rw")
        .with_tmpfs_mount("/tmp")
        .with_kwargs(user=user, network_mode="none", read_only=True, cap_drop=["ALL"])
    )
    with container:
        wrapped = container.get_wrapped_container()
        status = wrapped.wait(timeout=120)["StatusCode"]
        output = wrapped.logs().decode()
    assert status == 0, output
    assert "Traceback" not in output
    assert "Warning" not in output
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["status"] == "succeeded"
    assert (tmp_path / "out" / "model" / "model.json").stat().st_uid == int(user.split(":")[0])


def test_others_read_what_was_pushed(road: Road, tmp_path: Path) -> None:
    for program in ("skopeo", "umoci"):
        reason = missing(program)
        if reason:
            pytest.skip(reason)
    ask = ["skopeo", "inspect", "--tls-verify=false", f"docker://{road.url}"]
    seen = json.loads(subprocess.run(ask, capture_output=True, check=True, timeout=60).stdout)
    assert seen["Digest"] == road.record["url"].partition("@")[2]
    layout = tmp_path / "layout"
    copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{road.url}", f"oci:{layout}:it"]
    subprocess.run(copy, capture_output=True, check=True, timeout=120)
    index = json.loads((layout / "index.json").read_text())
    assert index["manifests"][0]["digest"] == seen["Digest"]
    unpack = ["umoci", "unpack", "--rootless", "--image", f"{layout}:it", str(tmp_path / "bundle")]
    subprocess.run(unpack, capture_output=True, check=True, timeout=120)
    assert (tmp_path / "bundle/rootfs/opt/mealkit/recipe.json").is_file()


def test_a_second_build_is_the_same(road: Road, tmp_path: Path, registry: RunningRegistry) -> None:
    before = len(registry.requests())
    done = road.mealkit("build", "--project", road.project, "--to", f"{registry.host}/road/{road.name}", "--json")
    record = json.loads(done.stdout)
    assert record["url"] == road.url
    assert record["bytes_uploaded"] == 0
    assert not [line for line in registry.requests()[before:] if line.startswith(("POST", "PATCH"))]
