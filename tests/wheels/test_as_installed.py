"""Layers hold what installers make of wheels: 20 real ones of many kinds, and one that has everything at once."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "builder"))

from as_installed import MINOR, File, Tree, by_layer, by_pip, by_uv, compare, named, resolve, select, true_record
from wheels_for_tests import make_wheel

from mealkit_builder.download import Fetch
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile
from mealkit_builder.wheelwright import Wheelwright

SAMPLE = (
    *("dill==0.4.1", "jmespath==1.1.0"),  # scripts in .data
    *("greenlet==3.5.6",),  # headers, compiled
    *("jaraco.classes==3.4.0", "jaraco.context==6.1.2", "opentelemetry-api==1.45.2"),  # namespace packages
    *("googleapis-common-protos==1.76.0", "google-cloud-core==2.8.0"),  # parts of one namespace
    *("protobuf==7.36.2", "bcrypt==5.0.0", "markupsafe==3.0.4"),  # compiled, stable ABI; a RECORD that may be executed
    *("coverage==7.17.3", "setuptools==84.2.1"),  # .pth files; distributions within one
    *("tqdm==4.70.1", "distro==1.9.0", "wheel==0.48.0", "rsa==4.9.1", "pip==26.3"),  # launchers
    *("certifi==2026.10.18", "more-itertools==11.2.1"),  # files that may be executed
)
LONG = "demo/" + "n" * 120 + "/" + "m" * 110 + ".txt"
EVERYTHING = {
    "demo/__init__.py": "x = 1\n",
    "demo/empty": "",
    "demo/größe – ☕.txt": "wide",
    LONG: "long",
    "demo/run.sh": "#!/bin/sh\n",
    "demo/data.bin": bytes(range(256)) * 300,
    "other_top.py": "",
    "space/part/__init__.py": "",
    "demo.pth": "import sys\n",
    "demo-1.0.data/purelib/pure.py": "p = 1\n",
    "demo-1.0.data/platlib/plat.py": "p = 2\n",
    "demo-1.0.data/scripts/old": "#!python\nprint(1)\n",
    "demo-1.0.data/scripts/shell": "#!/bin/sh\necho\n",
    "demo-1.0.data/scripts/odd name": "no first line\n",
    "demo-1.0.data/data/share/demo/x": "shared",
    "demo-1.0.data/data/etc/demo.cfg": "[demo]\n",
    "demo-1.0.data/headers/demo.h": "int x;",
    "demo-1.0.data/headers/sub/demo.h": "int y;",
    "demo-1.0.dist-info/licenses/LICENSE": "free",
    "demo-1.0.dist-info/top_level.txt": "demo\n",
}
POINTS = "[console_scripts]\ndemo = demo.cli:App.main\ndemo2 = demo:main [extra]\n[gui_scripts]\ndemo-gui = demo:gui\n"


def assert_alike(theirs: Tree, ours: Tree) -> dict[str, list[str]]:
    difference = compare(theirs, ours)
    assert difference.other == []
    return difference.documented


def union(wheels: list[WheelFile], store: Store, folder: Path) -> dict[str, File]:
    found: dict[str, File] = {}
    for wheel in wheels:
        found |= by_layer(wheel, store, folder)
    return found


def test_twenty_real_wheels_are_as_uv_and_pip_install_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    chosen = select(resolve(SAMPLE, tmp_path), store)
    assert len(chosen) == len(SAMPLE) == 20
    fetch = Fetch(chosen, store)
    wheels = [fetch.get(wheel) for wheel in chosen]
    fetch.close()
    ours = union(wheels, store, tmp_path / "layer")
    assert len(ours) > 1500
    assert true_record(ours) == []
    files = [named(wheel, tmp_path / "wheels") for wheel in wheels]
    documented = assert_alike(by_uv(files, tmp_path / "uv"), ours)
    assert {len(documented[kind]) for kind in ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")} == {20}
    assert len(documented["script"]) > 10
    assert_alike(by_pip(files, tmp_path / "pip"), ours)


@pytest.mark.parametrize("purelib", [True, False])
def test_a_wheel_with_everything_is_as_uv_and_pip_install_it(tmp_path: Path, purelib: bool) -> None:
    wheel = make_wheel(
        tmp_path / "w", files=EVERYTHING, entry_points=POINTS, executable=["demo/run.sh"], purelib=purelib
    )
    ours = by_layer(wheel, Store(tmp_path / "store"), tmp_path / "layer")
    assert true_record(ours) == []
    assert len(ours) == len(EVERYTHING) + 3 + 5  # launchers; METADATA, WHEEL, entry points, INSTALLER, RECORD
    for install in (by_uv, by_pip):
        documented = assert_alike(install([wheel.path], tmp_path / "venv"), ours)  # type: ignore[list-item]
        marked = documented.pop("script that may be executed", [])
        assert (len(marked) == 3) is (install is by_pip)  # the archive does not mark them
        assert {path.rpartition("/")[2] for path in documented["script"]} == {"demo", "demo2", "demo-gui", "old"}


def test_the_comparison_notices_what_differs(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", files=EVERYTHING, entry_points=POINTS, executable=["demo/run.sh"])
    ours = dict(by_layer(wheel, Store(tmp_path / "store"), tmp_path / "layer"))
    theirs = by_uv([wheel.path], tmp_path / "venv")  # type: ignore[list-item]
    site = next(path for path in ours if path.endswith("/demo/__init__.py")).removesuffix("demo/__init__.py")
    record = f"{site}demo-1.0.dist-info/RECORD"
    changes: list[tuple[str, File | None]] = [
        (f"{site}demo/__init__.py", File(0o644, b"x = 2\n")),
        (f"{site}demo/run.sh", File(0o644, ours[f"{site}demo/run.sh"].data)),
        (f"{site}demo/empty", None),
        (f"{site}demo/more", File(0o644, b"")),
        ("bin/demo", replace(ours["bin/demo"], data=ours["bin/demo"].data.replace(b"App.main", b"App.evil"))),
        (record, replace(ours[record], data=ours[record].data.replace(b"other_top.py", b"other_pot.py"))),
    ]
    for path, file in changes:
        changed = {**ours, path: file} if file else {name: one for name, one in ours.items() if name != path}
        assert len(compare(theirs, changed).other) == 1, path  # type: ignore[arg-type]
        assert true_record(changed) or path.endswith(("run.sh", "RECORD")), path  # type: ignore[arg-type]


def test_a_real_source_distribution_gives_one_wheel_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With setuptools from the index, in other folders, zones and at other times; it has no wheel there."""
    (found,) = select(resolve(["docopt==0.6.2"], tmp_path), Store(tmp_path / "store"))
    assert found.origin is not None
    made = []
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        folder = tmp_path / f"{number}" / ("long" * 9 * number)
        folder.mkdir(parents=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        maker = Wheelwright(tmp_path, {**os.environ, "TZ": zone}, Store(folder / "store"))
        pins = made[0].requires if made else None
        made.append(maker.build("docopt", "0.6.2", found.origin, MINOR, pins))
    assert made[0] == made[1]
    assert made[0].requires[0].startswith("setuptools==")
    data = Store(folder / "store").blob_path(made[0].sha256)
    wheel = replace(found, filename=made[0].file, sha256=made[0].sha256, size=made[0].size, path=data)
    ours = by_layer(wheel, Store(tmp_path / "store"), tmp_path / "layer")
    assert_alike(by_uv([named(wheel, tmp_path / "wheels")], tmp_path / "venv"), ours)
