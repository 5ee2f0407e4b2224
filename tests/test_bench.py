"""The benchmark's pieces work: timing, traffic, sources, the wheels' comparison and the report, on tiny inputs."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parent / "builder"))

from bench import __main__ as command
from bench.engine import Engine
from bench.extra import Second
from bench.growth import Cost, generate
from bench.machine import Machine
from bench.registry import Place, Traffic, fresh_registry
from bench.report import BEGIN, END, insert, render
from bench.result import Extra, Result, from_json
from bench.scenario import Round, Sample
from bench.scoring_report import render as render_scoring
from bench.side import Built
from bench.source import Source
from bench.startup import Startup
from bench.timing import Timed, run
from bench.wheels import Splicing, compare
from services import RunningRegistry
from wheels_for_tests import make_wheel

from mealkit.project import read_project
from mealkit_builder.layering import Group, build_wheel_layer
from mealkit_builder.lock import lock_inputs
from mealkit_builder.store import Store

ROOT = Path(__file__).parents[1]
LOCK = """\
lock-version = "1.0"
created-by = "hand"

[[packages]]
name = "tiny"
version = "1.0"

[[packages.wheels]]
name = "tiny-1.0-py3-none-any.whl"
url = "file:///nowhere/tiny-1.0-py3-none-any.whl"
size = 9
hashes = {{ sha256 = "{sha256}" }}

[tool.mealkit]
inputs = "{inputs}"
"""


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing out the whole machine's page cache takes long while other tests run."""
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    recipe = tmp_path / "recipe"
    (recipe / "tiny_recipe").mkdir(parents=True)
    (recipe / "tiny_recipe" / "__init__.py").write_text("")
    (recipe / "tiny_recipe" / "model.py").write_text("import mealkit\n\n\nclass T(mealkit.Trainer): ...\n")
    (recipe / "pyproject.toml").write_text(
        '[project]\nname = "tiny-recipe"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = [\n  "tiny",\n]\n'
        '[tool.mealkit]\nkind = "custom"\ntrainer = "tiny_recipe.model:T"\n'
    )
    (recipe / "pylock.toml").write_text(LOCK.format(sha256="0" * 64, inputs=lock_inputs(read_project(recipe))))
    made = Source(tmp_path / "project", tmp_path / "context", "3.11", {})
    made.prepare(recipe)
    return made


def test_a_command_is_timed_and_its_memory_told(tmp_path: Path) -> None:
    done = run(
        [sys.executable, "-c", "b = bytearray(400_000_000); print('hi'); import time; time.sleep(1)"], {}, tmp_path
    )
    assert 0 < done.seconds < 20
    assert done.peak > 400_000_000
    small = run([sys.executable, "-c", "import time; time.sleep(0.3)"], {}, tmp_path)
    assert 2_000_000 < small.peak < 40_000_000  # not what this process has
    assert done.output == "hi\n"
    assert (done + done).seconds == 2 * done.seconds


def test_a_command_that_fails_tells_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="no such luck"):
        run([sys.executable, "-c", "raise SystemExit('no such luck')"], {}, tmp_path)


def test_both_sides_have_the_same_sources_and_pins(source: Source) -> None:
    assert (source.context / "requirements.txt").read_text() == "tiny==1.0\n"
    assert "COPY recipe/" in (source.context / "Dockerfile").read_text()
    assert (source.context / "mealkit" / "mealkit_runtime" / "__init__.py").is_file()
    commits = subprocess.run(["git", "log", "--oneline"], cwd=source.project, capture_output=True, check=True).stdout
    assert commits.count(b"\n") == 1
    texts = set()
    for _ in range(3):
        source.edit()
        ours, theirs = (root / "tiny_recipe" / "model.py" for root in (source.project, source.context / "recipe"))
        assert ours.read_text() == theirs.read_text()
        texts.add(ours.read_text())
    assert len(texts) == 3
    assert all(text.count("# edit") == 1 for text in texts)


def test_a_dependency_is_added_and_taken_away(source: Source) -> None:
    source.require("tabulate==0.9")
    assert read_project(source.project).dependencies == ("tabulate==0.9", "tiny")
    assert (source.context / "requirements.txt").read_text() == "tiny==1.0\ntabulate==0.9\n"
    source.require(None)
    assert read_project(source.project).dependencies == ("tiny",)
    assert source.wheels()[0].name == "tiny"


@pytest.mark.registry
def test_a_round_asks_both_sides_in_turn_and_counts_what_they_send(
    source: Source, tmp_path: Path, registry: RunningRegistry
) -> None:

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name
            self.keeps = True
            self.calls: list[str] = []

        def forget(self, *, keep_wheels: bool = False) -> None:
            self.calls.append("forget")

        def build(self, place, *, fresh: bool = False) -> Built:  # type: ignore[no-untyped-def]
            self.calls.append("fresh" if fresh else "build")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(f"http://{place.host}/v2/", timeout=5).close()
            return Built(Timed(1.0, 2, ""), "url", {"wheels_downloaded": 0})

        def first_is_there(self, place) -> None:  # type: ignore[no-untyped-def]
            self.calls.append("first")

    with fresh_registry(tmp_path / "seed"):
        (tmp_path / "seed" / "storage").mkdir(exist_ok=True)
    ours, classic, buildkit = (Fake(name) for name in ("mealkit", "docker classic", "docker buildkit"))
    told: list[Sample] = []
    samples = []
    with fresh_registry(tmp_path / "warm") as warm:
        for number in (0, 1):
            samples += Round(
                number, frozenset("abe"), source, ours, classic, buildkit, tmp_path / "seed", tmp_path, warm,
                "tabulate==0.9", told.append,
            ).run()  # fmt: skip
    assert [(one.scenario, one.side.split()[-1]) for one in samples] == [
        ("a", "mealkit"), ("a", "classic"), ("b", "mealkit"), ("b", "classic"),
        ("b", "mealkit"), ("b", "buildkit"), ("e", "mealkit"), ("e", "buildkit"),
        ("a", "classic"), ("a", "mealkit"), ("b", "classic"), ("b", "mealkit"),
        ("e", "buildkit"), ("e", "mealkit"), ("b", "buildkit"), ("b", "mealkit"),
    ]  # fmt: skip
    assert {one.traffic for one in samples} == {Traffic(1, 2, 0)}
    assert len(told) == len(samples) + 2  # (w) was not asked for, but what follows needs it
    assert buildkit.calls == ["forget", "build", "first", "build", "forget", "fresh", "forget", "fresh", "build"]


@pytest.mark.registry
def test_an_image_gets_another_tag(registry: RunningRegistry) -> None:
    from images import sample

    from mealkit_builder.location import open_location
    from mealkit_builder.push import push_image

    made = sample({"a": b"1"})
    target, _ = open_location(f"{registry.host}/bench/tagged", {}, push=True)
    try:
        push_image(made.image, target, made.open_layer, tags=("latest",))
    finally:
        target.close()
    place = Place(registry)
    place.copy_tag("bench/tagged", "latest", "cache")
    assert place.manifest("bench/tagged", "cache") == place.manifest("bench/tagged", "latest")


def test_wheels_become_layers_both_ways(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "tiny", "1.0", {"tiny/__init__.py": b"x = 1\n" * 1000})
    store = Store(tmp_path / "store")
    assert wheel.path is not None
    store.add_blob(wheel.sha256, wheel.path.read_bytes())
    found = compare([replace(wheel, path=None)], store.root, "3.11", 1)
    assert (found.wheels, found.layers) == (1, 1)
    assert found.spliced_size > 0
    assert found.recompressed_size > 0
    assert list(tmp_path.glob("mealkit-bench-*")) == []


def test_generated_wheels_are_good_ones_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    source = generate(tmp_path, 10, "3.11")
    wheels = source.wheels()
    assert [wheel.name for wheel in wheels] == ["grown-part-00", "grown-part-01"]
    assert 10_000_000 <= sum(wheel.size for wheel in wheels) < 16_000_000
    for wheel in wheels:
        path = tmp_path / "wheels" / wheel.filename
        layer = build_wheel_layer(Group((replace(wheel, path=path),)), "3.11", Store(tmp_path / "store"))
        assert layer.size > wheel.size
    source.edit()
    assert "# edit 1" in (source.project / "grown" / "model.py").read_text()


def _sample(scenario: str, side: str, seconds: float) -> Sample:
    return Sample(scenario, side, seconds, 0.5, 90_000_000, Traffic(9, 3400, 97_000), "u", {"wheels_downloaded": 0})


def _result() -> Result:
    samples = [_sample("b", "mealkit", value) for value in (0.2, 0.3, 0.1)]
    samples += [_sample("b", "docker buildkit", 0.5), _sample("e", "mealkit", 1), _sample("a", "mealkit", 8)]
    samples += [_sample("a", "docker classic", 44.0)]
    image = {"compressed": 2e8, "layers": 19, "unpacked": 7e8, "seconds": 9.0, "pulls": 2}
    images = {"docker buildkit": {**image, "seconds": 8.0}, "mealkit": image}
    second = Second(0.4, Traffic(30, 3400, 120_000), {"reused": 0, "mounted": 16, "uploaded": 1})
    return Result(
        "2026-11-23 21:00", "./task bench", 3, 600.0, Machine("CPU", 2, 2**34, "6", {"mealkit": "0.1.0"}, "abc"),
        (0.1, 2.0), 20, "tabulate==0.9", tuple(samples), Extra(0.05, 1.0, 0.4, 134_000_000, images, 38.0, 1.5, second),
        Splicing(20, 134_000_000, 7, 0.7, 134_500_000, 17.0, 131_000_000), Startup(0.3, 1.5, 0.5, 1.9, 5, 1.4, 1.6),
        tuple(
            Cost(megabytes, case, 0.01 * megabytes, 90_000_000, Traffic(9, 3400, 1000))
            for megabytes in (10, 2000)
            for case in ("cold", "edit", "nothing", "fresh")
        ),
    )  # fmt: skip


def test_the_report_gives_medians_and_judges_targets() -> None:
    text = render(_result())
    row = "| (b) one source file changed | **0.20** (0.10 to 0.30, 3) | – | **0.50** (0.50 to 0.50, 1) | – | – | 2.5× |"
    assert row in text
    assert "| (b) at least 3× faster than docker's better builder | 2.5× | **no** |" in text
    assert "| (a) at least 7× faster than docker's better builder | 5.5× | **no** |" in text
    assert "| (b) in at most 0.2 s | 0.20 s | yes |" in text
    assert "| (e) no wheel downloaded, less than 50 kB moved | 0 wheels downloaded, 100.4 kB moved | **no** |" in text
    assert "| wheels to layers at least 15× faster than tar and zlib | 24.3× | yes |" in text
    assert "| every process in less than 200 MB | 90.0 MB | yes |" in text
    assert "| docker pull in at most 1.15× of the time that docker's image takes | 1.12× | yes |" in text
    assert "| a second recipe uploads no byte of a dependency | 120.0 kB uploaded | yes |" in text
    assert "| starting `score` adds at most 0.3 s to the imports | 0.20 s | yes |" in text
    assert "| 2000 MB | **20.0** s, 3.4 kB down, 1.0 kB up, 90.0 MB |" in text
    assert "| (c) nothing changed" not in text


def test_a_result_is_read_back_and_put_into_a_page(tmp_path: Path) -> None:
    result = _result()
    assert from_json(result.to_json()) == result
    page, file = tmp_path / "page.md", tmp_path / "result.json"
    file.write_text(result.to_json())
    page.write_text(f"# Title\n{BEGIN}\nearlier\n{END}\nAfter.\n")
    done = CliRunner().invoke(command.main, ["--from", str(file), "--markdown", str(page)], catch_exceptions=False)
    assert done.exit_code == 0
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("After.\n")
    assert "earlier" not in text
    assert render(result) in text
    page.write_text("no marks\n")
    with pytest.raises(click.ClickException, match="no place for results"):
        insert(page, result)


def test_the_page_in_the_repository_has_a_place_for_results() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert text.index(BEGIN) < text.index(END)


def test_an_unknown_letter_is_refused() -> None:
    done = CliRunner().invoke(command.main, ["--only", "a,q"])
    assert done.exit_code == 2
    assert "there is no q" in done.output


def test_two_benchmarks_do_not_run_at_once(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with command.alone(file), pytest.raises(click.ClickException, match="another benchmark"), command.alone(file):
        pass
    with command.alone(file):
        pass


def test_only_images_of_benchmarks_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (
        "shop:1@1\n127.0.0.1:5/bench/docker-classic:latest@2\nmealkit-bench/raw:latest@3\nmealkit:x@4\nbenchmark:1@5"
    )
    calls: list[tuple[str, ...]] = []

    def docker(self: Engine, *arguments: str) -> str:
        calls.append(arguments)
        return listed if arguments[0] == "images" else ""

    monkeypatch.setattr(Engine, "docker", docker)
    Engine("docker", {}).forget_images()
    assert calls[1] == ("rmi", "-f", "2", "3")


def test_scoring_rates_are_those_of_the_loop() -> None:
    sides = {
        "loop": {"seconds": 4.0, "peak": 2**30},
        "mealkit, --workers 1": {"seconds": 5.0, "peak": 2**29},
        "mealkit, --workers 2": {"seconds": 2.0, "peak": 2**29},
    }
    report = {
        "rows": 8_000, "batch_rows": 100, "repeats": 3, "imports": 1.0, "first_row": 1.1, "sides": sides,
        "date": "today", "command": "python", "seconds": 60.0, "machine": "a machine",
        "growth": [
            {"rows": 10, "seconds": 2.0, "loop": 1.0, "peak": 2**20},
            {"rows": 100, "seconds": 12, "loop": 15.0, "peak": 2**21},
        ],
        "checks": {"with": 10.0, "without": 9.5},
        "delta": {"folder": 1.0, "delta": 1.4, "folder_commit": 0.1, "delta_commit": 0.15},
        "cluster": {"rows": 10, "here": 3.0, "1": 3.2, "2": 1.8},
    }  # fmt: skip
    text = render_scoring(report)
    assert "| mealkit, --workers 2 | 2.00 | 4,000 | 2.00× | 512 MiB |" in text
    verdicts = [line.split("|")[1:4] for line in text.splitlines() if line.endswith(("| yes |", "| **no** |"))]
    assert [(measured.strip().split(" ")[0], verdict.strip()) for _, measured, verdict in verdicts] == [
        ("0.80×", "**no**"), ("2.00×", "yes"), ("1.10", "yes"), ("2.00×", "**no**"), ("1.50", "**no**"),
        ("5.0%", "yes"), ("0.050", "yes"), ("1.78×", "yes"),
    ]  # fmt: skip
