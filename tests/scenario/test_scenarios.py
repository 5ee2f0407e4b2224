"""Runs the scenarios beside this file: what a person types, and what the command answers."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from workshop import MEALKIT, Workshop

from mealkit_builder.testing import MemoryRegistry

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))

WILD = {
    "DIGEST": "sha256:[0-9a-f]{64}",
    "TIME": r"\d+\.\d\d s",
    "SIZE": r"\d+(\.\d+)? (B|kB|MB)",
    "COMMIT": "[0-9a-f]{12}",
    "COUNT": r"\d+",
    "...": ".*",
}
"""Words in angle brackets in the expected output, and what they stand for."""


def steps(text: str) -> list[tuple[str, str]]:
    """``(command, expected output)`` of each line that begins with ``$``; other blocks begin with ``#``."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and not line.startswith("#"):
            command, output = found[-1]
            found[-1] = (command, f"{output}{line}\n")
    return [(command, output.strip("\n")) for command, output in found]


def pattern(expected: str, values: dict[str, str]) -> str:
    """The expected output as a regular expression."""
    for name, value in values.items():
        expected = expected.replace(f"<{name}>", value)
    escaped = re.escape(expected)
    for word, meaning in WILD.items():
        escaped = escaped.replace(re.escape(f"<{word}>"), meaning)
    return escaped


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, workshop: Workshop) -> None:
    here = workshop.folder / "here"
    here.mkdir()
    with MemoryRegistry(users={"ada": "lovelace", "eve": "peeks"}, readers=["eve"]) as registry:
        values = {"HERE": str(here), "REGISTRY": registry.host, "BASE": workshop.base}
        path_variable = f"{Path(MEALKIT).parent}:{workshop.environment['PATH']}"
        environment = {**workshop.environment, "PATH": path_variable, **values}
        for command, expected in steps(path.read_text(encoding="utf-8")):
            done = subprocess.run(
                ["bash", "-c", f"cd {shlex.quote(str(here))}; {command}"],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=60,
            )
            if command.startswith("cd ") and done.returncode == 0:
                here = (here / command[3:].strip()).resolve()
            said = done.stdout.rstrip("\n")
            if done.returncode != 0:
                said += f"\n[{done.returncode}]"
            wanted = pattern(expected, values)
            print(f"\n$ {command}\n{said}")
            assert re.fullmatch(wanted, said.strip("\n")), f"$ {command}\n--- expected\n{expected}\n--- got\n{said}"
