"""The report: a result as tables of Markdown, put between two marks of a page whose other words people write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from .result import Result
from .scenario import SCENARIOS, Sample
from .timing import median

BEGIN = "<!-- results: written by `./task bench --markdown`; do not edit -->"
END = "<!-- end of results -->"
_SIDES = ("mealkit", "docker classic", "docker buildkit")


def insert(page: Path, result: Result) -> None:
    """Put the tables into the page.

    Raises:
        ClickException: the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise click.ClickException(f"{page} has no place for results: it needs the lines\n{BEGIN}\n{END}")
    page.write_text(f"{before}{BEGIN}\n\n{render(result)}\n{END}{after}", encoding="utf-8")


def render(result: Result) -> str:
    """All tables."""
    parts = [*_about(result), "", *_times(result), "", *_traffic(result), *_targets(result), *_extras(result)]
    return "\n".join(parts) + "\n"


def _about(result: Result) -> Iterator[str]:
    machine = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items() if version)
    yield f"Measured on {result.date} with `{result.command}` at commit `{machine.commit}`, in"
    yield f"{result.seconds / 60:.1f} minutes: {machine.processor}, {machine.cores} cores,"
    yield f"{machine.memory / 2**30:.0f} GiB, Linux {machine.kernel}; {versions}."
    loads = [sample.load for sample in result.samples]
    spread = f"; {min(loads):.1f} to {max(loads):.1f} before single builds" if loads else ""
    yield f"Load average: {result.load[0]:.1f} at the start, {result.load[1]:.1f} at the end{spread}."
    yield f"The recipe needs {result.packages} wheels; (d) adds `{result.new_pin}`."


def _times(result: Result) -> Iterator[str]:
    rows = []
    for letter, title in SCENARIOS.items():
        cells = [_seconds([sample.seconds for sample in result.of(letter, side)]) for side in _SIDES]
        if any(cell != "–" for cell in cells):
            rows.append((f"({letter}) {title}", *cells, _faster(result, letter)))
    if not rows:
        return
    yield "Seconds from process start to recorded URL: median (fastest to slowest, number of builds)."
    yield ""
    yield from table(("", *_SIDES, "mealkit is faster by"), rows)


def _faster(result: Result, letter: str) -> str:
    ours = result.seconds_of(letter, "mealkit")
    theirs = [value for side in _SIDES[1:] if (value := result.seconds_of(letter, side)) is not None]
    return f"{min(theirs) / ours:.1f}×" if ours and theirs else "–"


def _seconds(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"**{_number(median(values))}** ({_number(min(values))} to {_number(max(values))}, {len(values)})"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _traffic(result: Result) -> Iterator[str]:
    rows = []
    for letter, title in SCENARIOS.items():
        cells = [_wire(result.of(letter, side)) for side in _SIDES]
        if any(cell != "–" for cell in cells):
            rows.append((f"({letter}) {title}", *cells))
    if rows:
        yield "What the registry saw: requests, bytes that it sent, bytes of new blobs and manifests (medians)."
        yield ""
        yield from table(("", *_SIDES), rows)
        yield ""


def _wire(samples: Sequence[Sample]) -> str:
    if not samples:
        return "–"
    requests = median([sample.traffic.requests for sample in samples])
    down, up = (median([getattr(sample.traffic, way) for sample in samples]) for way in ("down", "up"))
    return f"{requests:.0f} requests, {size(down)} down, {size(up)} up"


def _targets(result: Result) -> Iterator[str]:
    """The figures that were to be reached, and what came out."""
    rows: list[tuple[str, str, bool]] = []
    edit, cold = result.seconds_of("b", "mealkit"), result.seconds_of("a", "mealkit")
    if edit is not None:
        rows.append(("(b) in less than 0.3 s", f"{edit:.2f} s", edit < 0.3))
    for letter, least, ours in (("b", 2, edit), ("a", 4, cold)):
        theirs = [value for side in _SIDES[1:] if (value := result.seconds_of(letter, side)) is not None]
        if ours and theirs:
            ratio = min(theirs) / ours
            rows.append(
                (f"({letter}) at least {least}× faster than docker's better builder", f"{ratio:.1f}×", ratio >= least)
            )
    fresh = result.of("e", "mealkit")
    if fresh:
        fetched = max(int(str(sample.facts["wheels_downloaded"])) for sample in fresh)
        most = max(sample.traffic.up for sample in fresh)
        # A layer of wheels would be megabytes; the recipe's own layer, config and manifest are kilobytes.
        rows.append(
            (
                "(e) no wheel downloaded or uploaded",
                f"{fetched} downloaded, {size(most)} sent",
                not fetched and most < 10**6,
            )
        )
    if result.extra:
        rows.append(("`mealkit --help` in less than 0.15 s", f"{result.extra.help:.2f} s", result.extra.help < 0.15))
    if result.startup:
        added = result.startup.ready - result.startup.imported
        rows.append(("starting `score` adds at most 0.3 s to the imports", f"{added:.2f} s", added <= 0.3))
    if rows:
        yield from table(
            ("to reach", "measured", ""), ((what, is_, "yes" if good else "**no**") for what, is_, good in rows)
        )
        yield ""


def _extras(result: Result) -> Iterator[str]:
    rows: list[tuple[str, str]] = []
    peaks = [sample.peak for sample in result.of("a", "mealkit")]
    if peaks:
        rows.append(("mealkit's largest process in (a), resident", size(max(peaks))))
    if result.extra:
        extra = result.extra
        rows.append(("`mealkit --help`", f"{extra.help:.3f} s"))
        rows.append(("`mealkit lock` after adding a dependency, which (d) includes", f"{extra.lock:.2f} s"))
        rows.append((f"downloading the wheels alone ({size(extra.fetched)}), once", f"{extra.fetch:.1f} s"))
        for side, facts in extra.images.items():
            text = f"{size(facts['compressed'])} in {facts['layers']:.0f} layers, {size(facts['unpacked'])} unpacked"
            rows.append((f"image by {side}, with the base", text))
            rows.append(
                (
                    f"docker pull of it on an engine that has nothing, median of {facts['pulls']:.0f}",
                    f"{facts['seconds']:.1f} s",
                )
            )
        if extra.plain_base is not None:
            rows.append(("(e) by mealkit on a base that does not tell its Python, median", f"{extra.plain_base:.2f} s"))
        if extra.docker_uv is not None:
            rows.append(
                ("(a) by docker with `uv pip install` in place of pip (BuildKit), once", f"{extra.docker_uv:.1f} s")
            )
    if result.splicing:
        one = result.splicing
        what = f"{one.wheels} wheels ({size(one.size)}) to {one.layers} layers with diff IDs"
        rows.append((f"{what}: spliced, two threads, median", f"{one.spliced:.2f} s, {size(one.spliced_size)}"))
        rows.append(
            (
                f"{what}: tar and zlib level 6, one thread, once",
                f"{one.recompressed:.1f} s, {size(one.recompressed_size)}",
            )
        )
    if result.startup:
        one_start = result.startup
        names = (
            ("nothing", "python -c pass"),
            ("imports", "importing the recipe and its libraries"),
            ("describe", "`describe`"),
            ("score", "`score` of a tiny dataset, to the batch on disk"),
            ("imported", "importing the recipe and its libraries, to the moment in which they are imported"),
            ("ready", "`score`, to the moment in which it begins to read and score, the model loaded"),
        )
        rows += [
            (f"docker run: {title}, median of {one_start.repeats}", f"{getattr(one_start, name):.2f} s")
            for name, title in names
        ]
    if rows:
        yield from table(("beside the scenarios", ""), rows)


def size(count: float) -> str:
    """Bytes for people: ``3.4 kB``, ``133.6 MB``."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
