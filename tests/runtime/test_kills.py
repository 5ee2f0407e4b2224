"""Runs that are killed, stopped, or lose their disk or their store: a seeded part of what ``./task kills`` does."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kills.boundary import Boundary
from kills.launcher import Launcher
from kills.relay import relayed
from kills.scene import Pantry, Stage, scenes
from kills.strike import Kill, Strike, Tally
from storage import make_bucket, moto_server

SEED = 4


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as address:
        make_bucket(address)
        yield address


@pytest.fixture(scope="module")
def pantry(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Iterator[Pantry]:
    folder = tmp_path_factory.mktemp("kills")
    with contextlib.closing(Launcher(folder / "launcher", few=True)) as launcher:
        yield Pantry(folder / "pantry", launcher, endpoint)


@pytest.fixture
def play(pantry: Pantry, tmp_path: Path) -> Iterator[Callable[[str], Strike]]:
    with contextlib.ExitStack() as stages:

        def begin(name: str) -> Strike:
            scene = next(one for one in scenes(pantry.endpoint) if one.name == name)
            stage = Stage(scene, pantry, pantry.launcher, tmp_path / "place")
            stages.callback(stage.leave)
            return Strike(stage, times=1)

        yield begin


def harmless(strike: Strike, *kills: Iterator[Kill]) -> Tally:
    tally = Tally()
    for some in kills:
        strike.all(some, tally)
    assert tally.faults == []
    return tally


def commit(found: list[Boundary]) -> list[Boundary]:
    """The last of the boundaries: from the one that forces the work to the disk on."""
    return found[next(place for place, one in enumerate(found) if one.call == "fsync" and ".mealkit" in one.path) :]


@pytest.mark.parametrize(
    ("name", "count"),
    [("train --overwrite, a mount point", 5), ("score, a Delta table", 5), ("score --on-bad-rows quarantine", 5)],
)
def test_killed_at_random_moments(play: Callable[[str], Strike], name: str, count: int) -> None:
    strike = play(name)
    tally = harmless(strike, strike.at_random(count, SEED))
    assert tally.kills["moment"] == count
    assert tally.told.total() == count


def test_killed_at_every_boundary_of_a_models_commit(play: Callable[[str], Strike]) -> None:
    strike = play("train --overwrite, a mount point")
    found = commit(strike.boundaries())
    assert {"fsync", "rename", "unlink", "rmdir"} <= {one.call for one in found}
    tally = harmless(strike, strike.at(found))
    assert tally.told["nothing"]
    assert tally.told["some"], "the model, and not yet its result"


def test_killed_at_every_boundary_of_a_batchs_commit(play: Callable[[str], Strike]) -> None:
    strike = play("score, a folder")
    found = commit(strike.boundaries())
    tally = harmless(strike, strike.at(found))
    assert tally.told["nothing"]
    assert tally.told["all"]


@pytest.mark.parametrize("wanted", ["", "PUT /shop/plain/_mealkit/commits/r.json"])
def test_stopped_while_the_store_does_not_answer(pantry: Pantry, play: Callable[[str], Strike], wanted: str) -> None:
    """The first request, or the commit, which would wait for a minute and more."""
    strike = play("score, S3")
    stage = strike.stage
    stage.reset()
    silent, asked = threading.Event(), threading.Event()
    with relayed(str(pantry.endpoint)) as relay:

        def hold(number: int, answered: bool) -> bool:
            if wanted not in ("", relay.seen[number]):
                return False
            asked.set()
            return silent.wait(120)

        relay.strike = hold
        environment = {**stage.killed.environment, "AWS_ENDPOINT_URL": relay.endpoint}
        with pantry.launcher.warm(replace(stage.killed, environment=environment)) as (running, ended):
            running.go()
            assert asked.wait(120), "the run asks the store"
            running.kill(signal.SIGTERM)
            begun = time.monotonic()
        seconds = time.monotonic() - begun
        silent.set()
    assert ended.code == 143, ended.err
    assert seconds < 30, "five, on a machine that is not busy"
    assert "error[stopped]" in ended.err
    stage.again()
    assert stage.seen() == strike.after
