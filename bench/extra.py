"""What is measured once or a few times beside the scenarios: start-up, download, lock, sizes, pulls, docker with uv."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mealkit_builder.download import Fetch
from mealkit_builder.store import Store

from .engine import Engine
from .registry import Place, Traffic
from .side import Mealkit
from .source import Source
from .timing import median, run, settle


@dataclasses.dataclass(frozen=True)
class Second:
    """What a second recipe with the same dependencies cost.

    Attributes:
        seconds: Median.
        traffic: What the registry saw; ``up`` counts what it had nowhere before.
        layers: How the layers came.
    """

    seconds: float
    traffic: Traffic
    layers: Mapping[str, int]


def help_seconds(mealkit: Mealkit, repeats: int) -> float:
    """``mealkit --help``, after a first start that writes bytecode."""
    command = [mealkit.program, "--help"]
    times = [run(command, mealkit.environment, Path("/")).seconds for _ in range(repeats + 1)]
    return median(times[1:])


def lock_seconds(mealkit: Mealkit, source: Source, pin: str, repeats: int) -> float:
    """Locking anew after a dependency was added, as (d) does within its build; the resolver's cache is warm."""
    times = []
    for _ in range(repeats):
        source.require(pin)
        times.append(run([mealkit.program, "lock"], mealkit.environment, source.project).seconds)
    source.require(None)
    return median(times)


def fetch_seconds(source: Source, folder: Path) -> tuple[float, int]:
    """Download the lock's wheels into a store at ``folder``; seconds and bytes."""
    wheels = source.wheels()
    started = time.perf_counter()
    fetch = Fetch(wheels, Store(folder))
    try:
        size = sum(fetch.get(wheel).size for wheel in wheels)
    finally:
        fetch.close()
    return time.perf_counter() - started, size


def image_facts(engine: Engine, place: Place, url: str, repeats: int) -> dict[str, float]:
    """Compressed bytes and layers from the manifest; and how an engine that has nothing pulls it."""
    repository, _, digest = url.removeprefix(f"{place.host}/").partition("@")
    layers = json.loads(place.manifest(repository, digest)[1])["layers"]
    times = []
    for _ in range(repeats):
        engine.forget_all_but_mounts()
        settle()
        times.append(engine.timed(Path("/"), True, "pull", "-q", url).seconds)
    return {
        "compressed": sum(layer["size"] for layer in layers),
        "layers": len(layers),
        "unpacked": int(engine.docker("image", "inspect", "--format", "{{.Size}}", url)),
        "seconds": median(times),
        "pulls": len(times),
    }


def prime_pip(source: Source, engine: Engine, place: Place, folder: Path) -> None:
    """Fill BuildKit's cache mount with pip's downloads."""
    folder.mkdir()
    shutil.copyfile(source.context / "requirements.txt", folder / "requirements.txt")
    (folder / "Dockerfile").write_text(
        "ARG BASE\nFROM ${BASE}\nCOPY requirements.txt /\n"
        "RUN --mount=type=cache,target=/root/.cache/pip pip download -q --no-deps -d /tmp/w -r /requirements.txt\n"
    )
    name = "mealkit-bench/pip"  # without a name nobody would find it again, and it would keep the base's layers
    engine.docker("build", "-q", "--network", "host", "--build-arg", f"BASE={place.base}", "-t", name, str(folder))


def docker_with_uv(source: Source, engine: Engine, place: Place, folder: Path) -> float:
    """(a) by a docker user who lets uv install, with bytecode, rather than pip."""
    folder.mkdir()
    shutil.copyfile(Path(sys.executable).with_name("uv"), folder / "uv")
    (folder / "uv").chmod(0o755)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n")
    engine.forget_all_but_mounts()
    engine.docker("build", "-q", "-t", "mealkit-bench/uv", str(folder))
    settle()
    name = f"{place.host}/bench/docker-uv:latest"
    build = ("build", "-q", "--network", "host", "--build-arg", f"BASE={place.base}", "-f", "Dockerfile.uv", "-t", name)
    timed = engine.timed(source.context, True, *build, ".")
    return (timed + engine.timed(source.context, True, "push", name)).seconds


def plain_base_seconds(mealkit: Mealkit, engine: Engine, place: Place, folder: Path, repeats: int) -> float:
    """(e) by mealkit on the same base without the variables of official images: its layers' names are to be read."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {place.base}\nENV PYTHON_VERSION=\n")
    name = f"{place.host}/bench/plain:latest"
    engine.docker("build", "-q", "-t", name, str(folder))
    engine.docker("push", "-q", name)
    plain = dataclasses.replace(place, base_name="bench/plain:latest")
    mealkit.build(plain)
    times = []
    for _ in range(repeats):
        mealkit.source.edit()
        mealkit.forget()
        settle()
        times.append(mealkit.build(plain, fresh=True).timed.seconds)
    return median(times)


def second_recipe(mealkit: Mealkit, place: Place, repeats: int) -> Second:
    """Another recipe with the same dependencies, to another repository of the registry that has the first one's image.

    It is the first one with a line changed, which is all that another recipe is to layers of wheels.
    """
    mealkit.build(place)
    seconds, traffic, ways = [], [], dict[str, int]()
    for number in range(repeats):
        mealkit.source.edit()
        settle()
        with place.counting() as counted:
            built = mealkit.build(place, repository=f"bench/second-{number}")
        seconds.append(built.timed.seconds)
        traffic.append(counted[0])
        ways = dict(built.facts["layers"])  # type: ignore[call-overload]
    up = int(median([one.up for one in traffic]))
    return Second(median(seconds), Traffic(int(median([one.requests for one in traffic])), traffic[-1].down, up), ways)
