"""Fixtures that all tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine import bookworm, engine, host, probe_url, shared_store  # noqa: F401
from services import PROGRAM, RunningRegistry, missing, running_registry
from workshop import pantry, shop, workshop  # noqa: F401


def _registry(factory: pytest.TempPathFactory, name: str, *, auth: bool) -> Iterator[RunningRegistry]:
    reason = missing(PROGRAM)
    if reason:
        pytest.skip(reason)
    with running_registry(factory.mktemp(name), auth=auth) as registry:
        yield registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A docker-registry that lets everybody in."""
    yield from _registry(tmp_path_factory, "registry", auth=False)


@pytest.fixture(scope="session")
def auth_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A docker-registry that asks for a password."""
    yield from _registry(tmp_path_factory, "auth-registry", auth=True)
