"""Events: what stands on standard output is a stream of them, whatever the recipe writes and whoever reads."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from churn_runs import RECIPES, Runner, spec_of
from event_check import CLOSED, SCHEMA, check_event, check_stream
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mealkit_runtime.events import LONGEST, SCHEMA_FILE, SCHEMA_VERSION, json_line, plain

DOCS = Path(__file__).parents[2] / "docs" / "reference"

Start = Callable[..., Any]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    pd.DataFrame({"name": [f"n{number}" for number in range(40)], "x": range(40), "y": range(40)}).to_csv(file)
    return file


@pytest.fixture
def noisy(start: Start, rows: Path, tmp_path: Path) -> Start:
    """Train the noisy recipe in a process of its own."""

    def starter(how: str, *more: object, form: str = "json", **options: Any) -> Any:
        return start(
            "train", "--input", rows, "--model", tmp_path / "model", "--set", f"train={how}", "--log-format", form,
            *more, recipe="noisy", **options,
        )  # fmt: skip

    return starter


def test_the_schema_is_published(run: Runner) -> None:
    text = SCHEMA_FILE.read_text(encoding="utf-8")
    assert (DOCS / "events.schema.json").read_text(encoding="utf-8") == text
    assert run("describe", "--events-schema").out == text
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["run"]["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    page = (DOCS / "events.md").read_text(encoding="utf-8")
    for one in SCHEMA["oneOf"]:
        name = one["$ref"].rpartition("/")[2]
        assert f"| `{name}` |" in page, name
        for field in set(SCHEMA["$defs"][name]["properties"]) - {"event", "time"}:
            assert f"`{field}`" in page, (name, field)


def test_the_schema_needs_no_recipe() -> None:
    command = [sys.executable, "-m", "mealkit_runtime", "describe", "--events-schema"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == SCHEMA


@pytest.mark.parametrize(
    "event",
    [
        {"event": "stage", "time": 1, "stage": "read", "status": "finished"},
        {"event": "stage", "time": 1, "stage": "read", "status": "over", "seconds": 1},
        {"event": "log", "time": 1, "level": "info"},
        {"event": "progress", "time": 1, "done": -1, "total": None, "unit": "row"},
        {"event": "log", "time": 1, "level": "info", "message": "x", "unheard": 1},
        {"event": "metric", "time": "now", "name": "x", "value": 1, "step": None},
        {"event": "news", "time": 1},
    ],
)
def test_the_check_can_fail(event: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        check_event(json.dumps(event))
    assert list(CLOSED.iter_errors(event))


def test_all_modes_tell_who_they_are(run: Runner, rows: Path, tmp_path: Path) -> None:
    noisy = spec_of("noisy")
    common = ("--input", rows, "--model", tmp_path / "m", "--log-format", "json", "--run-id", "r7")
    for mode, more in (("train", ()), ("evaluate", ()), ("score", ("--output", tmp_path / "s"))):
        outcome = run(mode, *common, *more, spec=noisy, environment={"MEALKIT_IMAGE": "host/noisy@sha256:1"})
        assert outcome.code == 0, outcome.err
        head = outcome.events[0]
        assert (head["mode"], head["run_id"], head["image"]) == (mode, "r7", "host/noisy@sha256:1")
        assert head["recipe"] == {"name": "noisy", "version": "1.0.0", "spec_digest": noisy.digest}
    failed = run("score", *common, "--batch-rows", "none", "--output", tmp_path / "s", spec=noisy)
    assert [event["event"] for event in failed.events] == ["run", "error", "result"]
    assert failed.events[0]["run_id"] == ""


@pytest.mark.parametrize("form", ["json", "text"])
def test_nothing_else_comes_to_standard_output(noisy: Start, form: str) -> None:
    process = noisy("print", form=form)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    if form == "json":
        check_stream(out)
    else:
        assert out.startswith("train noisy 1.0.0: succeeded")
    for text in ("printed", "forged", "written to 1", "through the old object", "by a C library", "by a child"):
        assert text in err
        assert text not in out


def test_numbers_and_texts_that_json_has_not(noisy: Start) -> None:
    process = noisy("odd")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    events = check_stream(out)
    assert len(out.splitlines()) == len(events), "no text ends a line for whoever cuts at Unicode's line breaks"
    assert [event["value"] for event in events if event["event"] == "metric"] == [None, None, None, 1e30]
    messages = [event["message"] for event in events if event["event"] == "log"]
    assert messages[0] == "x\u2028y\u2029z\x85 \\ud800 \U0001f958 \x00\x1b[31m"
    assert messages[1].endswith("characters more)")
    assert len(messages[1]) < LONGEST + 50
    assert "heard" in messages
    assert "not heard" not in messages


def test_threads_do_not_mix_their_lines(noisy: Start) -> None:
    process = noisy("threads")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = [event["message"].split() for event in check_stream(out) if event["event"] == "log"]
    assert sorted((name, int(number)) for name, number, _ in told) == [(n, i) for n in "abcd" for i in range(40)]
    assert all(text == name * 5_000 for name, _, text in told)


def test_a_reader_that_goes_away(noisy: Start, tmp_path: Path) -> None:
    process = noisy("flood", "--result", tmp_path / "result.json")
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 0, err
    assert (tmp_path / "model" / "model.json").exists(), "the work is not in vain"
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "succeeded"
    assert "BrokenPipe" not in err


def test_a_slow_reader_gets_all(noisy: Start) -> None:
    process = noisy("flood")
    time.sleep(0.5)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert sum(event["event"] == "log" for event in check_stream(out)) == 4_000


def test_a_reader_that_never_reads_cannot_hold_up_a_stop(noisy: Start, tmp_path: Path) -> None:
    process = noisy("flood", "--result", tmp_path / "result.json")
    deadline = time.monotonic() + 60
    # It has filled the pipe once it sleeps in poll; whether it got there is seen by the model's staging folder.
    while not list(tmp_path.glob(".mealkit-staging*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    process.terminate()
    begun = time.monotonic()
    code = process.wait(30)
    assert time.monotonic() - begun < 6
    assert code == 143
    assert not (tmp_path / "model").exists()
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "stopped"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_under_the_events(rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(spec_of("noisy").to_json())
    environment = {**os.environ, "MEALKIT_RECIPE": str(file), "PYTHONPATH": str(RECIPES / "noisy")}
    command = [sys.executable, "-m", "mealkit_runtime", "train", "--input", rows, "--model", tmp_path / "m"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*map(str, command), "--log-format", "json"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "model.json").exists()
    assert "events could not be written: No space left on device" in done.stderr


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.text()),
    max_leaves=20,
)


@given(VALUES)
def test_any_value_is_one_line_of_json(value: object) -> None:
    line = json_line({"value": plain(value, str)})
    assert len(line.splitlines()) == 1
    assert line.encode("utf-8").decode("utf-8") == line
    json.loads(line, parse_constant=lambda name: pytest.fail(name))
    if isinstance(value, float) and math.isfinite(value):
        assert json.loads(line)["value"] == value


def test_plain_values() -> None:
    deep: list[object] = []
    deep.append(deep)
    assert plain({"n": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True), "nan": np.float64("nan")}, str) == {
        "n": 3, "f": 0.5, "b": True, "nan": None,
    }  # fmt: skip
    assert json_line({"value": plain(deep, str)}).endswith("\n")
    assert plain(Path("a"), str.upper) == "A"
    assert plain({2: {"b", "a"}}, str) == {"2": ["a", "b"]}


def test_the_text_form_takes_anything(run: Runner, rows: Path, tmp_path: Path) -> None:
    argv = ("train", "--input", rows, "--model", tmp_path / "m", "--set", "train=odd", "--log-format", "text")
    outcome = run(*argv, spec=spec_of("noisy"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("train noisy 1.0.0: succeeded")
    assert "nan  (step 3)" in outcome.err
