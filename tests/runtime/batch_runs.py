"""Savers as processes of their own, and small things that the tests of batches share."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mealkit.context import Context
from mealkit.hyperparameters import Hyperparameters
from mealkit.saver import BatchRecord
from mealkit_runtime.batch import ParquetBatchSaver
from mealkit_runtime.shard import Shard

PROVENANCE: dict[str, Any] = {
    "run_id": "?",
    "created": "2026-11-23T10:00:00Z",
    "recipe": {"name": "churn", "version": "0.3.0", "spec_digest": "sha256:5"},
    "image": "host/churn@sha256:abcdef",
    "model": {"digest": "sha256:77"},
    "input": {"uri": "new.parquet", "files": 1, "fingerprint": "sha256:99"},
}


def begin(dataset: object, run_id: str, shard: str | None = None, **provenance: Any) -> Any:
    """A saver that was opened, or the record of the batch that was there."""
    part = None if shard is None else Shard(*map(int, shard.split("/")))
    saver = ParquetBatchSaver({**PROVENANCE, "run_id": run_id, **provenance}, shard=part)
    record = saver.open(str(dataset), Context(run_id=run_id, hyperparameters=Hyperparameters()))
    return saver if record is None else record


def finish(saver: Any, values: Sequence[Any] = (1, 2, 3)) -> BatchRecord:
    """Write rows and commit, unless the batch was there."""
    if isinstance(saver, BatchRecord):
        return saver
    import pyarrow as pa

    try:
        if len(values):
            saver.write_table(pa.table({"x": list(values)}))
        saver.provenance = {**saver.provenance, "input": {**saver.provenance["input"], "rows": len(values)}}
        return saver.commit()
    except BaseException:
        saver.abort()
        raise


def save(dataset: object, run_id: str, values: Sequence[Any] = (1, 2, 3), shard: str | None = None) -> BatchRecord:
    """Add a batch, or a shard of one."""
    return finish(begin(dataset, run_id, shard), values)


def tree(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _race(dataset: str, rounds: int, shards: list[str | None], me: int, barrier: Any, answers: Any) -> None:
    try:
        records = []
        for number in range(rounds):
            barrier.wait(60)
            rows = [me] * 3 if shards[me] is None else [int(str(shards[me]).split("/")[0])] * 3
            records.append(asdict(save(dataset, f"run-{number}", rows, shards[me])))
        answers.put((me, records))
    except BaseException as error:
        answers.put((me, f"{type(error).__name__}: {error}"))
        barrier.abort()
        raise


def race(dataset: object, rounds: int, shards: Sequence[str | None]) -> list[list[dict[str, Any]]]:
    """Processes that add the same batches at the same moments; what each of them was told, by round."""
    processes = multiprocessing.get_context("spawn")
    barrier, answers = processes.Barrier(len(shards)), processes.Queue()
    running = [
        processes.Process(target=_race, args=(str(dataset), rounds, list(shards), me, barrier, answers))
        for me in range(len(shards))
    ]
    for process in running:
        process.start()
    told = dict(answers.get(timeout=120) for _ in running)
    for process in running:
        process.join(60)
    wrong = [answer for answer in told.values() if isinstance(answer, str)]
    assert not wrong, wrong
    return [[told[me][number] for me in range(len(shards))] for number in range(rounds)]


if __name__ == "__main__":
    print(save(*sys.argv[1:3]))
