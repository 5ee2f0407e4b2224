"""Two wheels that bring one path: one of them is told to leave it out, in its layer, its bytecode and its RECORD."""

from __future__ import annotations

import csv
import io
import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sources import image_files
from workshop import MINOR, Workshop

sys.path.insert(0, str(Path(__file__).parent))

from wheels_for_tests import contents, make_wheel

from mealkit.errors import ProjectError, WheelError
from mealkit_builder.layering import Group, build_wheel_layer, check_conflicts, site_packages, wheel_layer_key
from mealkit_builder.store import Store

SITE = site_packages("3.12")
POINTS = "[console_scripts]\nmill = two:main\n"


def test_left_out_files_are_in_neither_layer_nor_record(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"space/x.py": "1", "space/one.py": "1"})
    two = make_wheel(tmp_path, "two", files={"space/x.py": "2", "space/y/z.py": "", "two.py": ""}, entry_points=POINTS)
    store = Store(tmp_path / "store")
    with pytest.raises(WheelError, match=r"different files at .*/space/x\.py") as caught:
        check_conflicts([one, two], "3.12")
    assert '[tool.mealkit.image.leave-out] two = ["space/x.py"]' in str(caught.value.hint)
    less = replace(two, left_out=("bin/mi*", "space/x.py", "space/y*"))
    check_conflicts([one, less], "3.12")
    files = contents(store, build_wheel_layer(Group((less,)), "3.12", store))
    assert sorted(files) == [
        f"{SITE}/two-1.0.dist-info/{name}" for name in ("INSTALLER", "METADATA", "RECORD", "WHEEL", "entry_points.txt")
    ] + [f"{SITE}/two.py"]
    listed = {row[0] for row in csv.reader(io.StringIO(files[f"{SITE}/two-1.0.dist-info/RECORD"].decode()))}
    assert listed == {name.removeprefix(f"{SITE}/") for name in files}
    both = contents(store, build_wheel_layer(Group((one, less)), "3.12", store))
    assert both[f"{SITE}/space/x.py"] == b"1"


def test_what_is_left_out_is_in_the_key_of_that_layer_alone(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"a.py": "", "b.py": ""})
    keys = {
        wheel_layer_key(Group((replace(one, left_out=patterns),)), "3.12")
        for patterns in ((), ("a.py",), ("b.py",), ("a.py", "b.py"))
    }
    assert len(keys) == 4
    assert wheel_layer_key(Group((one,)), "3.12") in keys


def test_the_record_of_a_distribution_always_stays(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "one", files={"a.py": ""})
    store = Store(tmp_path / "store")
    files = contents(store, build_wheel_layer(Group((replace(wheel, left_out=("*",)),)), "3.12", store))
    assert {name.removeprefix(f"{SITE}/one-1.0.dist-info/") for name in files} == {
        *("INSTALLER", "METADATA", "RECORD", "WHEEL")
    }


def test_what_is_not_there_cannot_be_left_out(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "one", files={"a.py": ""})
    with pytest.raises(ProjectError, match=r"one 1\.0 has no file 'b\.py' to leave out"):
        build_wheel_layer(Group((replace(wheel, left_out=("a.py", "b.py")),)), "3.12", Store(tmp_path / "store"))


def test_the_hint_of_a_conflict_is_what_mends_it(workshop: Workshop) -> None:
    """Both wheels are large, so the file would be in two layers, and the upper one's would hide the other's."""
    for name in ("one", "two"):
        bulk = random.Random(name).randbytes((1 << 20) + 9)
        workshop.wheel(name, files={f"{name}.bin": bulk, "shared.py": f"WHOSE = {name!r}\n"})
    root = workshop.recipe(dependencies=["one", "two"])
    with pytest.raises(WheelError, match=r"different files at .*shared\.py") as caught:
        workshop.build(root)
    found = re.search(r"(\[tool\.mealkit\.image\.leave-out\]) (.*)", str(caught.value.hint))
    assert found
    file = root / "pyproject.toml"
    before = file.read_text()
    file.write_text(f"{before}\n{found[1]}\n{found[2]}\n")
    record = workshop.build(root)
    files = image_files(record.url)
    place = f"opt/mealkit/venv/lib/python{MINOR}/site-packages"
    assert files[f"{place}/shared.py"] == b"WHOSE = 'one'\n"
    again = workshop.fresh().build(root, f"oci:{workshop.folder}/again")
    assert again.digest == record.digest
    file.write_text(f"{before}\n{found[1]}\none = ['shared.py']\n")
    other = workshop.build(root)
    assert image_files(other.url)[f"{place}/shared.py"] == b"WHOSE = 'two'\n"
    file.write_text(f"{before}\n{found[1]}\nthree = ['shared.py']\n")
    with pytest.raises(ProjectError, match="no requirement brings it"):
        workshop.build(root)
