"""Fixtures for scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest
from workshop import Workshop, make_pantry, make_workshop


@pytest.fixture(scope="session")
def pantry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of mealkit's own requirements."""
    return make_pantry(tmp_path_factory.mktemp("pantry"))


@pytest.fixture
def workshop(tmp_path: Path, pantry: Path) -> Workshop:
    """An index, a base and an empty cache of one's own."""
    return make_workshop(tmp_path / "workshop", pantry)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, pantry: Path) -> Workshop:
    """One workshop for many tests, whose cache fills: each makes a recipe of its own name."""
    return make_workshop(tmp_path_factory.mktemp("shop"), pantry)
