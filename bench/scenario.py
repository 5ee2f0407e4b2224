"""The scenarios, and one round of them: every side from nothing to an image, again after each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .registry import Place, Traffic, fresh_registry
from .side import Built, Side
from .source import Source
from .timing import settle

SCENARIOS = {
    "a": "everything cold",
    "w": "everything cold but the wheels, which are on disk",
    "b": "one source file changed",
    "c": "nothing changed",
    "d": "one small dependency added",
    "e": "one source file changed, on a fresh machine",
}
COLD, WARM = frozenset("abcd"), frozenset("wbce")
"""What the first and the second phase of a round measure."""


def begins(number: int) -> bool:
    """Whether a round's second phase begins with a new registry."""
    return number % 2 == 0


@dataclass(frozen=True)
class Sample:
    """One build that was measured.

    Attributes:
        scenario: Its letter.
        side: Who built.
        seconds: From process start to recorded URL.
        load: The machine's load average before.
        peak: Resident bytes of the largest process that was started; for docker that is only the client.
        traffic: What the registry saw.
        url: What was built.
        facts: What the side told.
    """

    scenario: str
    side: str
    seconds: float
    load: float
    peak: int
    traffic: Traffic
    url: str
    facts: Mapping[str, object]


@dataclass(frozen=True)
class Round:
    """One round of all scenarios that are asked for.

    In the first phase everything begins cold, and docker's classic builder meets mealkit. In the second one BuildKit
    does: pip's downloads are in its cache mount, so it begins with the wheels on disk. As (w) takes three quarters of
    a minute and is no scenario of the first rank, only each second round begins the second phase so; the others
    begin it on a fresh machine, (e), with the registry as the round before left it. The peers take part in the same
    rounds, in the first phase's (a) to (c).

    Attributes:
        number: Turns the order in which the sides run.
        only: Letters of scenarios.
        source: What is built.
        mealkit: Our side.
        classic: docker's classic builder.
        buildkit: docker's BuildKit.
        peers: Further ones.
        seed: A registry's folder, with the base in it.
        folder: Where registries are started.
        warm: The registry of the second phase; None: there is none.
        new_pin: What (d) adds.
        tell: Told of each sample.
    """

    number: int
    only: frozenset[str]
    source: Source
    mealkit: Side
    classic: Side
    buildkit: Side
    seed: Path
    folder: Path
    warm: Place | None
    new_pin: str
    tell: Callable[[Sample], None]
    peers: Sequence[Side] = ()

    def run(self) -> Iterator[Sample]:
        """Measure; samples come as they are made."""
        self.source.require(None)
        if self.only & COLD:
            with fresh_registry(self.folder / f"registry-{self.number}", self.seed) as place:
                yield from self._cold(place)
        if self.warm is not None:
            yield from self._warm(self.warm)

    def _cold(self, place: Place) -> Iterator[Sample]:
        peers = tuple(self.peers) if begins(self.number) else ()
        sides = self._order(self.mealkit, self.classic)
        for side in (*sides, *peers):
            side.forget()
        yield from self._measure("a", (*sides, *peers), place)
        # One that keeps nothing from build to build would only do the same again.
        yield from self._small_changes((*sides, *(peer for peer in peers if peer.keeps)), place)
        if "d" in self.only:
            self.source.require(self.new_pin)
            yield from self._measure("d", sides, place)
            self.source.require(None)

    def _warm(self, place: Place) -> Iterator[Sample]:
        sides = self._order(self.mealkit, self.buildkit)
        if begins(self.number):
            for side in sides:
                side.forget(keep_wheels=True)
            yield from self._measure("w", sides, place)
            for side in sides:
                side.first_is_there(place)
            yield from self._small_changes(sides, place)
            if "e" in self.only:
                yield from self._fresh(sides, place)
        else:
            yield from self._fresh(sides, place)
            yield from self._small_changes(sides, place)

    def _fresh(self, sides: Sequence[Side], place: Place) -> Iterator[Sample]:
        self.source.edit()
        for side in sides:
            side.forget()
        yield from self._measure("e", sides, place, fresh=True)

    def _small_changes(self, sides: Sequence[Side], place: Place) -> Iterator[Sample]:
        if "b" in self.only:
            self.source.edit()
            yield from self._measure("b", sides, place)
        if "c" in self.only:
            yield from self._measure("c", sides, place)

    def _order(self, *sides: Side) -> Sequence[Side]:
        return sides if self.number % 2 == 0 else tuple(reversed(sides))

    def _measure(self, scenario: str, sides: Sequence[Side], place: Place, *, fresh: bool = False) -> Iterator[Sample]:
        for side in sides:
            load = settle()
            with place.counting() as traffic:
                built = side.build(place, fresh=fresh)
            sample = _sample(scenario, side, built, load, traffic[0])
            self.tell(sample)
            if scenario in self.only:
                yield sample


def _sample(scenario: str, side: Side, built: Built, load: float, traffic: Traffic) -> Sample:
    timed = built.timed
    return Sample(scenario, side.name, timed.seconds, load, timed.peak, traffic, built.url, built.facts)
