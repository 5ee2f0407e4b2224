"""Kills a saver before each of its steps on the disk, one after the other, and tells what was left and what came next.

Run as a program, so that it can fork: ``python kill_runs.py DATASET SHARDS``. Prints a JSON object.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake  # noqa: F401 - before the forks, which share it
from batch_runs import save

from mealkit.errors import UnreadableDataError
from mealkit_runtime.batches import list_batches, verify_batch

STEPS = ("open", "os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "shutil.rmtree")


def child(work: Callable[[], None]) -> int:
    """Do it in a process of its own; the signal that ended it, or 0."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "see above"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def kill_before(step: int, folder: str) -> None:
    """End this process before its n-th step in a folder."""
    left = [step]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STEPS or not any(folder in str(argument) for argument in arguments):
            return
        if event == "open" and not int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def seen(dataset: str) -> list[str]:
    """What a reader sees: the batches, each of which must be whole."""
    try:
        records = list_batches(dataset)
    except UnreadableDataError:
        return []
    for record in records:
        assert not verify_batch(dataset, record), record
    return [f"{record.batch_id} {record.rows}" for record in records]


def seen_by_another(dataset: str) -> list[str]:
    """As :func:`seen`, in a process of its own: what deltalake starts in this one, its children could not use."""
    reader, writer = os.pipe()
    child(lambda: os.write(writer, json.dumps(seen(dataset)).encode()) and None)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return list(json.load(pipe))


def main(dataset: str, shards: int) -> dict[str, Any]:
    """Kill before every step of the last shard (of the only process); then run all again."""
    folder = dataset.removeprefix("delta:")
    names = [None] if shards == 1 else [f"{index}/{shards}" for index in range(shards)]
    told: list[list[str]] = []
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        for name in names[:-1]:
            child(lambda name=name: save(dataset, "run", [1], name))

        def killed() -> None:
            kill_before(len(told), folder)
            save(dataset, "run", [1], names[-1])

        if not child(killed):
            break
        told.append(seen_by_another(dataset))
        for name in reversed(names):
            child(lambda name=name: save(dataset, "run", [1], name))
        after = seen_by_another(dataset)
        assert after == [f"run {shards}"], (len(told), after)
        data = [path for path in Path(folder).rglob("*.parquet") if path.is_file()]
        hidden = [str(path.relative_to(folder)) for path in data if path.relative_to(folder).parts[0] != "batch_id=run"]
        assert not hidden, (len(told), hidden)
    return {"steps": len(told), "visible": [len(names) for names in told]}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        save(scratch, "run")  # imports what the forks share
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
