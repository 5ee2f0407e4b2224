"""The command's way in and out: a process that lives for a tenth of a second has no time to be tidy."""

from __future__ import annotations

import gc
import os
import sys
import threading


def run() -> None:
    """The ``mealkit`` command; does not return.

    Starting up makes 10^5 objects and no garbage, and taking them apart at the end helps nobody: looking for garbage
    in between and the interpreter's own farewell take a fifth of a build in which nothing changed.
    """
    gc.set_threshold(100_000)
    from .cli import main

    try:
        main()
    except SystemExit as leaving:
        if isinstance(leaving.code, int):
            _leave(leaving.code)
        raise


def _leave(status: int) -> None:
    """End the process at once, where nothing is left to wait for; return where the interpreter shall end it."""
    import atexit

    if threading.active_count() > 1:
        return
    try:
        sys.stdout.flush()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # a closed or broken output is the interpreter's to tell
        return
    os._exit(status)
