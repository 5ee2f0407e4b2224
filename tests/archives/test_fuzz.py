"""Every parser of what others wrote, fed with anything: only a value or an error of ours comes out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from targets import SEEDS, TARGETS

EXAMPLES = {"wheel": 120, "zip_directory": 150, "tar": 200, "record": 80, "entry_points": 80}


def mutants(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Anything; and good and bad examples with pieces overwritten, cut out, doubled, or taken from another."""

    @st.composite
    def mutant(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(seeds)))
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, max(0, len(data) - 1)))
            length = draw(st.integers(0, 16))
            way = draw(st.sampled_from("owcdt"))
            if way == "o":
                data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            elif way == "w":
                data[at : at + 1] = draw(st.sampled_from([b"\0", b"\xff", b"\x80", b"/", b"..", b"\\", b'"', b"\n"]))
            elif way == "c":
                del data[at : at + length]
            elif way == "d":
                data[at:at] = data[at : at + length]
            else:
                other = draw(st.sampled_from(seeds))
                data[at:] = other[at:]
        return bytes(data)

    return st.one_of(st.binary(max_size=300), mutant())


@pytest.mark.parametrize("name", TARGETS)
def test_only_errors_of_ours(name: str) -> None:
    @seed(1)  # the same examples every time: new ones are the fuzzing job's business
    @settings(
        max_examples=EXAMPLES.get(name, 100),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutants(SEEDS[name]))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for one in SEEDS[name]:
        TARGETS[name](one)
