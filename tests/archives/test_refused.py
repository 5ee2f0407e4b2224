"""Bad archives are refused with an error of ours, nothing is written beside the target, and memory stays small.

The corpus is made by code: :mod:`bad_wheels`, :mod:`bad_layers`, :mod:`bad_debs`, :mod:`bad_layouts`. Beside each kind
stand twins that look alike and must be accepted, so that refusing everything is no way to pass.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import bad_debs
import bad_layers
import bad_layouts
import bad_wheels
from corpus import judge_deb, judge_layer, judge_layout, judge_wheel

from mealkit.errors import MealkitError

FAMILIES = {"deb": judge_deb, "wheel": judge_wheel, "layer": judge_layer, "layout": judge_layout}
CORPUS = {"deb": bad_debs.CASES, "wheel": bad_wheels.CASES, "layer": bad_layers.CASES, "layout": bad_layouts.CASES}
TWINS = {"deb": bad_debs.TWINS, "wheel": bad_wheels.TWINS, "layer": bad_layers.TWINS, "layout": bad_layouts.TWINS}
SECONDS = 90  # for one case, on whatever machine; the slowest takes a second or two on a quiet one


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Path]:
    """A folder to work in, among canaries: files around it that must stay as they are, and stay alone."""
    target = tmp_path / "a" / "b" / "target"
    target.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        (folder / "canary").write_text("alive")
        (folder / "evil-target").mkdir()
    yield target
    left = sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_relative_to(target)
    )
    assert left == sorted(
        ["a", "a/b", "canary", "a/canary", "a/b/canary", "evil-target", "a/evil-target", "a/b/evil-target"]
    )
    assert {path.read_text() for path in tmp_path.rglob("canary") if not path.is_relative_to(target)} == {"alive"}
    assert not Path("/tmp/evil").exists()


def test_the_corpus_is_large() -> None:
    assert sum(map(len, CORPUS.values())) >= 180
    for kind, cases in CORPUS.items():
        assert len(cases) >= 45, kind


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in CORPUS.items() for case in cases])
def test_refused(kind: str, case: str, arena: Path) -> None:
    make, why = CORPUS[kind][case]
    begin = time.monotonic()
    with pytest.raises(MealkitError) as caught:
        FAMILIES[kind](make, arena)
    error = caught.value
    assert why in f"{error.message} {error.where}", error.render()
    assert error.code in ("bad-wheel", "registry", "base-image", "not-found"), error.render()
    assert error.where
    assert error.hint
    error.render().encode()  # can be printed, whatever the names in it
    assert error.render().replace("\n", "").isprintable()
    assert len(error.render()) < 1500
    assert time.monotonic() - begin < SECONDS


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in TWINS.items() for case in cases])
def test_accepted(kind: str, case: str, arena: Path) -> None:
    FAMILIES[kind](TWINS[kind][case], arena)


def test_a_layer_of_names_takes_time_that_grows_with_them(arena: Path) -> None:
    """Whiteouts beside what they name: quadratic code would take minutes."""
    begin = time.monotonic()
    judge_layer(lambda: bad_layers.many(2500), arena)
    assert time.monotonic() - begin < SECONDS


@pytest.mark.parametrize("kind", FAMILIES)
def test_memory_stays_small(kind: str, tmp_path: Path) -> None:
    """All cases of a kind in one process, whose highest use of memory is told at its end."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("corpus.py")), kind, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    cases, megabytes = map(int, done.stdout.split())
    assert cases == len(CORPUS[kind])
    assert megabytes < 256


def test_what_is_not_read_is_not_believed(tmp_path: Path) -> None:
    """A layer is judged only when it has been read to its end."""
    layer, data = bad_layers.CASES["archive_behind_the_archive"][0]()
    from mealkit_builder.tar_reader import read_layer

    members = read_layer(io.BytesIO(data), layer)
    assert next(members).info.name == "etc"
