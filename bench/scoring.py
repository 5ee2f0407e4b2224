"""``python -m bench.scoring``: how fast ``score`` is, beside loops that one would write by hand, and what it takes."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from . import scale
from .kitchen import Kitchen
from .machine import read_machine
from .scoring_report import BEGIN, END, render
from .timing import Timed, settle

ROWS = 10_000_000
_WHERE = Path("/var/tmp")  # a real disk: /tmp may be memory

PARTS = {
    "r": "rows a second, beside a loop, pandas and mlflow",
    "m": "memory and time as the dataset grows",
    "c": "what the checks of the row schema take",
    "d": "what a commit to a Delta table adds",
    "k": "a Dask cluster of one and of two workers",
}


@click.command()
@click.option("--rows", default=ROWS, show_default=True, help="Rows to score.")
@click.option("--repeats", default=3, show_default=True, help="Rounds of all sides; medians are shown.")
@click.option("--batch-rows", default=100_000, show_default=True, help="Rows at once, ours and the loop's.")
@click.option("--workers", default="1,2", show_default=True, help="Numbers of worker processes to take.")
@click.option("--mlflow/--no-mlflow", default=True, help="Also mlflow's pyfunc, in a virtual environment made for it.")
@click.option("--pandas/--no-pandas", "with_pandas", default=True, help="Also read, predict and write with pandas.")
@click.option("--largest", default=100_000_000, show_default=True, help="Rows of the largest dataset in (m).")
@click.option(
    "--only",
    default=",".join(PARTS),
    show_default=True,
    help="; ".join(f"{key}: {what}" for key, what in PARTS.items()),
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was measured to this file.")
@click.option("--markdown", type=click.Path(path_type=Path, exists=True), help="Put the tables into this page.")
def main(
    rows: int, repeats: int, batch_rows: int, workers: str, mlflow: bool, with_pandas: bool, largest: int, only: str,
    json_file: Path | None, markdown: Path | None,
) -> None:  # fmt: skip
    """Score the same rows with mealkit, a pyarrow + scikit-learn loop, pandas, and mlflow; in turn, and compare."""
    wanted, begun = only.split(","), time.monotonic()
    report: dict = {
        "command": " ".join(["python -m bench.scoring", *sys.argv[1:]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "rows": rows,
        "batch_rows": batch_rows,
        "repeats": repeats,
    }
    with tempfile.TemporaryDirectory(prefix="mealkit-scoring-", dir=_WHERE) as name:
        folder = Path(name)
        kitchen = Kitchen(folder / "light", rows, batch_rows)
        if "r" in wanted:
            report |= _rates(kitchen, repeats, workers, mlflow=mlflow, with_pandas=with_pandas)
        if "m" in wanted:
            report["growth"] = scale.growth(kitchen, largest)
        if "c" in wanted:
            bare = Kitchen(folder / "bare", rows, batch_rows, schema=False)
            report["checks"] = scale.checks(kitchen, bare, repeats)
        if "d" in wanted:
            report["delta"] = scale.delta(kitchen, 2 * repeats + 1)
        if "k" in wanted:
            heavy = Kitchen(folder / "heavy", rows // 25, rows // 500, trees=100, group=rows // 500)
            report["cluster"] = scale.cluster(heavy, repeats)
    report["seconds"] = time.monotonic() - begun
    machine = read_machine("docker")
    report["machine"] = (
        f"{machine.processor}, {machine.cores} cores, {machine.memory >> 30} GiB; commit {machine.commit}"
    )
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    text = render(report)
    if markdown is not None:
        page = markdown.read_text(encoding="utf-8")
        before, begin, rest = page.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise click.ClickException(f"{markdown} has no place for results: it needs the lines\n{BEGIN}\n{END}")
        markdown.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")
    click.echo(text)


def _rates(kitchen: Kitchen, repeats: int, workers: str, *, mlflow: bool, with_pandas: bool) -> dict:
    sides = {"loop of pyarrow and scikit-learn": kitchen.loop()}
    sides |= {f"mealkit, --workers {number}": kitchen.score("--workers", number) for number in workers.split(",")}
    if with_pandas:
        sides["pandas: read, predict, write"] = kitchen.pandas()
    if mlflow:
        sides["mlflow pyfunc"] = kitchen.mlflow()
    found: dict[str, list[Timed]] = {side: [] for side in sides}
    imports, first = [], []
    for number in range(repeats):
        click.secho(f"round {number + 1} of {repeats}", bold=True, err=True)
        for side, command in sides.items():
            kitchen.clear()
            settle()
            timed = kitchen.run(command)
            found[side].append(timed)
            click.echo(f"  {side:<34} {timed.seconds:7.2f} s  {timed.peak >> 20:6,} MiB", err=True)
    for _ in range(2 * repeats + 1):
        imports.append(kitchen.imports())
        first.append(kitchen.first_row())
    return {
        "imports": scale.median(imports),
        "first_row": scale.median(first),
        "sides": {
            side: {
                "seconds": scale.median([timed.seconds for timed in times]),
                "peak": scale.median([timed.peak for timed in times]),
            }
            for side, times in found.items()
        },
    }


if __name__ == "__main__":
    main()
