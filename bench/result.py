"""The result of a run of the benchmarks, as a value and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .extra import Second
from .growth import Cost
from .machine import Machine
from .registry import Traffic
from .scenario import Sample
from .startup import Startup
from .timing import median
from .wheels import Splicing


@dataclass(frozen=True)
class Extra:
    """What was measured beside the scenarios; seconds and bytes.

    Attributes:
        help: ``mealkit --help``, median.
        lock: ``mealkit lock`` after a dependency was added, median.
        fetch: Downloading the wheels, once.
        fetched: Their bytes.
        images: Side to compressed bytes, layers, unpacked bytes and seconds of an engine's pull.
        docker_uv: (a) by docker with uv in place of pip, once.
        plain_base: (e) by mealkit on a base that does not tell its Python, median.
        second: A second recipe with the same dependencies in another repository.
    """

    help: float
    lock: float
    fetch: float
    fetched: int
    images: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    docker_uv: float | None = None
    plain_base: float | None = None
    second: Second | None = None


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        date: When, UTC.
        command: The arguments that made it.
        repeats: Rounds.
        seconds: How long all of it took.
        machine: Where.
        load: Load average of the last minute at its start and end.
        packages: How many wheels the recipe needs.
        new_pin: What (d) added.
        samples: All that was measured.
        extra: The rest.
        splicing: Wheels to layers.
        startup: The runtime's start.
        growth: Builds by the size of the dependencies.
    """

    date: str
    command: str
    repeats: int
    seconds: float
    machine: Machine
    load: tuple[float, float]
    packages: int
    new_pin: str
    samples: tuple[Sample, ...]
    extra: Extra | None = None
    splicing: Splicing | None = None
    startup: Startup | None = None
    growth: tuple[Cost, ...] = ()

    def of(self, scenario: str, side: str) -> tuple[Sample, ...]:
        """The samples of one side in one scenario."""
        return tuple(sample for sample in self.samples if (sample.scenario, sample.side) == (scenario, side))

    def seconds_of(self, scenario: str, side: str) -> float | None:
        """Their median; None when there are none."""
        found = self.of(scenario, side)
        return median([sample.seconds for sample in found]) if found else None

    def to_json(self) -> str:
        """All of it, for :func:`from_json`."""
        return json.dumps(asdict(self), indent=1)


def from_json(text: str) -> Result:
    """The value that :meth:`Result.to_json` wrote."""
    value: dict[str, Any] = json.loads(text)
    samples = tuple(Sample(**{**one, "traffic": Traffic(**one["traffic"])}) for one in value["samples"])
    return Result(
        **{
            **value,
            "machine": Machine(**value["machine"]),
            "load": tuple(value["load"]),
            "samples": samples,
            "extra": _extra(value["extra"]) if value["extra"] else None,
            "splicing": Splicing(**value["splicing"]) if value["splicing"] else None,
            "startup": Startup(**value["startup"]) if value["startup"] else None,
            "growth": tuple(Cost(**{**one, "traffic": Traffic(**one["traffic"])}) for one in value["growth"]),
        }
    )


def _extra(value: Mapping[str, Any]) -> Extra:
    second = value["second"]
    return Extra(
        **{**value, "second": Second(**{**second, "traffic": Traffic(**second["traffic"])}) if second else None}
    )
