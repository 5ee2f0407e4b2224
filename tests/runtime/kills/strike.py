"""Kills the run of a scene, looks at what is left, and runs it again."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kills.boundary import Boundary, attached, boundaries, counting
from kills.launcher import Ended, Order, Running
from kills.relay import Relay, relayed
from kills.scene import Stage

KILLED = -signal.SIGKILL
EXPECTED = {"stop": 143, "failure": 8, "loss": 75}
"""The exit statuses of runs that end by themselves."""


@dataclass
class Tally:
    """What became of a scene's kills.

    Attributes:
        kills: How many there were, by kind.
        told: How many ended how: ``nothing`` new was to be seen, ``all`` of it, ``some`` of several outputs (each of
            them whole), or the run was ``unharmed``: it was over before, or went on.
        cleaned: How many left something for ``mealkit batches DATASET clean``.
        slowest: Seconds from SIGTERM to the end of a run.
        faults: What went wrong.
    """

    kills: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    cleaned: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        kind: ``moment``, ``stop`` (SIGTERM), ``cold``, ``boundary`` or ``request``; ``failure`` of a disk, or ``loss``
            of a store, which are none.
        told: Where it is.
        strike: Does it; how the run ended.
    """

    kind: str
    told: str
    strike: Callable[[], Ended]


class Strike:
    """All kills of a scene.

    Attributes:
        seconds: How long an undisturbed run takes, warm.
        after: What readers see after one.
    """

    def __init__(self, stage: Stage, times: int = 3) -> None:
        self.stage = stage
        stage.reset()
        self._before = stage.seen()
        self._empty = stage.tree()
        taken = []
        for number in range(times):
            if number:
                stage.reset()
            taken.append(stage.succeed(stage.killed).seconds)
        self.seconds = sorted(taken)[times // 2]
        self.after = stage.seen()
        self._whole = stage.tree()
        assert self._before != self.after
        assert stage.clean() == 0, "an undisturbed run leaves nothing"
        stage.again()
        again = stage.seen()
        assert again == self.after, f"the same run again adds nothing: {again}, not {self.after}"
        assert stage.tree() == self._whole

    def boundaries(self) -> list[Boundary]:
        """The boundaries of an undisturbed run."""
        stage = self.stage
        stage.reset()
        log = stage.launcher.folder / "strace.txt"
        with (
            stage.launcher.warm(stage.killed, same_names=True) as (running, ended),
            attached(running.pid, counting(log)),
        ):
            running.go()
        assert ended.code == 0, ended.err
        found, elsewhere = boundaries(log, stage.place)
        told = str(stage.launcher.folder)  # its standard output and error
        foreign = [line for line in elsewhere if not _is_no_file(line) and told not in line]
        assert not foreign, f"a run writes to its own folders only, and not: {foreign}"
        return found

    def at_random(self, count: int, seed: int, kind: str = "moment") -> Iterator[Kill]:
        """So many kills, or stops, at random moments of a run."""
        moments = random.Random(seed)
        for _ in range(count):
            moment = moments.uniform(0, 1.05) * self.seconds
            yield Kill(kind, f"after {moment:.4f} s", partial(self._after_a_while, moment, kind))

    def at(self, found: Iterable[Boundary]) -> Iterator[Kill]:
        """A kill at each of these boundaries."""
        for boundary in found:
            name = boundary.path.removeprefix(f"{self.stage.place}/")
            told = f"{boundary.call} {name} (no. {boundary.number})"
            yield Kill("boundary", told, partial(self._at_boundary, boundary.killing))

    def failing(self, found: Iterable[Boundary]) -> Iterator[Kill]:
        """No kill, but a disk that is full, or broken, from each of these boundaries on."""
        for boundary in found:
            name = boundary.path.removeprefix(f"{self.stage.place}/")
            told = f"failing {boundary.call} {name} (no. {boundary.number})"
            yield Kill("failure", told, partial(self._at_boundary, boundary.failing))

    def at_requests(self) -> Iterator[Kill]:
        """A kill at each request to the object storage: before the storage has it, and after it has done it."""
        stage = self.stage
        if stage.pantry.endpoint is None or not stage.is_far:
            return
        stage.reset()
        with relayed(stage.pantry.endpoint) as relay:
            ended = stage.launcher.run(_by_way_of(relay, stage.killed))
        assert ended.code == 0, ended.err
        for number, request in enumerate(relay.seen):
            for answered in (False, True):
                told = f"{'after' if answered else 'before'} request {number}, {request}"
                yield Kill("request", told, partial(self._at_request, number, answered))
            yield Kill("loss", f"the store is lost at request {number}, {request}", partial(self._loss, number))

    def cold(self, count: int, seed: int) -> Iterator[Kill]:
        """So many kills at random moments of a run that begins with its Python."""
        if not count:
            return
        self.stage.reset()
        with self.stage.launcher.cold(self.stage.killed) as (_, ended):
            pass
        assert ended.code == 0, ended.err
        moments = random.Random(seed)
        for _ in range(count):
            moment = moments.uniform(0.3, 1.05) * ended.seconds
            yield Kill("cold", f"cold, after {moment:.4f} s", partial(self._cold, moment))

    def all(self, kills: Iterable[Kill], tally: Tally, stop: Callable[[], bool] = lambda: False) -> Tally:
        """Each kill, and what comes after it; faults are noted."""
        for kill in kills:
            if stop():
                break
            tally.kills[kill.kind] += 1
            try:
                self.stage.reset()
                self._judge(kill, kill.strike(), tally)
            except (AssertionError, TimeoutError) as error:
                tally.faults.append(f"{self.stage.scene.name}, {kill.told}: {str(error)[:3000]}")
        return tally

    def _after_a_while(self, moment: float, kind: str) -> Ended:
        with self.stage.launcher.warm(self.stage.killed) as (running, ended):
            running.go()
            _sleep(running, moment)
            running.kill(signal.SIGTERM if kind == "stop" else signal.SIGKILL)
            killed = time.monotonic()
        ended.seconds = time.monotonic() - killed
        return ended

    def _cold(self, moment: float) -> Ended:
        with self.stage.launcher.cold(self.stage.killed) as (running, ended):
            _sleep(running, moment)
            running.kill()
        return ended

    def _at_boundary(self, arguments: tuple[str, ...]) -> Ended:
        with (
            self.stage.launcher.warm(self.stage.killed, same_names=True) as (running, ended),
            attached(running.pid, arguments),
        ):
            running.go()
        return ended

    def _at_request(self, number: int, answered: bool) -> Ended:
        stage = self.stage
        assert stage.pantry.endpoint is not None
        with relayed(stage.pantry.endpoint) as relay, stage.launcher.warm(_by_way_of(relay, stage.killed)) as (
            running, ended,
        ):  # fmt: skip

            def strike(now: int, done: bool) -> bool:
                if (now, done) != (number, answered):
                    return False
                running.kill()
                return True

            relay.strike = strike
            running.go()
        return ended

    def _loss(self, number: int) -> Ended:
        """The store is gone from a request on."""
        stage = self.stage
        assert stage.pantry.endpoint is not None
        with relayed(stage.pantry.endpoint) as relay:
            relay.strike = lambda now, answered: now >= number
            return stage.launcher.run(_by_way_of(relay, stage.killed))

    def _judge(self, kill: Kill, ended: Ended, tally: Tally) -> None:
        """What readers see after the kill, and after the same run again."""
        stage = self.stage
        expected = EXPECTED.get(kill.kind, KILLED)
        assert ended.code in (expected, 0), f"it ended with {ended.code}: {ended.err}"
        if expected != KILLED:
            assert "Traceback" not in ended.err, ended.err
            error = ended.result["error"] or {"hint": "none is needed"}
            assert error["hint"], ended.err
        if kill.kind == "stop":
            tally.slowest = max(tally.slowest, ended.seconds)
        seen = stage.seen()
        for name, value in seen.items():
            assert value in (self._before[name], self.after[name]), f"the {name} is neither old nor new: {value}"
        if ended.code == 0:
            assert seen == self.after
            tally.told["unharmed"] += 1
            assert kill.kind != "boundary" or stage.scene.children, "the run did not come to that call"
        else:
            tally.told["nothing" if seen == self._before else "all" if seen == self.after else "some"] += 1
        stage.again()
        seen = stage.seen()
        assert seen == self.after, f"the same run again gives {seen}, not {self.after}"
        left = stage.tree()
        if left != self._whole and stage.scene.dataset is not None:
            tally.cleaned += 1
            stage.clean()
            assert stage.seen() == self.after
            left = stage.tree()
        more, fewer = Counter(left) - Counter(self._whole), Counter(self._whole) - Counter(left)
        assert not more, f"orphans are left: {sorted(more)}"
        assert not fewer, f"files are missing: {sorted(fewer)}"


def _by_way_of(relay: Relay, order: Order) -> Order:
    return replace(order, environment={**order.environment, "AWS_ENDPOINT_URL": relay.endpoint})


def _sleep(running: Running, moment: float) -> None:
    time.sleep(max(0.0, running.begun + moment - time.monotonic()))


def _is_no_file(line: str) -> bool:
    """Whether what was opened for writing is no file: a device, or memory without a name."""
    path = line.partition(" ")[2]
    return path.startswith(("/dev/null", "/dev/tty", "/dev/fd/", "/memfd:", "/proc/")) or not Path(path).is_absolute()
