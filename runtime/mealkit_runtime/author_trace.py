"""The traceback of an author's exception, from the recipe's own code on: it is what the author must mend."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from mealkit.errors import MealkitError


class Elsewhere(Exception):
    """Stands for an exception of a worker process; its only argument is the traceback that was told there."""


def author_trace(error: BaseException) -> str:
    """Lines for the author; empty when the error was not caused by the recipe's code."""
    cause = error.__cause__
    if isinstance(cause, Elsewhere):
        return str(cause.args[0])
    if cause is None or isinstance(cause, MealkitError):
        return ""
    ours = (str(Path(__file__).parent), str(Path(sys.modules["mealkit"].__file__ or "").parent))
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not frame.filename.startswith("<frozen")]
    while frames and frames[0].filename.startswith(ours):
        frames = frames[1:]
    if not frames:
        return ""
    lines = ["Traceback of the recipe's code:\n", *traceback.format_list(frames)]
    return "".join([*lines, *traceback.format_exception_only(cause)])
