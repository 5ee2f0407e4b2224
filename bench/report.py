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
_SIDES = ("mealkit", "docker classic", "docker buildkit", "buildah", "pip + tar + zlib")
_DOCKER = _SIDES[1:3]


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
    parts = [*_about(result), "", *_times(result), "", *_traffic(result), *_growth(result), *_targets(result)]
    parts += _extras(result)
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
    yield from table(("", *_SIDES, "mealkit is faster than docker by"), rows)


def _faster(result: Result, letter: str) -> str:
    ours = result.seconds_of(letter, "mealkit")
    theirs = [value for side in _DOCKER if (value := result.seconds_of(letter, side)) is not None]
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
    for letter, most in (("b", 0.2), ("c", 0.15), ("d", 1.5), ("e", 0.25)):
        ours = result.seconds_of(letter, "mealkit")
        if ours is not None:
            rows.append((f"({letter}) in at most {most:g} s", f"{ours:.2f} s", ours <= most))
    for letter, least in (("a", 7), ("b", 3), ("d", 20)):
        ours = result.seconds_of(letter, "mealkit")
        theirs = [value for side in _DOCKER if (value := result.seconds_of(letter, side)) is not None]
        if ours and theirs:
            ratio = min(theirs) / ours
            title = f"({letter}) at least {least}× faster than docker's better builder"
            rows.append((title, f"{ratio:.1f}×", ratio >= least))
    fresh = result.of("e", "mealkit")
    if fresh:
        fetched = max(int(str(sample.facts["wheels_downloaded"])) for sample in fresh)
        most_moved = max(sample.traffic.up + sample.traffic.down for sample in fresh)
        told = f"{fetched} wheels downloaded, {size(most_moved)} moved"
        rows.append(("(e) no wheel downloaded, less than 50 kB moved", told, not fetched and most_moved < 50_000))
    if result.splicing:
        share = result.splicing.recompressed / result.splicing.spliced
        rows.append(("wheels to layers at least 15× faster than tar and zlib", f"{share:.1f}×", share >= 15))
    peaks = [sample.peak for sample in result.of("a", "mealkit")] + [cost.peak for cost in result.growth]
    if peaks:
        rows.append(("every process in less than 200 MB", size(max(peaks)), max(peaks) < 200 * 10**6))
    rows += _target_images(result)
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


def _target_images(result: Result) -> Iterator[tuple[str, str, bool]]:
    """What was to be reached with images that are there."""
    if result.extra is None:
        return
    pulls = [facts["seconds"] for _, facts in sorted(result.extra.images.items(), key=lambda one: one[0] != "mealkit")]
    if len(pulls) > 1 and "mealkit" in result.extra.images:
        share = pulls[0] / min(pulls[1:])
        rows = f"{share:.2f}×"
        yield "docker pull in at most 1.15× of the time that docker's image takes", rows, share <= 1.15
    second = result.extra.second
    if second:
        # Config, manifest and the recipe's own layers are kilobytes; a layer of wheels would be megabytes.
        told = f"{size(second.traffic.up)} uploaded"
        yield "a second recipe uploads no byte of a dependency", told, second.traffic.up < 10**6


def _growth(result: Result) -> Iterator[str]:
    """Costs by the size of the dependencies."""
    if not result.growth:
        return
    cases = {
        "cold": "everything cold",
        "edit": "one file changed",
        "nothing": "nothing changed",
        "fresh": "one file changed, on a fresh machine",
    }
    found = {(cost.megabytes, cost.case): cost for cost in result.growth}
    rows = []
    for megabytes in sorted({cost.megabytes for cost in result.growth}):
        cells = []
        for case in cases:
            cost = found[megabytes, case]
            moved = f"{size(cost.traffic.down)} down, {size(cost.traffic.up)} up"
            cells.append(f"**{_number(cost.seconds)}** s, {moved}, {size(cost.peak)}")
        rows.append((f"{megabytes} MB", *cells))
    yield "mealkit by the size of the dependencies (generated wheels, half of them incompressible): seconds, bytes"
    yield "that the registry sent and got, and the resident bytes of the largest process."
    yield ""
    yield from table(("", *cases.values()), rows)
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
        if extra.second is not None:
            ways = ", ".join(f"{count} {way}" for way, count in extra.second.layers.items() if count)
            told = f"{extra.second.seconds:.2f} s, {size(extra.second.traffic.up)} uploaded ({ways})"
            rows.append(("a second recipe with the same dependencies, to another repository, median", told))
        if extra.plain_base is not None:
            rows.append(("(e) by mealkit on a base that does not tell its Python, median", f"{extra.plain_base:.2f} s"))
        if extra.docker_uv is not None:
            rows.append(
                ("(a) by docker with `uv pip install` in place of pip (BuildKit), once", f"{extra.docker_uv:.1f} s")
            )
    if result.splicing:
        one = result.splicing
        what = f"{one.wheels} wheels ({size(one.size)}) to {one.layers} layers with diff IDs"
        rows.append((f"{what}: spliced, median", f"{one.spliced:.2f} s, {size(one.spliced_size)}"))
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
