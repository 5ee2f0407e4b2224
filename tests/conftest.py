"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from engine import bookworm, engine, host, probe_url, shared_store  # noqa: F401
from services import PROGRAM, RunningRegistry, missing, running_registry
from workshop import pantry, shop, workshop  # noqa: F401

# On a machine that has much else to do, a slow example is no failure.
settings.register_profile("busy", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("busy")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script's background job ignores Ctrl-C, and what it starts does too; tests send it to what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A run in this process that was asked to stop ignores signals from then on; what later tests start must not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where ``MEALKIT_REQUIRE`` is set, as in CI, a skipped test is a failed one: something is missing."""
    report = yield
    if report.skipped and os.environ.get("MEALKIT_REQUIRE") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped here (MEALKIT_REQUIRE), but: {reason}"
    # What a test printed may be no UTF-8, and has to pass between processes.
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


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
