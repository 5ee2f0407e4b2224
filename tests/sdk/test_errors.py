"""The error tree: codes are unique, the drawing in the docstring is true, rendering is stable."""

from __future__ import annotations

import errno
import json
import re

import pytest

from mealkit import errors
from mealkit.errors import MealkitError, RetryableError, SettingsError, Stopped, storage_error


def tree(root: type[MealkitError] = MealkitError) -> list[type[MealkitError]]:
    # Tests and other distributions may add their own; this is about the SDK's.
    children = [cls for cls in root.__subclasses__() if cls.__module__ == errors.__name__]
    return [root, *(found for child in children for found in tree(child))]


def test_codes_are_unique_and_lower_case() -> None:
    codes = [cls.code for cls in tree()]
    assert len(codes) > 20
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert all("code" in vars(cls) for cls in tree())


def test_the_drawn_tree_is_the_tree() -> None:
    drawn: dict[str, tuple[str, int]] = {}
    above: list[tuple[int, str, int]] = []
    for line in str(MealkitError.__doc__).splitlines():
        match = re.match(r"([ │├└─]*)([A-Z]\w+) +(?:\[(\d+)\])?", line)
        if not match or not (line.strip().startswith(("├", "└", "│")) or match[2] == "MealkitError"):
            continue
        depth = len(match[1])
        above = [entry for entry in above if entry[0] < depth]
        parent, inherited = (above[-1][1], above[-1][2]) if above else ("Exception", 1)
        status = int(match[3]) if match[3] else inherited
        drawn[match[2]] = (parent, status)
        above.append((depth, match[2], status))
    actual = {cls.__name__: (cls.__bases__[0].__name__, cls.exit_code) for cls in tree()}
    assert drawn == actual


def test_exit_codes_tell_kinds_apart() -> None:
    direct = [cls for cls in MealkitError.__subclasses__() if cls.__module__ == errors.__name__]
    statuses = [cls.exit_code for cls in direct]
    assert len(set(statuses)) == len(statuses)
    assert all(1 < status < 126 or status == 143 for status in statuses)


def test_what_may_be_tried_again() -> None:
    passing = {cls for cls in RetryableError.__subclasses__() if cls.__module__ == errors.__name__}
    assert {cls for cls in tree() if cls.retryable} == {RetryableError, Stopped, *passing}


def test_rendering_and_json() -> None:
    error = SettingsError("bad rate", where="hyperparameters.rate", hint="use 0.1")
    assert error.render() == "error[settings]: bad rate\n  at: hyperparameters.rate\nhint: use 0.1"
    assert MealkitError("x").render() == "error[error]: x"
    assert json.loads(json.dumps(error.to_json())) == {
        "code": "settings",
        "message": "bad rate",
        "where": "hyperparameters.rate",
        "hint": "use 0.1",
        "retryable": False,
        "exit_code": 2,
    }
    assert str(error) == "bad rate"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EMFILE])
def test_an_error_of_the_disk_has_a_hint(number: int) -> None:
    error = storage_error(OSError(number, "text", "/a/file"), "cannot write the model")
    assert error.message.startswith("cannot write the model: ")
    assert error.where == "/a/file"
    assert error.hint
    assert error.exit_code == 8
