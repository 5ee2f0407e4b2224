"""The figures of scoring as tables for a page, and which of those to reach were reached."""

from __future__ import annotations

from collections.abc import Iterator

BEGIN = "<!-- scoring: written by `python -m bench.scoring --markdown`; do not edit -->"
END = "<!-- end of scoring -->"

MIB = 2**20


def render(report: dict) -> str:
    """All tables."""
    lines = [
        f"Measured on {report['date']} with `{report['command']}`, in {report['seconds'] / 60:.0f} minutes:",
        f"{report['machine']}.",
        "",
    ]
    if "sides" in report:
        lines += [*_rates(report), ""]
    if "growth" in report:
        lines += [*_growth(report["growth"]), ""]
    lines += [*_targets(report), ""]
    return "\n".join(lines)


def _rates(report: dict) -> Iterator[str]:
    rows, sides = report["rows"], report["sides"]
    loop = next(iter(sides.values()))["seconds"]
    yield f"{rows:,} rows, 8 features, batches of {report['batch_rows']:,}; medians of {report['repeats']} rounds."
    yield ""
    yield "| Parquet → Parquet, start to end | seconds | rows/s | of the loop's rate | peak of the largest process |"
    yield "|---|---|---|---|---|"
    for side, found in sides.items():
        rate = rows / found["seconds"]
        yield (
            f"| {side} | {found['seconds']:.2f} | {rate:,.0f} | {loop / found['seconds']:.2f}× "
            f"| {found['peak'] / MIB:,.0f} MiB |"
        )


def _growth(found: list[dict]) -> Iterator[str]:
    yield "| rows | seconds | µs a row, without the start | peak |"
    yield "|---|---|---|---|"
    for one in found:
        each = one["loop"] / one["rows"] * 1e6
        yield f"| {one['rows']:,} | {one['seconds']:.1f} | {each:.2f} | {one['peak'] / MIB:,.0f} MiB |"


def _targets(report: dict) -> Iterator[str]:
    yield "| to reach | measured |  |"
    yield "|---|---|---|"
    for what, measured, reached in _reached(report):
        yield f"| {what} | {measured} | {'yes' if reached else '**no**'} |"


def _reached(report: dict) -> Iterator[tuple[str, str, bool]]:
    if "sides" in report:
        sides = report["sides"]
        loop = next(iter(sides.values()))["seconds"]
        for number, least in (("1", 0.9), ("2", 1.7)):
            if (found := sides.get(f"mealkit, --workers {number}")) is not None:
                rate = loop / found["seconds"]
                cores = "one process" if number == "1" else "two cores"
                yield f"at least {least}× of the loop's rows/s on {cores}", f"{rate:.2f}×", rate >= least
        ratio = report["first_row"] / report["imports"]
        told = f"{report['first_row']:.2f} s, {report['imports']:.2f} s: {ratio:.2f}×"
        yield "first scored row in at most 1.15× of importing the libraries", told, ratio <= 1.15
    if "growth" in report:
        first, last = report["growth"][0], report["growth"][-1]
        ratio = last["peak"] / first["peak"]
        what = f"peak memory for {last['rows']:,} rows within 1.2× of that for {first['rows']:,}"
        yield what, f"{ratio:.2f}×", ratio <= 1.2
        each = (last["loop"] / last["rows"]) / (first["loop"] / first["rows"])
        yield "cost grows linearly: seconds a row of the largest by those of the smallest", f"{each:.2f}", each <= 1.2
    if "checks" in report:
        share = 1 - report["checks"]["without"] / report["checks"]["with"]
        yield "checks of the row schema take at most 10 % of the scoring time", f"{share:.1%}", share <= 0.1
    if "delta" in report:
        more = report["delta"]["delta_commit"] - report["delta"]["folder_commit"]
        whole = report["delta"]["delta"] - report["delta"]["folder"]
        told = f"{more:.3f} s (the whole run: {whole:+.2f} s)"
        yield "a commit to a Delta table adds at most 0.2 s", told, more <= 0.2
    if "cluster" in report:
        found = report["cluster"]
        ratio = found["1"] / found["2"]
        told = f"{ratio:.2f}× ({found['1']:.1f} s, {found['2']:.1f} s; here, one process: {found['here']:.1f} s)"
        yield f"Dask on 2 workers at least 1.6× of one ({found['rows']:,} rows, a forest)", told, ratio >= 1.6
