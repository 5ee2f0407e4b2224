"""Telemetry: a real collector gets a run's spans and metrics; one that is dead costs a run nothing but a warning."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from churn_runs import RECIPES, Runner, make_events, spec_of, write
from collector import collecting, facts
from event_check import check_stream

from mealkit_runtime.events import Reporter
from mealkit_runtime.result import RunResult
from mealkit_runtime.telemetry import open_telemetry

JSON = ("--log-format", "json")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

Start = Callable[..., Any]


def finish(process: Any, code: int = 0) -> list[dict[str, Any]]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return check_stream(out)


def warnings(events: list[dict[str, Any]]) -> list[str]:
    return [event["message"] for event in events if event["event"] == "warning"]


def test_training(start: Start, common: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    with collecting() as collector:
        environment = {
            **collector.environment,
            "TRACEPARENT": f"00-{TRACE}-{PARENT}-01",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "MEALKIT_IMAGE": "host/churn@sha256:12",
        }
        process = start(
            "train", "--input", data / "events.csv", *common, "--model", tmp_path / "m", "--run-id", "r1", *JSON,
            environment=environment,
        )  # fmt: skip
        events = finish(process)
    assert not warnings(events)
    root = collector.spans["mealkit train"]
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == PARENT
    told = facts(root.attributes)
    assert (told["mealkit.run.id"], told["mealkit.mode"], told["mealkit.status"]) == ("r1", "train", "succeeded")
    assert told["process.exit.code"] == 0
    assert told["mealkit.rows_read"] == len(make_events())
    stages = [event["stage"] for event in events if event["event"] == "stage" and event["status"] == "finished"]
    assert set(collector.spans) == {"mealkit train", *stages}
    for stage in stages:
        span = collector.spans[stage]
        assert span.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    assert facts(collector.spans["read"].attributes)["mealkit.rows"] == len(make_events())
    assert collector.resource["service.name"] == "churn"
    assert collector.resource["service.version"] == "0.3.0"
    assert collector.resource["service.instance.id"] == "r1"
    assert collector.resource["deployment.environment.name"] == "test"
    assert collector.resource["container.image.name"] == "host/churn"
    assert collector.resource["oci.manifest.digest"] == "sha256:12"
    result = events[-1]["result"]
    assert collector.value("mealkit.rows.read", mode="train") == len(make_events())
    assert collector.value("mealkit.run.duration", status="succeeded") == pytest.approx(result["seconds"]["total"])
    assert collector.value("mealkit.stage.duration", stage="train") == pytest.approx(result["seconds"]["train"])
    for metric in result["metrics"]:
        found = collector.value("mealkit.evaluation.metric", metric_name=metric["name"])
        assert found == pytest.approx(metric["value"])
    assert collector.value("mealkit.recipe.metric", metric_name="rows") > 0


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"name": [f"n{number}" for number in range(90)], "x": range(90), "y": range(90)})
    return write(frame, tmp_path / "rows.parquet")


@pytest.fixture
def noisy(start: Start, run: Runner, rows: Path, tmp_path: Path) -> Start:
    """Start a mode of the small recipe, with a model of its own."""
    assert run("train", "--input", rows, "--model", tmp_path / "noisy", spec=spec_of("noisy")).code == 0

    def starter(mode: str, *more: object, **options: Any) -> Any:
        return start(mode, "--input", rows, "--model", tmp_path / "noisy", *more, *JSON, recipe="noisy", **options)

    return starter


def test_scoring_and_its_failure(noisy: Start, tmp_path: Path) -> None:
    argv = ("score", "--output", tmp_path / "s")
    with collecting() as collector:
        more = {"OTEL_SERVICE_NAME": "mine", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
        events = finish(noisy(*argv, "--batch-rows", "50", environment={**collector.environment, **more}))
    result = events[-1]["result"]
    assert collector.resource["service.name"] == "mine"
    assert collector.value("mealkit.rows.read") == result["rows_read"] == 90
    assert collector.value("mealkit.rows.scored") == result["rows_scored"] == 90
    assert collector.value("mealkit.rows.rate") > 0
    with collecting() as collector:
        finish(noisy(*argv, "--input", "no-such.csv", environment=collector.environment), 3)
    root = collector.spans["mealkit score"]
    assert root.status.code == 2
    assert facts(root.attributes)["error.type"] == "unreadable-data"
    assert facts(root.attributes)["process.exit.code"] == 3
    assert [event.name for event in root.events] == ["exception"]


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("how", ["closed", "silent", "broken"])
def test_a_collector_that_is_dead(noisy: Start, how: str) -> None:
    with socket.socket() as silent, collecting(status=503) as broken:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections, and never answers
        port = {"closed": _closed_port(), "silent": silent.getsockname()[1], "broken": broken.port}[how]
        events = finish(noisy("evaluate", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}))
    told = warnings(events)
    assert len(told) == 1, told
    assert told[0].startswith("telemetry could not be sent: ")
    assert not [event for event in events if event["event"] == "log" and "elemetry" in event["message"]]
    # What the collector cost, from the result's making to its telling; its own tries would take a minute.
    result = events[-1]
    assert result["time"] - events[0]["time"] - result["result"]["seconds"]["total"] < 10


def test_a_stop_does_not_wait_for_a_collector(noisy: Start, run: Runner, rows: Path, tmp_path: Path) -> None:
    with collecting(delay=60) as collector:
        argv = ("--overwrite", "--set", "train=nap")
        process = noisy("train", *argv, environment=collector.environment)
        for line in process.stdout:
            if '"progress"' in line:
                break
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        process.communicate(timeout=60)
        assert process.returncode == 143
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("environment", "warning"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "names 'zipkin'"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "'grpc'"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "TRUE"}, None),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_SERVICE_NAME": "x"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}, None),
    ],
)
def test_what_is_not_sent(environment: dict[str, str], warning: str | None) -> None:
    out = io.StringIO()
    recipe = {"name": "x", "version": "1", "spec_digest": f"sha256:{'0' * 64}"}
    reporter = Reporter(out, io.StringIO(), head={"mode": "train", "run_id": "r", "recipe": recipe, "image": None})
    telemetry = open_telemetry(reporter, environment)
    if telemetry is not None:  # an exporter that is not known leaves nothing to send
        result = RunResult("train", "r", "succeeded", 0, recipe, seconds={"total": 1.0})
        assert telemetry.close(result) is None
    told = warnings(check_stream(out.getvalue(), ended=False))
    assert len(told) == (0 if warning is None else 1), told
    assert warning is None or warning in told[0]
    assert warning is not None or telemetry is None


CODE = """
import sys
if "absent" in sys.argv:
    sys.modules["opentelemetry"] = None  # as if it were not installed
from mealkit_runtime.command import main
status = main(sys.argv[sys.argv.index("--") + 1:])
print("loaded:", *(name for name in sys.modules if name.startswith(("opentelemetry.", "mealkit_runtime.telemetry"))))
sys.exit(status)
"""


@pytest.mark.parametrize("absent", [True, False])
def test_without_the_packages_and_without_the_variables(noisy: Start, rows: Path, tmp_path: Path, absent: bool) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(spec_of("noisy").to_json())
    environment = {**os.environ, "MEALKIT_RECIPE": str(recipe), "PYTHONPATH": str(RECIPES / "noisy")}
    if absent:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    argv = ["evaluate", "--input", str(rows), "--model", str(tmp_path / "noisy"), *JSON]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *(["absent"] if absent else []), "--", *argv],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    told = [json.loads(line) for line in lines if '"warning"' in line[:20]]
    if absent:
        assert len(told) == 1
        assert "there is no opentelemetry" in told[0]["message"]
        assert "dependencies" in told[0]["hint"]
    else:
        assert not told
        assert loaded == "loaded:"
