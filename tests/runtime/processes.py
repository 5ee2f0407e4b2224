"""The processes of this machine, as the kernel tells of them."""

from __future__ import annotations

import time
from pathlib import Path


def state(pid: int) -> str:
    """``R``, ``S``, ``T`` (stopped), ``t`` (by a tracer), ``Z`` (only its remains are there), …; X: it is gone."""
    return (_facts(pid) or "X")[0]


def session(pid: int) -> int:
    """The session that a process belongs to."""
    found = _facts(pid)
    return int(found[3]) if found else 0


def everyone() -> list[int]:
    """All processes."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def alive(pid: int) -> bool:
    """Whether a process is there, and no mere remains that its parent has not looked at."""
    return state(pid) not in "ZX"


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [
            int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
        ]
    except OSError:
        return []


def gone(pids: list[int], seconds: float = 30) -> bool:
    """Whether processes end within a while."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def _facts(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
