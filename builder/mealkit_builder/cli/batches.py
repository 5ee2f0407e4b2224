"""``mealkit batches``: the batches of a dataset that scoring wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ._options import json_option
from ._output import print_json, print_pairs, size_text, terminal_width
from ._quantity import Age

if TYPE_CHECKING:
    from mealkit_runtime.batch_record import Record
    from mealkit_runtime.batches import Fault


@click.group(invoke_without_command=True)
@click.argument("dataset")
@click.option("--verify", is_flag=True, help="Read every file, and compare its size and sha256 with what was written.")
@json_option
@click.pass_context
def batches(context: click.Context, dataset: str, verify: bool, as_json: bool) -> None:
    """List the batches of DATASET, oldest first; look at one, undo the last, clean up.

    DATASET is what `score --output` was given: a folder, s3://… or delta:… .

    \b
    Examples:
      mealkit batches scores/                       a line for each batch
      mealkit batches --verify scores/              are its files as they were written?
      mealkit batches scores/ show 2026-11-23       what a batch was made from
      mealkit batches scores/ undo                  take the last one away again
      mealkit batches scores/ clean --older-than 7d remove what killed runs and undone batches left
    """  # noqa: D301
    context.obj = dataset
    if context.invoked_subcommand is not None:
        return
    from mealkit_runtime.batches import list_batches, verify_batch

    found = list_batches(dataset)
    faults = {record.batch_id: verify_batch(dataset, record) for record in found} if verify else {}
    if as_json:
        print_json([{**record.to_json(), **_verdict(faults.get(record.batch_id))} for record in found])
    else:
        _table(found, faults)
    if any(faults.values()):
        sys.exit(_fail(faults))


@batches.command(short_help="Show what a batch is, and what it was made from.")
@click.argument("batch_id", metavar="ID")
@click.option("--verify", is_flag=True, help="Read its files, and compare size and sha256 with what was written.")
@json_option
@click.pass_obj
def show(dataset: str, batch_id: str, verify: bool, as_json: bool) -> None:
    """Show the batch ID: its rows and files, and the run, recipe, image, model and input that it was made from.

    \b
    Examples:
      mealkit batches scores/ show 2026-11-23
      mealkit batches scores/ show 2026-11-23 --verify --json
    """  # noqa: D301
    from mealkit_runtime.batches import find_batch, verify_batch

    record = find_batch(dataset, batch_id)
    faults = verify_batch(dataset, record) if verify else None
    if as_json:
        print_json({**record.to_json(), **_verdict(faults)})
    else:
        _details(record)
        if faults == []:
            click.echo("every file is as it was written")
    if faults:
        sys.exit(_fail({batch_id: faults}))


@batches.command(short_help="Take the last batch away from the readers.")
@click.argument("batch_id", metavar="[ID]", required=False)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def undo(dataset: str, batch_id: str | None, yes: bool, as_json: bool) -> None:
    """Take the batch that was committed last (or ID) away from all readers of the dataset.

    In a local folder it is moved to .mealkit-undone/ by one rename, and kept until `clean`. A Delta table gets a commit
    that removes its files; they stay, and older versions of the table with them, until the table is vacuumed. In object
    storage its record and files are removed for good. Afterwards the same run id can add its batch again.

    \b
    Examples:
      mealkit batches scores/ undo
      mealkit batches scores/ undo 2026-11-23 --yes
    """  # noqa: D301
    from mealkit.errors import UsageError
    from mealkit_runtime.batches import find_batch, last_batch, undo_batch

    record = last_batch(dataset) if batch_id is None else find_batch(dataset, batch_id)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"nobody can be asked whether the batch {record.batch_id!r} shall go", where=dataset, hint="add --yes"
            )
        click.confirm(f"Undo the batch {record.batch_id} of {record.rows:,} rows?", abort=True, err=True)
    undo_batch(dataset, record)
    if as_json:
        print_json({"undone": record.to_json()})
    else:
        click.echo(f"undone: {record.batch_id}, {record.rows:,} rows")


@batches.command(short_help="Remove what killed runs and undone batches left.")
@click.option(
    "--older-than",
    type=Age(),
    default="7d",
    show_default=True,
    metavar="AGE",
    help="Only what nothing was written to for so long; 0s: all, also what a shard that still runs has written.",
)
@click.option("--run-id", "batch_id", metavar="ID", help="Only what is of this run, however new.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; tell what would go.")
@json_option
@click.pass_obj
def clean(dataset: str, older_than: float, batch_id: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove what no reader sees: unfinished work of killed runs, shards that wait in vain, undone batches.

    \b
    Examples:
      mealkit batches scores/ clean --dry-run
      mealkit batches scores/ clean --run-id 2026-11-23
    """  # noqa: D301
    from mealkit_runtime.batches import clean as clean_dataset

    gone = clean_dataset(dataset, older_than=older_than, batch_id=batch_id, dry_run=dry_run)
    if as_json:
        items = [{"run_id": one.batch_id, "what": one.what, "size": one.size, "age": round(one.age)} for one in gone]
        print_json({"dry_run": dry_run, "removed": items})
        return
    for one in gone:
        click.echo(f"{one.batch_id}  {one.what}  {size_text(one.size)}")
    verb = "would remove" if dry_run else "removed"
    click.echo(f"{verb} {len(gone)} things, {size_text(sum(one.size for one in gone))}")


def _table(found: list[Record], faults: dict[str, list[Fault]]) -> None:
    rows = []
    for record in found:
        image = str(record.provenance.get("image") or "").rpartition("@")[2][:19]
        model = str(_facts(record, "model").get("digest") or "")[:19]
        verdict = "" if record.batch_id not in faults else "damaged" if faults[record.batch_id] else "verified"
        size = size_text(sum(part.size for part in record.parts))
        rows.append((record.batch_id, record.time[:19], f"{record.rows:,}", size, model, image, verdict))
    if not rows:
        click.echo("no batch")
        return
    rows.insert(0, ("batch", "committed", "rows", "size", "model", "image", "files" if faults else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    shown = [column for column in range(7) if widths[column]]
    # On a narrow terminal what `show` tells as well is left out.
    room = terminal_width()
    for column in (5, 4, 3):
        if room is not None and sum(widths[one] + 2 for one in shown) - 2 > room and column in shown:
            shown.remove(column)
    for number, row in enumerate(rows):
        cells = [row[one].rjust(widths[one]) if one in (2, 3) else row[one].ljust(widths[one]) for one in shown]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def _details(record: Record) -> None:
    recipe, model, source = (_facts(record, name) for name in ("recipe", "model", "input"))
    read = source.get("rows")
    print_pairs(
        (
            ("batch", record.batch_id),
            ("committed", record.time),
            ("rows", f"{record.rows:,}"),
            ("shards", record.provenance.get("shards")),
            ("recipe", f"{recipe.get('name', '')} {recipe.get('version', '')}".strip()),
            ("image", record.provenance.get("image")),
            ("model", model.get("digest")),
            ("input", source.get("uri")),
            ("query", source.get("query")),
            ("fingerprint", source.get("fingerprint")),
            ("rows read", f"{read:,}" if isinstance(read, int) else None),
        )
    )
    for part in record.parts:
        click.echo(f"  {record.path(part)}  {size_text(part.size)}  {part.sha256[:12]}".rstrip())


def _facts(record: Record, name: str) -> dict[str, Any]:
    facts = record.provenance.get(name)
    return facts if isinstance(facts, dict) else {}


def _verdict(faults: list[Fault] | None) -> dict[str, Any]:
    if faults is None:
        return {}
    return {"verified": not faults, "faults": [{"file": fault.file, "problem": fault.problem} for fault in faults]}


def _fail(faults: dict[str, list[Fault]]) -> int:
    """Tell what is wrong; the exit status."""
    from mealkit.errors import UnreadableDataError

    for found in faults.values():
        for fault in found:
            click.echo(f"{fault.file}: {fault.problem}", err=True)
    return UnreadableDataError.exit_code
