"""Checks that what a run wrote to standard output is a stream of events, as their schema says."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from mealkit_runtime.events import SCHEMA_FILE

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def _closed() -> Draft202012Validator:
    """The schema, and nothing that it does not name: readers may leave that aside, we may not forget to publish it."""
    schema = json.loads(json.dumps(SCHEMA))
    # Not `stage`: what is counted in it stands beside; nor what is in a result.
    for name in ("run", "progress", "metric", "log", "warning", "error", "result"):
        schema["$defs"][name]["additionalProperties"] = False
    return Draft202012Validator(schema)


CLOSED = _closed()


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def check_event(line: str) -> dict[str, Any]:
    """The event of one line."""
    event = json.loads(line, parse_constant=_refuse)
    kind = event.get("event") if isinstance(event, dict) else None
    assert kind in SCHEMA["$defs"], f"no event: {line[:200]}"
    problems = [
        f"{'/'.join(map(str, problem.absolute_path))}: {problem.message[:500]}"
        for problem in CLOSED.evolve(schema={**CLOSED.schema, "oneOf": [{"$ref": f"#/$defs/{kind}"}]}).iter_errors(
            event
        )
        for problem in (problem.context or [problem])
    ]
    assert not problems, (problems, line[:2_000])
    return dict(event)


def check_stream(out: str, *, ended: bool = True) -> list[dict[str, Any]]:
    """All events of a run's standard output; ``ended`` asks for the last one, the result."""
    assert out.endswith("\n") or not out, "the last line is whole"
    events = [check_event(line) for line in out.split("\n")[:-1]]
    if events:
        assert [event["event"] for event in events].index("run") == 0, "the first event tells the run"
        assert sum(event["event"] == "run" for event in events) == 1
        if ended:
            assert events[-1]["event"] == "result"
            assert sum(event["event"] == "result" for event in events) == 1
    return events
