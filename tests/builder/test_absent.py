"""Wheels whose layers are known are not fetched; whether they disagree with others is told by their ends alone."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from shelf import shelf
from workshop import Workshop

sys.path.insert(0, str(Path(__file__).parent))

from dataclasses import replace

from wheels_for_tests import make_wheel

from mealkit.errors import WheelError
from mealkit_builder.absent import check_with_absent, remote_listing, suspects
from mealkit_builder.layering import placed_files
from mealkit_builder.store import Store
from mealkit_builder.testing import MemoryRegistry
from mealkit_builder.wheel import WheelFile

POINTS = "[console_scripts]\ndemo = one.cli:App.main\n[gui_scripts]\ndemo-gui = one:gui [extra]\n[other]\nx = y\n"
FILES = {
    "one/__init__.py": "x = 1\n",
    "one/größe.txt": "ü",
    "one/__pycache__/x.cpython-311.pyc": b"",
    "one-1.0.data/scripts/old": "#!python\n",
    "one-1.0.data/data/share/x": "shared",
    "one-1.0.data/headers/one.h": "int x;",
    "one-1.0.data/platlib/_one.so": random.Random(5).randbytes(300_000),
}


def far(wheel: WheelFile, address: str) -> WheelFile:
    """The wheel as a lock names it."""
    return replace(wheel, path=None, url=f"{address}/files/{wheel.filename}")


@pytest.mark.parametrize("many", [0, 2000])
def test_a_listing_is_what_the_wheel_brings(tmp_path: Path, many: int) -> None:
    """With 2,000 further files the directory is longer than what is asked for first."""
    more = {f"one/module_number_{number}.py": f"{number}" for number in range(many)}
    wheel = make_wheel(tmp_path, "one", files={**FILES, **more}, entry_points=POINTS)
    with shelf(tmp_path) as served:
        listed = remote_listing(far(wheel, served.address), "3.12")
        assert listed is not None
        assert all(line.startswith("GET") for line in served.asked)
        assert served.sent < wheel.size or many
    brought = {file.path: file.hash for file in placed_files(wheel, "3.12") if ".dist-info/" not in file.path}
    old = next(path for path in brought if path.endswith("/bin/old"))
    assert listed == {**brought, old: ""}


@pytest.mark.parametrize("what", ["no parts", "gone", "no wheel"])
def test_what_a_host_does_not_tell_is_unknown(tmp_path: Path, what: str) -> None:
    wheel = make_wheel(tmp_path, "one", files=FILES)
    assert wheel.path is not None
    if what == "no wheel":
        wheel.path.write_bytes(bytes(wheel.size))
    if what == "gone":
        wheel.path.unlink()
    with shelf(tmp_path, parts=what != "no parts") as served:
        assert remote_listing(far(wheel, served.address), "3.12") is None


def test_absent_wheels_that_agree_are_not_fetched(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"space/same.py": "1", "space/one.py": "1"}, entry_points=POINTS)
    two = make_wheel(tmp_path, "two", files={"space/same.py": "1", "space/two.py": "2"}, entry_points=POINTS)
    store = Store(tmp_path / "store")
    with shelf(tmp_path) as served:
        check_with_absent([far(one, served.address), far(two, served.address)], "3.12", store)
        assert not store.has_blob(one.sha256)
        asked = len(served.asked)
        check_with_absent([far(one, served.address), far(two, served.address)], "3.12", store)
        assert len(served.asked) == asked


@pytest.mark.parametrize(
    "other",
    [{"space/x.py": "2"}, {"space/x.py/y.py": "2"}, {"two-1.0.data/purelib/space/x.py": "2"}],
    ids=["other bytes", "a folder", "by another way"],
)
@pytest.mark.parametrize("here", [True, False])
def test_absent_wheels_that_disagree_are_found(tmp_path: Path, other: dict[str, str], here: bool) -> None:
    one = make_wheel(tmp_path, "one", files={"space/x.py": "1"})
    two = make_wheel(tmp_path, "two", files=other)
    three = make_wheel(tmp_path, "three", files={"three.py": ""})
    store = Store(tmp_path / "store")
    if here:
        assert one.path is not None
        store.add_blob(one.sha256, one.path.read_bytes())
    with shelf(tmp_path) as served:
        wheels = [far(wheel, served.address) for wheel in (one, two, three)]
        with pytest.raises(WheelError, match=r"one 1\.0 and two 1\.0 bring"):
            check_with_absent(wheels, "3.12", store)
        assert not store.has_blob(three.sha256)
        check_with_absent([wheels[0], replace(wheels[1], left_out=("space/x.py*",)), wheels[2]], "3.12", store)


def test_without_parts_of_files_whole_wheels_are_looked_at(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"space/x.py": "1"})
    two = make_wheel(tmp_path, "two", files={"space/x.py": "2"})
    with (
        shelf(tmp_path, parts=False) as served,
        pytest.raises(WheelError, match=r"one 1\.0 and two 1\.0 bring"),
    ):
        check_with_absent([far(one, served.address), far(two, served.address)], "3.12", Store(tmp_path / "store"))


def test_what_may_be_the_same_is_not_suspected() -> None:
    one, two = (WheelFile(name, "1", f"{name}.whl", name * 32, 5) for name in ("aa", "bb"))
    assert (
        suspects({one: {"/a/x": "sha256=1", "/a/y": "sha256=2"}, two: {"/a/x": "sha256=1", "/b": "sha256=3"}}) == set()
    )
    assert suspects({one: {"/a/x": ""}, two: {"/a/x": ""}}) == {one, two}


def test_a_machine_without_wheels_finds_what_two_known_layers_disagree_about(workshop: Workshop) -> None:
    """Each wheel's layer is in the repository, but never were both in one image."""
    for name in ("one", "two"):
        bulk = random.Random(name).randbytes((1 << 20) + 9)
        workshop.wheel(name, files={f"{name}.bin": bulk, "shared.py": f"WHOSE = {name!r}\n"})
    with shelf(workshop.index, workshop.pantry) as served, MemoryRegistry() as registry:
        online = workshop.online(served.index).having(UV_FIND_LINKS="")
        to = f"{registry.host}/team/tiny"
        for name in ("one", "two"):
            online.build(workshop.recipe(name + "-alone", dependencies=[name]), to, tags=(name,), bytecode=False)
        both = workshop.recipe("both", dependencies=["one", "two"])
        with pytest.raises(WheelError, match=r"one 1\.0 and two 1\.0 bring different files at .*shared\.py"):
            online.fresh().build(both, to, tags=("one",), bytecode=False)
