"""The README's first command on a clean clone: it sets up all it needs, and shows metrics, a batch and a URL."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_on_a_clean_clone(tmp_path: Path) -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    clone = tmp_path / "mealkit"
    subprocess.run(["git", "clone", "-q", f"file://{ROOT}", str(clone)], check=True, timeout=60)
    assert "./task demo" in (clone / "README.md").read_text()
    # Nothing of this environment: no virtual environment on the PATH, and an empty cache.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "MEALKIT_"))}
    environment = {**kept, "MEALKIT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        ["./task", "demo"], cwd=clone, env=environment, capture_output=True, text=True, timeout=560, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stdout + done.stderr
    assert re.search(r"^runner: (container|process)", done.stderr, re.MULTILINE)
    assert re.search(r"^ROC AUC  0\.\d+  \(the simulator's own probabilities: 0\.\d+\)", done.stdout, re.MULTILINE)
    assert re.search(r"^ visitor_id +session_id +probability", done.stdout, re.MULTILINE)
    assert re.fullmatch(r"oci:\S+@sha256:[0-9a-f]{64}", done.stdout.strip().splitlines()[-1])
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert changed.stdout == ""
