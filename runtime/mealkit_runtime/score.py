"""Mode ``score``: read a dataset batch by batch, score each, and add one batch of output rows to a dataset."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mealkit.errors import SettingsError
from mealkit.recipe import Recipe, author_code
from mealkit.saver import BatchRecord, DataSaver

from .batch import ParquetBatchSaver, earlier_facts
from .blas import one_thread
from .dataset import Source, empty, row_count
from .run import Run

if TYPE_CHECKING:
    from .bad_row import BadRows
    from .crew import Crew
    from .model import StoredModel
    from .schema import Schema
    from .scoring import Scoring

_Scored = Generator[tuple[int, Any], None, None]
"""Rows read and output rows of each batch."""


def score(run: Run) -> None:
    """Score a dataset; memory is bounded by the batch, whatever the dataset's size."""
    if run.config.engine is not None:
        from .engine import need_distributed

        need_distributed()
        from .cluster_score import score_on_cluster

        score_on_cluster(run)
        return
    with one_thread(), contextlib.ExitStack() as resources:
        _score(run, resources)


def _score(run: Run, resources: contextlib.ExitStack) -> None:
    source, further = run.locate()
    stored = run.open_model()
    hyperparameters = run.decode(stored.facts.get("hyperparameters") or {})
    crew: Crew | None = None
    if run.config.workers != 1:
        from .crew import Crew, crew_size

        if (size := crew_size(run.config.workers)) > 1:
            # The first worker process imports the recipe while this one does.
            crew = resources.enter_context(contextlib.closing(Crew(run, stored, further, size)))
    recipe = run.load_recipe()
    provenance = provenance_of(run, stored, source)
    saver = recipe.saver or ParquetBatchSaver(provenance, stopper=run.stopper, shard=run.config.shard, clock=run.clock)
    source = _part(run, recipe, source)
    context = run.context(hyperparameters, {})
    assert run.config.output is not None
    try:
        with run.author(f"{type(saver).__name__}.open"):
            record = saver.open(run.config.output, context)
        if record is not None:
            tell_existing(run, record, provenance)
            return
        from .cutting import Batches
        from .scoring import Scoring, input_schema, output_schema

        schema, output = input_schema(run.spec, recipe, stored.facts.get("columns")), output_schema(recipe)
        bad_rows = run.bad_rows()
        tables = Batches(run, source, schema, recipe.loader.keep_together, bad_rows)
        if crew is None:
            model = run.load_model(recipe, stored)
            context = run.context(hyperparameters, run.read_inputs(recipe, further))
            scored = here(run, Scoring(recipe, model, context, schema, output), tables)
        else:
            with run.stage("load"):
                crew.load()
            scored = crew.score(tables, ordered=not run.config.unordered)
        resources.enter_context(contextlib.closing(scored))
        stream(run, source, scored, saver, output, bad_rows)
        record = commit(run, saver, provenance)
    except BaseException:
        with run.stopper.cleaning():
            saver.abort()
        raise
    if record.existed:
        tell_existing(run, record, provenance)
    run.found["batch"] = asdict(record)


def provenance_of(run: Run, stored: StoredModel, source: Source) -> dict[str, Any]:
    """What a batch's record tells beside its files."""
    return {
        "run_id": run.config.run_id,
        "created": run.found["started"],
        "recipe": run.recipe_facts,
        "image": run.image,
        "model": {"digest": stored.digest},
        "input": run.describe_input(source, whole=False),
    }


def commit(run: Run, saver: DataSaver, provenance: Mapping[str, Any]) -> BatchRecord:
    """Make the rows visible that were written, and before them the bad ones that are kept."""
    if isinstance(saver, ParquetBatchSaver):
        counts = {"rows": run.found["rows_read"], "rows_used": run.found["rows_used"]}
        saver.provenance = {**provenance, "input": {**provenance["input"], **counts}}
        saver.bad_rows = run.found.get("bad_rows") or {}
    with run.stage("commit"), run.stopper.shielded():
        run.commit_bad_rows()
        with author_code(f"{type(saver).__name__}.commit"):
            return saver.commit()


def _part(run: Run, recipe: Recipe, source: Source) -> Source:
    """What this run reads of the dataset: all of it, or a shard's part."""
    shard = run.config.shard
    if shard is None:
        return source
    if recipe.saver is not None:
        raise SettingsError(
            f"{type(recipe.saver).__name__} cannot make one batch of several shards",
            where="shard",
            hint="score without --shard, or leave the recipe's own saver out",
        )
    from .shard_source import part_of

    return part_of(source, shard, recipe.loader.keep_together)


def tell_existing(run: Run, record: BatchRecord, provenance: Mapping[str, Any]) -> None:
    """An earlier run with this id committed its batch: nothing is added, but tell if it was of other things."""
    run.found["batch"] = asdict(record)
    earlier = earlier_facts(record)
    other = [name for name in ("recipe", "model", "input") if _differs(earlier.get(name), provenance[name])]
    if other:
        run.warn(
            f"the batch of run {record.batch_id} was made from another {', '.join(other)}, and was left as it is",
            "give another --run-id to add a batch",
        )
    if earlier and not record.files:
        run.warn(
            f"the batch of run {record.batch_id} was committed before, and another program has removed its rows since",
            f"to add it again: mealkit batches {record.dataset} undo {record.batch_id}, then this run",
        )


def _differs(before: Any, now: Any) -> bool:
    keys = ("spec_digest", "digest", "fingerprint", "query")
    return before is not None and any(before.get(key) != now.get(key) for key in keys)


def stream(
    run: Run, source: Source, scored: _Scored, saver: DataSaver, output: Schema | None, bad_rows: BadRows
) -> None:
    """Write what is scored, while the next batch is; count the rows, and see that they add up."""
    total = row_count(source)
    rows_used = rows_scored = 0
    begun = time.monotonic()
    run.reporter.stage("score", "started")
    with _writer(run, saver, output) as write:
        for read, rows in scored:
            rows_used += read
            rows_scored += len(rows)
            write(rows)
            del rows
            run.reporter.progress(rows_used + bad_rows.rows_bad, total, "row", time.monotonic() - begun)
    bad_rows.settle(rows_used, source.uri, part=run.config.shard is not None)
    if not bad_rows.rows_read and run.config.shard is None:
        raise empty(source)
    seconds = round(time.monotonic() - begun, 4)
    run.reporter.stage("score", "finished", seconds=seconds, rows=bad_rows.rows_read, scored=rows_scored)
    run.found["rows_scored"] = rows_scored


def here(run: Run, scoring: Scoring, tables: Iterable[Any], first: int = 0) -> _Scored:
    """Score in this process, while the next batches are read; ``first`` is the number of the first batch."""
    from .pipeline import Ahead

    ahead = Ahead(tables)
    try:
        for number, table in enumerate(ahead, first):
            read = len(table)
            with run.timed("score"), run.stopper.patient():
                rows = scoring.rows(number, table)
            del table
            yield read, rows
            del rows
    finally:
        ahead.close()


@contextlib.contextmanager
def _writer(run: Run, saver: DataSaver, output: Schema | None) -> Iterator[Callable[[Any], None]]:
    """What writes output rows: a saver of ours in a thread of its own, a recipe's in this one."""
    from .convert import ARROW
    from .pipeline import Behind
    from .schema import to_frame

    if isinstance(saver, ParquetBatchSaver):
        if output is not None and all(column.kind != "any" for column in output.columns):
            import pyarrow as pa

            saver.schema = pa.schema([pa.field(column.name, ARROW[column.kind]) for column in output.columns])

        def write_table(rows: Any) -> None:
            with run.timed("write"):
                saver.write_table(rows)

        with Behind(write_table) as behind:
            yield behind.put
        return

    def write(rows: Any) -> None:
        with run.timed("write"), run.author(f"{type(saver).__name__}.write"):
            saver.write(rows.to_pandas() if output is None else to_frame(rows, output))

    yield write
