"""Keys and images that the tests of signatures, SBOMs and policies share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from supply_chain import PASSWORD, Pair

from mealkit_builder.key import generate_key, load_private_key
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Two pairs of keys: ``team`` and ``stranger``."""
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name in ("team", "stranger"):
        private, public = generate_key(folder / name, PASSWORD)
        made[name] = Pair(private, public, load_private_key(str(private), {"MEALKIT_KEY_PASSWORD": PASSWORD}))
    return made


@pytest.fixture
def team(pairs: dict[str, Pair]) -> Pair:
    return pairs["team"]


@pytest.fixture
def stranger(pairs: dict[str, Pair]) -> Pair:
    return pairs["stranger"]


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


@pytest.fixture
def memory_of_old() -> Iterator[MemoryRegistry]:
    """A registry that lists no referrers, as Debian's."""
    with MemoryRegistry(referrers=False) as one:
        yield one
