"""A run with Dask workers as its manifests say, in real containers: one worker is killed in the middle, same result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from pods import Ended, create_container, ended
from services import RunningRegistry

REPOSITORY = Path(__file__).parents[2]
MEALKIT = str(Path(sys.executable).with_name("mealkit"))
HEALTH = "import urllib.request as a; a.urlopen('http://127.0.0.1:8787/health', timeout=5)"

pytestmark = [pytest.mark.engine, pytest.mark.registry, pytest.mark.slow, pytest.mark.timeout(600)]


def mealkit(*arguments: object, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [MEALKIT, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(true: Callable[[], object], what: str, within: float = 120) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@dataclass
class Cluster:
    """A network of the engine, and the containers in it."""

    engine: Any
    network: str
    claims: dict[str, Path]
    folder: Path
    containers: list[str] = field(default_factory=list)
    messages: dict[str, Path] = field(default_factory=dict)

    def start(self, job: Any, container: Any, *, network: str = "", alias: str = "", **options: Any) -> str:
        message = self.folder / f"message-{len(self.containers)}"
        made = create_container(self.engine, job, container, self.claims, message, network=network or "none", **options)
        self.containers.append(made)
        self.messages[made] = message
        if not network:
            self.engine.api.disconnect_container_from_network(made, "none")
            self.engine.api.connect_container_to_network(made, self.network, aliases=[alias] if alias else None)
        self.engine.api.start(made)
        return made

    def says(self, container: str) -> str:
        return str(self.engine.api.logs(container).decode())

    def runs(self, container: str) -> bool:
        return bool(self.engine.api.inspect_container(container)["State"]["Running"])

    def answers(self, container: str) -> bool:
        made = self.engine.api.exec_create(container, ["/opt/mealkit/venv/bin/python", "-Ic", HEALTH])
        self.engine.api.exec_start(made["Id"])
        return bool(self.engine.api.exec_inspect(made["Id"])["ExitCode"] == 0)

    def ended(self, container: str) -> Ended:
        return ended(self.engine, container, self.messages[container])


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What the claim holds: visits in 40 row groups, so that a worker can be killed while some are left."""
    folder = tmp_path / "volume"
    folder.mkdir()
    command = [sys.executable, "-m", "propensity.simulate", "--visitors", "800", "--seed", "8"]
    subprocess.run(
        [*command, "--output", str(tmp_path / "visits.csv")], cwd=REPOSITORY / "sample_recipe", check=True, timeout=60
    )
    visits = pa.csv.read_csv(tmp_path / "visits.csv").sort_by("visitor_id")
    people = visits["visitor_id"].unique()
    with pa.parquet.ParquetWriter(folder / "visits.parquet", visits.schema) as writer:
        for start in range(0, len(people), 20):  # the rows of a person stay together
            writer.write_table(visits.filter(pa.compute.is_in(visits["visitor_id"], people.slice(start, 20))))
    return folder


@pytest.fixture
def cluster(engine: Any, volume: Path, tmp_path: Path) -> Iterator[Cluster]:
    name = f"mealkit-test-{os.getpid()}"
    network = engine.networks.create(name)
    made = Cluster(engine, name, {"shop": volume}, tmp_path)
    yield made
    for container in made.containers:
        engine.api.remove_container(container, v=True, force=True)
    network.remove()


@pytest.fixture
def url(registry: RunningRegistry, engine: Any, tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """The sample recipe's image, with Dask in it."""
    project = tmp_path / "project"
    shutil.copytree(
        REPOSITORY / "sample_recipe", project, ignore=shutil.ignore_patterns(".mealkit", "pylock.toml", "__pycache__")
    )
    file = project / "pyproject.toml"
    file.write_text(file.read_text().replace("dependencies = [\n", 'dependencies = [\n  "distributed",\n', 1))
    made = mealkit(
        "build", "--project", project, "--to", f"{registry.host}/road/dask", "--json", environment=environment
    )
    url = json.loads(made)["url"]
    yield url
    with suppress(Exception):
        engine.images.remove(url, force=True)


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = str(tmp_path_factory.getbasetemp() / "road-cache")
    return {**os.environ, "MEALKIT_CACHE": cache, "UV_CONSTRAINT": str(REPOSITORY / ".ci" / "requirements.txt")}


def test_a_worker_is_killed_in_the_middle(
    cluster: Cluster, volume: Path, url: str, environment: dict[str, str], tmp_path: Path
) -> None:
    sample = ("--project", REPOSITORY / "sample_recipe")
    common = ("--input", volume / "visits.parquet", "--model", volume / "model")
    mealkit("train", *sample, *common, environment=environment)
    mealkit("score", *sample, *common, "--output", tmp_path / "alone", "--run-id", "dask", environment=environment)
    for path in (volume, *volume.rglob("*")):
        path.chmod(0o777)
    printed = mealkit(
        "run", "--kubernetes", "--dry-run", "--volume", "shop:/data", "--user", "12345:12345", "--dask-workers", "2",
        "--cpus", "1", url, "score", "--input", "/data/visits.parquet", "--model", "/data/model", "--output",
        "/data/scores", "--batch-rows", "100", "--run-id", "dask", environment=environment,
    )  # fmt: skip
    _, service, workers, run = yaml.safe_load_all(printed)
    pod = run["spec"]["template"]["spec"]
    assert workers["spec"]["parallelism"] == 2

    # All at once, and in the wrong order: workers wait for their scheduler.
    working = [cluster.start(workers, workers["spec"]["template"]["spec"]["containers"][0]) for _ in range(2)]
    hosts = {host: alias["ip"] for alias in pod["hostAliases"] for host in alias["hostnames"]}
    scheduler = cluster.start(run, pod["initContainers"][0], alias=service["metadata"]["name"], extra_hosts=hosts)
    until(lambda: cluster.answers(scheduler), "the startup probe fails")
    for worker in working:
        until(lambda worker=worker: "1 worker joined" in cluster.says(worker), "a worker does not join")

    scoring = cluster.start(run, pod["containers"][0], network=f"container:{scheduler}")
    until(lambda: list(volume.glob("scores/**/shard-*.json")), "no part is done")
    cluster.engine.api.kill(working[0])
    assert cluster.runs(scoring), cluster.says(scoring)
    assert not list(volume.glob("scores/batch_id=*"))

    told = cluster.ended(scoring)
    assert told.status == 0, told.output
    assert told.told["batch"] == {"dataset": "/data/scores", "rows": told.told["batch"]["rows"], "existed": False,
                                  "waiting": 0}  # fmt: skip
    cluster.engine.api.stop(scheduler, timeout=30)  # as a sidecar is, when its pod's container has ended
    assert cluster.ended(scheduler).status == 143
    assert [cluster.ended(worker).status for worker in working] == [137, 0]

    alone, scored = pd.read_parquet(tmp_path / "alone"), pd.read_parquet(volume / "scores")
    pd.testing.assert_frame_equal(alone, scored)
