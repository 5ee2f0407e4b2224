"""Mode ``score`` on a cluster: the workers score parts of the dataset, and this run makes one batch of them.

A part is what a shard is: a worker writes its file and marks it as done, once. So a part whose worker died is scored
again by another, one that two workers had is there once, and a run that was interrupted goes on with what is missing.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mealkit.errors import SettingsError

from . import __version__
from .batch import ParquetBatchSaver
from .cluster import connect
from .cluster_task import Order, score_part
from .dataset import Source, empty
from .run import Run
from .score import provenance_of, tell_existing
from .shard import Shard
from .shard_board import Mark
from .shard_source import Share, shares_of

if TYPE_CHECKING:
    from mealkit.saver import BatchRecord

    from .bad_row import BadRows


def score_on_cluster(run: Run) -> None:
    """Score a dataset with the workers of ``--engine``.

    Raises:
        RetryableError: the cluster was lost; the same run goes on where this one was.
        SettingsError: the dataset cannot be divided, or the recipe has a saver of its own.
    """
    config = run.config
    source, further = run.locate()
    stored = run.open_model()
    hyperparameters = run.decode(stored.facts.get("hyperparameters") or {})
    recipe = run.load_recipe()
    if recipe.saver is not None:
        raise SettingsError(
            f"{type(recipe.saver).__name__} cannot make one batch of several workers' parts",
            where="engine",
            hint="score without --engine, or leave the recipe's own saver out",
        )
    shares = shares_of(source, recipe.loader.keep_together, config.batch_rows)
    if not shares:
        raise empty(source)
    if len(shares) == 1:
        run.warn(
            "the dataset cannot be divided: one worker scores all of it",
            "write it as Parquet with row groups, or as several files; with keep_together sorted by that column",
        )
    provenance = provenance_of(run, stored, source)
    saver = ParquetBatchSaver(provenance, None, run.stopper, Shard(0, len(shares)), run.clock, gathers=False)
    record = saver.find(str(config.output), config.run_id)
    if record is not None:
        tell_existing(run, record, provenance)
        return
    try:
        order = Order(
            spec=run.spec.to_json(),
            config=config,
            found={"seed": run.found.get("seed"), "started": run.found.get("started")},
            image=run.image,
            version=__version__,
            source=source,
            further=further,
            provenance=provenance,
            shares=len(shares),
            digest=stored.digest,
        )
        with connect(run) as cluster:
            saver.open(str(config.output), run.context(hyperparameters, {}))
            cluster.lend(order, stored)
            _score(run, cluster, shares)
        record = _commit(run, source, saver)
    except BaseException:
        with run.stopper.cleaning():
            saver.abort()
        raise
    if record.existed:
        tell_existing(run, record, provenance)
    run.found["batch"] = asdict(record)


def _score(run: Run, cluster: Any, shares: list[Share]) -> None:
    """Have all parts scored, and tell how far that is."""
    rows = [sum(share.rows.values()) for share in shares]
    total = sum(rows) if all(rows) else None
    begun = time.monotonic()

    def advance(done: int) -> None:
        run.reporter.progress(done, total, "row", time.monotonic() - begun)

    with run.stage("score") as notes:
        tasks = {
            cluster.submit(score_part, index, share, name=f"part {index + 1} of {len(shares)}"): index
            for index, share in enumerate(shares)
        }
        for index, read in cluster.done(tasks, advance):
            cluster.settle(index, rows[index] if read < 0 else read, advance)
        notes["parts"] = len(shares)


def _commit(run: Run, source: Source, saver: ParquetBatchSaver) -> BatchRecord:
    """Count what all parts told, and make the batch visible."""
    marks = saver.marks()
    if marks is not None:
        ledger = run.bad_rows()
        ledger.take_over(_merged(marks), _count(marks, "rows"))
        ledger.settle(_count(marks, "rows_used"), source.uri)
        run.found["rows_scored"] = sum(int(mark.part.rows or 0) for mark in marks if mark.part is not None)
        _name_quarantine(run, ledger)
    with run.stage("commit"):
        return saver.gather()


def _count(marks: list[Mark], name: str) -> int:
    return sum(int(mark.input.get(name) or 0) for mark in marks)


def _merged(marks: list[Mark]) -> dict[str, dict[str, int]]:
    """Bad rows by column and rule, of all parts."""
    merged: dict[str, dict[str, int]] = {}
    for mark in marks:
        for column, rules in mark.bad_rows.items():
            for rule, count in rules.items():
                merged.setdefault(column, {})[rule] = merged.get(column, {}).get(rule, 0) + int(count)
    return merged


def _name_quarantine(run: Run, ledger: BadRows) -> None:
    if run.config.quarantine is not None and ledger.rows_bad:
        run.found["quarantine"] = str(run.config.quarantine)
