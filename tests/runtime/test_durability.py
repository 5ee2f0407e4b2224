"""What a power cut or a kill may take: the order in which batches reach the disk, and a kill before each step."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mealkit_runtime.batches import find_batch

SYSTEM_CALL = re.compile(
    r"^(?:\[pid +\d+\] |\d+ +)?(fsync|fdatasync|rename|renameat2?|link|linkat|openat|mkdir)\((.*)\) = (-?\d+)"
)


def traced(folder: Path, *argv: str) -> list[tuple[str, str]]:
    """The calls that matter for durability, each with its path relative to ``folder``."""
    assert shutil.which("strace"), "strace is in the apt list of .ci/run"
    log = folder / "strace.txt"
    subprocess.run(
        ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir", "-o", log,
         sys.executable, *argv],
        check=True, capture_output=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    found = []
    for line in log.read_text().splitlines():
        match = SYSTEM_CALL.match(line)
        if match and int(match[3]) >= 0:
            paths = re.findall(r'"([^"]*)"|<([^<>]*)>', match[2])
            names = [first or second for first, second in paths]
            inside = [str(Path(name).relative_to(folder)) for name in names if name.startswith(str(folder))]
            if inside:
                found.append((match[1], " -> ".join(inside)))
    return found


def place(calls: list[tuple[str, str]], kind: str, pattern: str) -> int:
    """Where the only call of a kind stands."""
    found = [
        number for number, (name, path) in enumerate(calls) if name.startswith(kind) and re.fullmatch(pattern, path)
    ]
    assert len(found) == 1, (kind, pattern, calls)
    return found[0]


def test_what_a_power_cut_may_take_is_forced_to_the_disk_in_order(tmp_path: Path) -> None:
    calls = traced(tmp_path, "batch_runs.py", str(tmp_path / "deep" / "s"), "run")
    staging = r"deep/s/\.mealkit-staging/run-\w+"
    in_order = [
        place(calls, "mkdir", "deep"),
        place(calls, "fsync", r"\."),  # the name of the folder that was made
        place(calls, "mkdir", "deep/s"),
        place(calls, "fsync", "deep"),
        place(calls, "fsync", staging + "/part-00000.parquet"),
        place(calls, "fsync", staging + "/_batch.json"),
        max(number for number, call in enumerate(calls) if call[0] == "fsync" and re.fullmatch(staging, call[1])),
        place(calls, "rename", staging + " -> deep/s/batch_id=run"),
        max(number for number, call in enumerate(calls) if call == ("fsync", "deep/s")),
    ]
    assert in_order == sorted(in_order)
    assert find_batch(str(tmp_path / "deep" / "s"), "run").rows == 3


def test_a_delta_table_is_forced_too(tmp_path: Path) -> None:
    calls = traced(tmp_path, "batch_runs.py", f"delta:{tmp_path}/t", "run")
    entry = "t/_delta_log/0{20}.json"
    in_order = [
        place(calls, "fsync", r"t/batch_id=run/part-00000-\w+\.parquet"),
        place(calls, "fsync", "t/batch_id=run"),
        place(calls, "link", f"{entry}#1 -> {entry}"),
        place(calls, "fsync", entry),
        place(calls, "fsync", "t/_delta_log"),
    ]
    assert in_order == sorted(in_order)
    ours = [path for kind, path in calls if kind in ("fsync", "fdatasync") and "_delta_log" in path]
    assert len(ours) == 2, "deltalake forces nothing itself: if it does one day, say so in delta_batch.py"


@pytest.mark.parametrize(("kind", "shards"), [("", 1), ("", 2), ("delta:", 2)])
def test_killed_before_every_step_and_run_again(tmp_path: Path, kind: str, shards: int) -> None:
    done = subprocess.run(
        [sys.executable, "kill_runs.py", f"{kind}{tmp_path}/s", str(shards)],
        capture_output=True, text=True, timeout=240, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["steps"] >= 8
    assert sorted(told["visible"]) == told["visible"], "nothing is visible before the commit, and all of it after"
    assert told["visible"][0] == 0
