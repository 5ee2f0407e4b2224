"""The recipe, and visits that the tests share."""
# ruff: noqa: D103 (a test's name says what it shows)

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import mealkit.testing  # noqa: E402
from mealkit.recipe import Recipe  # noqa: E402
from propensity.simulate import Simulation, simulate  # noqa: E402


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return mealkit.testing.load(ROOT)


@pytest.fixture(scope="session")
def small() -> Simulation:
    return simulate(400, seed=3)
