"""What a person sees of a build that takes its time, on a terminal and in a log."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.proxy import FaultProxy, Request, can_meet
from images import sample

from mealkit_builder.cli._progress import TerminalReporter
from mealkit_builder.location import open_location
from mealkit_builder.push import push_image
from mealkit_builder.testing import MemoryRegistry

CONTROL = re.compile(r"\x1b\[[0-9;]*[mK]")


class Screen(io.StringIO):
    """A standard error that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def last(self) -> str:
        """The line as it stands now."""
        return CONTROL.sub("", self.getvalue().rpartition("\r")[2])


Make = Callable[[], TerminalReporter]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Callable[[], TerminalReporter]]:
    """Makes a reporter on a wide screen that draws whenever it is told something."""
    made: list[TerminalReporter] = []

    def make() -> TerminalReporter:  # within the test: between its fixtures and a test pytest changes standard error
        monkeypatch.setattr("sys.stderr", Screen())
        monkeypatch.setattr("mealkit_builder.cli._progress._EVERY", 0.0)
        monkeypatch.setenv("COLUMNS", "200")
        made.append(TerminalReporter(environment={}, clock=clock))
        return made[0]

    yield make
    for reporter in made:
        reporter.clear()


def screen() -> Screen:
    assert isinstance(sys.stderr, Screen)
    return sys.stderr


def fill(reporter: TerminalReporter, clock: Clock) -> None:
    """A build in its middle."""
    reporter.stage("making layers")
    reporter.layers(12)
    reporter.expect("download", 2_000_000)
    reporter.expect("upload", 10_000_000)
    reporter.moved("download", 0)
    clock.now += 2
    reporter.moved("download", 500_000)
    reporter.moved("upload", 4_000_000)
    for way in ("reused", "reused", "mounted", "uploaded"):
        reporter.layer(way)  # type: ignore[arg-type]


def test_a_terminal_sees_bytes_rate_time_left_and_layers(make: Make, clock: Clock) -> None:
    reporter = make()
    fill(reporter, clock)
    assert screen().last() == (
        "making layers  download ██░░░░░░░░ 500.0 kB of 2.0 MB  upload ████░░░░░░ 4.0 MB of 10.0 MB"
        "  2.2 MB/s, 3 s left  layers 4/12 (2 reused, 1 mounted, 1 uploaded)"
    )
    reporter.note("this stays")
    assert "note: this stays\n" in CONTROL.sub("", screen().getvalue())
    reporter.clear()
    assert screen().getvalue().endswith("\r\x1b[K")


def test_a_build_that_begins_anew_is_counted_anew(make: Make, clock: Clock) -> None:
    reporter = make()
    fill(reporter, clock)
    reporter.restart()
    assert reporter.line(199) == "making layers"
    fill(reporter, clock)
    assert "4.0 MB of 10.0 MB" in screen().last()
    assert "layers 4/12 (2 reused, 1 mounted, 1 uploaded)" in screen().last()


def test_what_matters_less_goes_first_where_the_terminal_is_narrow(make: Make, clock: Clock) -> None:
    reporter = make()
    fill(reporter, clock)
    lines = {width: reporter.line(width) for width in range(5, 200)}
    assert all(len(line) <= width for width, line in lines.items())
    whole = lines[199]
    assert whole.endswith("3 s left  layers 4/12 (2 reused, 1 mounted, 1 uploaded)")
    short = {len(line): line for line in lines.values()}  # each form once
    assert [line.removeprefix("making layers").strip() for _, line in sorted(short.items(), reverse=True)][1:6] == [
        "download ██░░░░░░░░ 500.0 kB of 2.0 MB  upload ████░░░░░░ 4.0 MB of 10.0 MB  2.2 MB/s, 3 s left  layers 4/12",
        "download ██░░░░░░░░ 500.0 kB of 2.0 MB  upload ████░░░░░░ 4.0 MB of 10.0 MB  layers 4/12",
        "download 500.0 kB of 2.0 MB  upload 4.0 MB of 10.0 MB  layers 4/12",
        "download 500.0 kB of 2.0 MB  upload 4.0 MB of 10.0 MB",
        "upload 4.0 MB of 10.0 MB",
    ]
    assert lines[20] == "making layers"
    assert lines[6] == "making"


def test_the_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, make: Make, clock: Clock) -> None:
    reporter = make()
    monkeypatch.setenv("COLUMNS", "40")
    fill(reporter, clock)
    drawn = [CONTROL.sub("", line) for line in screen().getvalue().split("\r")]
    assert max(len(line) for line in drawn) < 40


def test_silence_is_told(make: Make, clock: Clock) -> None:
    reporter = make()
    fill(reporter, clock)
    clock.now += 12
    assert "nothing moved for 12 s" in reporter.line(200)
    reporter.moved("upload", 6_000_000)
    reporter.moved("download", 1_500_000)
    assert "nothing moved" not in reporter.line(200)
    assert "left" not in reporter.line(200)


def test_a_try_that_is_taken_back(make: Make, clock: Clock) -> None:
    reporter = make()
    reporter.stage("pushing")
    reporter.expect("upload", 1000)
    reporter.moved("upload", 900)
    clock.now += 1
    reporter.moved("upload", -900)
    assert screen().last() == "pushing  upload ░░░░░░░░░░ 0 B of 1.0 kB"


def test_a_terminal_that_has_no_blocks(make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = make()
    monkeypatch.setattr(Screen, "encoding", "ascii")
    fill(reporter, clock)
    assert "upload ####...... 4.0 MB" in screen().last()


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    reporter = TerminalReporter(environment={}, clock=clock)
    fill(reporter, clock)
    assert log.getvalue() == ""  # a short build leaves no line
    for _ in range(9):
        clock.now += 10
        reporter.moved("upload", 100_000)
    reporter.note("this stays")
    reporter.clear()
    lines = log.getvalue().splitlines()
    assert len(lines) == 4
    assert "4.1 MB of 10.0 MB" in lines[0]
    assert lines[0].endswith("layers 4/12 (2 reused, 1 mounted, 1 uploaded)  after 12 s")
    assert lines[-1] == "note: this stays"
    assert "\x1b" not in log.getvalue()


def test_a_quiet_reporter_and_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr("sys.stderr", Screen())
    quiet = TerminalReporter(quiet=True, environment={}, clock=clock)
    fill(quiet, clock)
    clock.now += 100
    quiet.moved("upload", 1)
    quiet.note("nobody wants this")
    dumb = TerminalReporter(environment={"TERM": "dumb"}, clock=clock)
    fill(dumb, clock)
    dumb.clear()
    quiet.clear()
    assert screen().getvalue() == ""


def test_no_thread_is_left(make: Make, clock: Clock) -> None:
    reporter = make()
    fill(reporter, clock)
    reporter.clear()
    ends = time.monotonic() + 5
    while any(thread.name == "mealkit-progress" for thread in threading.enumerate()) and time.monotonic() < ends:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "mealkit-progress"]


# --- the command itself ---


def on_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a command shows on a pseudo terminal."""
    control, terminal = pty.openpty()
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                block = os.read(control, 1 << 16)
            except OSError:  # the other end was closed
                break
            if not block:
                break
            shown += block
        process.wait(30)
    os.close(control)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


@pytest.mark.parametrize("plain", [False, True])
def test_a_push_on_a_terminal(tmp_path: Path, plain: bool) -> None:
    one = sample({f"file{number}": os.urandom(100_000) for number in range(3)})
    layout, _ = open_location(f"oci:{tmp_path}/images", {}, push=True)
    push_image(one.image, layout, one.open_layer, tags=["1"])
    environment = dict(os.environ) | {"TERM": "xterm", "COLUMNS": "120"} | ({"NO_COLOR": "1"} if plain else {})
    mealkit = [str(Path(sys.executable).with_name("mealkit")), "push", f"oci:{tmp_path}/images:1"]

    def slow(request: Request) -> str:
        return "slow" if can_meet(request, "slow") and request.length > 1000 else ""

    with MemoryRegistry() as registry, FaultProxy(registry.host, slow, slow_rate=100_000) as proxy:
        shown = on_terminal([*mealkit, "--to", f"{proxy.host}/team/shop:1"], environment)
        lines = [CONTROL.sub("", line) for line in re.split(r"[\r\n]+", shown)]
        assert "copying" in lines[1]
        assert any(re.search(r"upload [█░]{10} \d+\.\d kB of 30\d\.\d kB .* layers \d/4", line) for line in lines), (
            lines
        )
        assert lines[-2].startswith(f"{proxy.host}/team/shop@sha256:")
        assert max(map(len, lines)) < 120
        if plain:
            assert not re.search(r"\x1b\[[0-9;]*m", shown)  # no colours; the line is wiped all the same
        told = subprocess.run(
            [*mealkit, "--to", f"{registry.host}/team/other:1", "--json"], capture_output=True, check=True, timeout=60
        )
        assert json.loads(told.stdout)["url"].startswith(registry.host)
        assert told.stderr == b""
