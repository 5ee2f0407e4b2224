"""The command's way out: quick, and nothing that was to be done at the end is left out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CODE = """
import atexit, sys, threading, time
import mealkit_builder.cli as cli
from mealkit_builder import command

class Farewell:
    def __del__(self):
        print("taken apart", file=sys.stderr)

def later():
    time.sleep(0.3)
    print("thread ended")

def main():
    atexit.register(print, "at the end")
    print("said", end=" ")
    {work}

cli.main = main
cli.kept = Farewell()
command.run()
"""


def leave(work: str) -> subprocess.CompletedProcess[str]:
    code = _CODE.replace("{work}", work)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=buffered
    )


@pytest.mark.parametrize("status", [0, 2, 143])
def test_status_output_and_what_is_registered(status: int) -> None:
    done = leave(f"sys.exit({status})")
    assert (done.returncode, done.stdout) == (status, "said at the end\n")
    assert done.stderr == ""  # the interpreter was not taken apart


def test_threads_are_waited_for() -> None:
    done = leave("threading.Thread(target=later).start(); sys.exit(3)")
    assert done.returncode == 3
    assert "thread ended" in done.stdout
    assert done.stdout.endswith("at the end\n")


def test_an_error_is_the_interpreters_to_tell() -> None:
    done = leave("raise RuntimeError('broken')")
    assert done.returncode == 1
    assert "RuntimeError: broken" in done.stderr
    assert "at the end" in done.stdout


def test_output_that_nobody_takes() -> None:
    done = leave("import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w); sys.exit(0)")
    assert done.returncode == 120  # with which Python ends when its output cannot be flushed
    assert "BrokenPipeError" in done.stderr
