"""The machine and the programs that a benchmark ran on and with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mealkit


@dataclass(frozen=True)
class Machine:
    """What a reader has to know to judge the figures.

    Attributes:
        processor: Its model.
        cores: How many of them this process may use.
        memory: Bytes.
        kernel: Its release.
        versions: Program to version.
        commit: The commit of this checkout, with ``-dirty`` when files differ.
    """

    processor: str
    cores: int
    memory: int
    kernel: str
    versions: Mapping[str, str]
    commit: str


def read_machine(docker: str) -> Machine:
    """Ask this machine; ``docker`` is the program that the benchmark uses."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _text("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = {
        "mealkit": mealkit.__version__,
        "Python": platform.python_version(),
        "docker engine": _say(docker, "version", "--format", "{{.Server.Version}}"),
        "docker client": _say(docker, "version", "--format", "{{.Client.Version}}"),
        "docker-registry": _say("docker-registry", "--version").split(" ")[-1],
        "uv": _say(str(Path(sys.executable).with_name("uv")), "--version").removeprefix("uv ").split(" ")[0],
    }
    commit = _say("git", "rev-parse", "--short", "HEAD") + ("-dirty" if _say("git", "status", "--porcelain") else "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(model, len(os.sched_getaffinity(0)), memory, platform.release(), versions, commit)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _say(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
