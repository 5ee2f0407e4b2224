"""Mode ``score``: read a dataset batch by batch, score each, and add one batch of output rows to a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mealkit.errors import RecipeError, SchemaError, SettingsError
from mealkit.recipe import Recipe, author_code
from mealkit.recipe import score as score_frame
from mealkit.saver import BatchRecord, DataSaver

from .batch import ParquetBatchSaver, earlier_facts
from .dataset import Source, empty, pieces, row_count
from .run import Run

if TYPE_CHECKING:
    from mealkit.context import Context

    from .schema import Schema


def score(run: Run) -> None:
    """Score a dataset; memory is bounded by the batch, whatever the dataset's size."""
    source, further = run.locate()
    stored = run.open_model()
    hyperparameters = run.decode(stored.facts.get("hyperparameters") or {})
    recipe = run.load_recipe()
    provenance: dict[str, object] = {
        "run_id": run.config.run_id,
        "created": run.found["started"],
        "recipe": run.recipe_facts,
        "image": run.image,
        "model": {"digest": stored.digest},
        "input": run.describe_input(source, whole=False),
    }
    saver = recipe.saver or ParquetBatchSaver(provenance, stopper=run.stopper, shard=run.config.shard, clock=run.clock)
    source = _part(run, recipe, source)
    context = run.context(hyperparameters, {})
    assert run.config.output is not None
    try:
        with run.author(f"{type(saver).__name__}.open"):
            record = saver.open(run.config.output, context)
        if record is not None:
            _tell_existing(run, record, provenance)
            return
        model = run.load_model(recipe, stored)
        context = run.context(hyperparameters, run.read_inputs(recipe, further))
        rows_read, rows_scored = _stream(run, recipe, model, context, source, saver, stored.facts.get("columns"))
        if isinstance(saver, ParquetBatchSaver):
            saver.provenance = {**provenance, "input": {**run.found["input"], "rows": rows_read}}
        with run.stage("commit"), run.stopper.shielded(), author_code(f"{type(saver).__name__}.commit"):
            record = saver.commit()
    except BaseException:
        with run.stopper.shielded():
            saver.abort()
        raise
    if record.existed:
        _tell_existing(run, record, provenance)
    run.found["rows_scored"] = rows_scored
    run.found["batch"] = asdict(record)


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


def _tell_existing(run: Run, record: BatchRecord, provenance: dict[str, object]) -> None:
    """An earlier run with this id committed its batch: nothing is added, but tell if it was of other things."""
    run.found["batch"] = asdict(record)
    earlier = earlier_facts(record)
    other = [name for name in ("recipe", "model", "input") if _differs(earlier.get(name), provenance[name])]
    if other:
        run.warn(
            f"the batch of run {record.batch_id} was made from another {', '.join(other)}, and was left as it is",
            "give another --run-id to add a batch",
        )


def _differs(before: Any, now: Any) -> bool:
    keys = ("spec_digest", "digest", "fingerprint", "query")
    return before is not None and any(before.get(key) != now.get(key) for key in keys)


def _stream(
    run: Run,
    recipe: Recipe,
    model: Any,
    context: Context[Any],
    source: Source,
    saver: DataSaver,
    columns: dict[str, Any] | None,
) -> tuple[int, int]:
    """Rows read and rows scored."""
    from .schema import schema_of, to_frame

    together = recipe.loader.keep_together
    seen = {name: facts for name, facts in (columns or {}).items() if name != run.spec.target}
    required = () if together is None else (together,)
    schema = schema_of(recipe.input, required, run.spec.keys, seen).without(run.spec.target)
    output = _output_schema(recipe, saver)
    total = row_count(source)
    rows_read = rows_scored = 0
    run.reporter.stage("score", "started")
    tables = _batches(run, source, schema, together)
    while True:
        with run.timed("read"):
            table = next(tables, None)
            if table is None:
                break
            frame = to_frame(table, schema)
        rows_read += len(frame)
        del table
        with run.timed("score"), run.stopper.patient():
            rows = score_frame(recipe, frame, model, context)
        with run.timed("write"):
            rows_scored += _write(run, rows, saver, output, type(recipe.scorer).__name__)
        del frame, rows
        run.reporter.progress(rows_read, total, "row")
    if not rows_read and run.config.shard is None:
        raise empty(source)
    run.found["rows_read"] = rows_read
    seconds = round(sum(run.seconds.get(name, 0.0) for name in ("read", "score", "write")), 4)
    run.reporter.stage("score", "finished", seconds=seconds, rows=rows_read, scored=rows_scored)
    return rows_read, rows_scored


def _batches(run: Run, source: Source, schema: Schema, together: str | None) -> Iterator[Any]:
    from .schema import Schema
    from .stream import batches

    def again() -> Iterator[Any]:
        column = tuple(column for column in schema.columns if column.name == together)
        return pieces(source, Schema(column, open=False), run.config.batch_rows)

    tables = pieces(source, schema, run.config.batch_rows)
    return batches(tables, run.config.batch_rows, together, again, source.uri)


def _output_schema(recipe: Recipe, saver: DataSaver) -> Schema | None:
    """The declared schema of the output; the default saver writes every batch in its types."""
    if recipe.output is None:
        return None
    import pyarrow as pa

    from .convert import ARROW
    from .schema import schema_of

    schema = schema_of(recipe.output)
    if isinstance(saver, ParquetBatchSaver) and all(column.kind != "any" for column in schema.columns):
        saver.schema = pa.schema([pa.field(column.name, ARROW[column.kind]) for column in schema.columns])
    return schema


def _write(run: Run, rows: Any, saver: DataSaver, output: Schema | None, scorer: str) -> int:
    """Check output rows against their schema and hand them to the saver."""
    import pyarrow as pa

    from .schema import conform, to_frame

    try:
        table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
        if output is not None:
            table = conform(table, output, "the scores")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RecipeError(
            f"{scorer}.score gave what no dataset can hold: {error}",
            where=f"{scorer}.score",
            hint="give columns of numbers, texts, times, true and false",
        ) from None
    except SchemaError as error:
        raise RecipeError(
            f"{scorer}.score gave what the output schema does not allow: {error.message}",
            where=error.where,
            hint="mend the scorer, or the output schema",
        ) from None
    if isinstance(saver, ParquetBatchSaver):
        saver.write_table(table)
    else:
        with run.author(f"{type(saver).__name__}.write"):
            saver.write(rows if output is None else to_frame(table, output))
    return len(table)
