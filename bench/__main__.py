"""``python -m bench``: measure, and write the results down."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from . import base, extra, growth, startup, wheels
from .buildah import Buildah
from .engine import Engine, find_engine
from .machine import read_machine
from .plain import Plain
from .registry import Place, fresh_registry
from .report import insert, render
from .result import Extra, Result, from_json
from .scenario import SCENARIOS, WARM, Round, Sample, begins
from .side import Docker, Mealkit
from .source import ROOT, Source

_EXTRAS = {
    "x": "sizes, pulls, download, lock, --help, a second recipe",
    "l": "wheels to layers",
    "s": "the runtime's start",
    "g": "growth of the dependencies",
    "p": "buildah and pip + tar + zlib beside us in (a) to (c)",
}
_WHERE = Path("/var/tmp")  # a real disk: /tmp may be memory


@click.command()
@click.option("--repeats", default=5, show_default=True, help="Rounds of all scenarios.")
@click.option(
    "--only",
    default=",".join((*SCENARIOS, *_EXTRAS)),
    show_default=True,
    help="Letters: " + "; ".join(f"{key}: {what}" for key, what in {**SCENARIOS, **_EXTRAS}.items()),
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all that was measured to this file.")
@click.option("--markdown", type=click.Path(path_type=Path, exists=True), help="Put the tables into this page.")
@click.option(
    "--sizes", default=",".join(map(str, growth.SIZES)), show_default=True, help="MB of dependencies that (g) takes."
)
@click.option(
    "--from", "old", type=click.Path(path_type=Path, exists=True), help="Measure nothing: take a --json file."
)
@click.option(
    "--recipe", type=click.Path(path_type=Path, exists=True), default=ROOT / "sample_recipe", help="What is built."
)
def main(
    repeats: int, only: str, json_file: Path | None, markdown: Path | None, old: Path | None, recipe: Path, sizes: str
) -> None:
    """Build a recipe with mealkit, docker and others, in turn, to the same registry, and compare.

    Needs a Docker engine, docker-registry, mmdebstrap, buildah (for p) and the network. Images named bench/… are
    removed at the end, and so is BuildKit's build cache, all of it: that is what a fresh machine has.
    """
    letters = frozenset(filter(None, only.replace(" ", "").split(",")))
    unknown = letters - {*SCENARIOS, *_EXTRAS}
    if unknown:
        raise click.UsageError(f"there is no {', '.join(sorted(unknown))}; see --help")
    if old is not None:
        result = from_json(old.read_text(encoding="utf-8"))
    else:
        with (
            alone(_WHERE / "mealkit-bench.lock"),
            tempfile.TemporaryDirectory(prefix="mealkit-bench-", dir=_WHERE) as name,
        ):
            folder = Path(name)
            engine = find_engine(folder / "docker")
            try:
                result = measure(folder, engine, recipe, repeats, letters, [int(size) for size in sizes.split(",")])
            finally:
                engine.forget_all()
    if json_file is not None:
        json_file.write_text(result.to_json() + "\n", encoding="utf-8")
    if markdown is not None:
        insert(markdown, result)
    click.echo(render(result))


def measure(
    folder: Path, engine: Engine, recipe: Path, repeats: int, letters: frozenset[str], sizes: Sequence[int]
) -> Result:
    """Set up, run the rounds and what else is asked for."""
    started, load = time.perf_counter(), os.getloadavg()[0]
    say("the base image")
    engine.forget_images()
    seed = folder / "seed"
    with fresh_registry(seed) as place:
        version = base.push_base(place, engine, folder / "base")
    say("the recipe, its lock and its wheels")
    source = Source(folder / "project", folder / "context", version.rpartition(".")[0], dict(os.environ))
    source.prepare(recipe)
    pin = source.new_pin()
    store = folder / "store"
    fetch, fetched = extra.fetch_seconds(source, store)
    mealkit = Mealkit(source, folder / "cache", store)
    with fresh_registry(folder / "registry-prime", seed) as place:
        extra.prime_pip(source, engine, place, folder / "pip")
    sides = mealkit, Docker(source, engine, buildkit=False), Docker(source, engine, buildkit=True)
    peers = (Buildah(source, folder / "buildah"), Plain(source, folder / "plain-pip")) if "p" in letters else ()
    extra.help_seconds(mealkit, 1)  # writes bytecode
    samples: list[Sample] = []
    more = splicing = start = None
    with contextlib.ExitStack() as stack:
        for peer in peers:
            stack.callback(peer.forget)
        warm_stack = stack.enter_context(contextlib.ExitStack())
        warm: Place | None = None
        for number in range(repeats):
            say(f"round {number + 1} of {repeats}")
            if letters & WARM and begins(number):
                warm_stack.close()
                warm = warm_stack.enter_context(fresh_registry(folder / f"registry-warm-{number}", seed))
            only = letters & {*SCENARIOS}
            samples += Round(number, only, source, *sides, seed, folder, warm, pin, show, peers).run()
        if letters & {"x", "s"}:
            place = warm or stack.enter_context(fresh_registry(folder / "registry-images", seed))
            url = mealkit.build(place).url
            if "x" in letters:
                say("images")
                docker_url = next((one.url for one in reversed(samples) if one.side == sides[2].name), None)
                urls = {"mealkit": url, sides[2].name: docker_url or sides[2].build(place).url}
                more = Extra(
                    help=extra.help_seconds(mealkit, 10),
                    lock=extra.lock_seconds(mealkit, source, pin, 3),
                    fetch=fetch,
                    fetched=fetched,
                    images={name: extra.image_facts(engine, place, one, min(repeats, 2)) for name, one in urls.items()},
                    docker_uv=extra.docker_with_uv(source, engine, place, folder / "uv"),
                    plain_base=extra.plain_base_seconds(mealkit, engine, place, folder / "plain", min(repeats, 5)),
                    second=extra.second_recipe(mealkit, place, min(repeats, 3)),
                )
            if "s" in letters:
                say("the runtime's start")
                engine.docker("pull", "-q", url)
                start = startup.measure(engine, url, folder / "start", 7 if repeats > 1 else 2)
    if "l" in letters:
        say("wheels to layers")
        splicing = wheels.compare(source.wheels(), store, source.minor, max(repeats, 3))
    grown: tuple[growth.Cost, ...] = ()
    if "g" in letters:
        grown = growth.measure(folder, seed, source.minor, min(repeats, 3), sizes, say)
    return Result(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        command=" ".join(["./task bench", *sys.argv[1:]]),
        repeats=repeats,
        seconds=time.perf_counter() - started,
        machine=read_machine(engine.program),
        load=(load, os.getloadavg()[0]),
        packages=len(source.wheels()),
        new_pin=pin,
        samples=tuple(samples),
        extra=more,
        splicing=splicing,
        startup=start,
        growth=grown,
    )


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Refuse to run beside another benchmark: each empties the engine of the other's images."""
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException("another benchmark is running on this machine; wait for its end") from None
        yield


def say(text: str) -> None:
    """Progress, on standard error."""
    click.secho(text, bold=True, err=True)


def show(sample: Sample) -> None:
    """A sample, as it was made."""
    traffic = asdict(sample.traffic)
    click.echo(
        f"  {sample.scenario}  {sample.side:<16} {sample.seconds:7.2f} s  load {sample.load:.1f}  {traffic}", err=True
    )


if __name__ == "__main__":
    main()
