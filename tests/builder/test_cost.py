"""The cost of a build follows what changed, not what the image holds: bytes, requests and files, no clock."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit_builder.testing import MemoryRegistry

WHERE = "team/tiny"
LARGE = 9 << 17  # bytes of a wheel that gets a layer of its own


@dataclass
class Opened:
    """Files that were opened while somebody looked."""

    paths: list[str]
    looking: bool = False


_OPENED = Opened([])


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _OPENED.looking and isinstance(arguments[0], str):
        _OPENED.paths.append(arguments[0])


@pytest.fixture(scope="module", autouse=True)
def audited() -> None:
    sys.addaudithook(_audit)  # which cannot be taken away again, and costs nothing while nobody looks


@contextmanager
def looking() -> Iterator[list[str]]:
    _OPENED.paths.clear()
    _OPENED.looking = True
    try:
        yield _OPENED.paths
    finally:
        _OPENED.looking = False


@dataclass(frozen=True)
class Cost:
    """What a build moved and touched."""

    requests: int
    up: int
    down: int
    files: int
    uploaded: int


def recipe(workshop: Workshop, name: str, large: int) -> Path:
    """A recipe that needs so many large packages."""
    for number in range(large):
        package = f"large{number}"
        if not list(workshop.index.glob(f"{package}-*")):
            noise = random.Random(number).randbytes(LARGE)
            files: dict[str, bytes | str] = {f"{package}.py": f"NUMBER = {number}\n", f"{package}.bin": noise}
            workshop.wheel(package, "1.0", files=files)
    return workshop.recipe(name, dependencies=[f"large{number}" for number in range(large)])


def cost(workshop: Workshop, root: Path, memory: MemoryRegistry, where: str = WHERE) -> Cost:
    memory.forget()
    with looking() as opened:
        record = workshop.build(root, f"{memory.host}/{where}")
        files = {path for path in opened if path.startswith((str(root), str(workshop.store.root)))}
    return Cost(memory.requests, memory.bytes_in, memory.bytes_out, len(files), record.layers["uploaded"])


def edit(root: Path) -> None:
    with next(root.glob("*/model.py")).open("a") as file:
        file.write("# changed\n")


def test_an_edit_costs_the_same_whatever_the_image_holds(workshop: Workshop) -> None:
    costs: dict[int, list[Cost]] = {}
    sizes: dict[int, int] = {}
    for large in (1, 6):
        with MemoryRegistry() as memory:
            root = recipe(workshop, "tiny" if large == 1 else "huge", large)
            sizes[large] = workshop.build(root, f"{memory.host}/{WHERE}").size
            costs[large] = []
            for machine in (workshop, workshop.fresh(f"fresh-{large}")):
                edit(root)
                costs[large].append(cost(machine, root, memory))
            if large == 6:
                other = cost(workshop, root, memory, "team/other")
    assert sizes[6] > 3 * sizes[1]
    for small, big in zip(costs[1], costs[6], strict=True):
        assert small.uploaded == big.uploaded == 1
        assert small.requests == big.requests
        assert small.files == big.files
        # The documents name each layer: a descriptor, a diff ID and a line of history each, and nothing else grows.
        further = 5 * 2
        assert big.up - small.up < further * 1000
        assert big.down - small.down < further * 600
    # A second repository of the registry gets all of it for the recipe's bytes and the documents'.
    assert sizes[6] > 6 * LARGE
    assert other.uploaded == 1
    assert other.up < 60_000


def test_a_new_package_costs_what_it_weighs(workshop: Workshop) -> None:
    costs: dict[int, Cost] = {}
    workshop.wheel("further", "1.0", files={"further.py": "X = 1\n", "further.bin": random.Random(99).randbytes(LARGE)})
    for large in (1, 4):
        machine = workshop.fresh(f"machine-{large}")
        with MemoryRegistry() as memory:
            root = recipe(workshop, "tiny" if large == 1 else "huge", large)
            machine.build(root, f"{memory.host}/{WHERE}")
            text = (root / "pyproject.toml").read_text()
            (root / "pyproject.toml").write_text(text.replace('["large0"', '["further", "large0"'))
            costs[large] = cost(machine, root, memory)
    assert costs[1].uploaded == costs[4].uploaded == 3  # the package, its bytecode, and the recipe, which names it
    assert costs[1].requests == costs[4].requests
    assert LARGE < costs[1].up < LARGE + 100_000
    assert costs[4].up - costs[1].up < 3 * 2 * 2000
