"""A wheel of 300 MB is spliced, hashed and pushed in less memory than a tenth of what it unpacks to would take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from services import RunningRegistry
from wheels_for_tests import MINOR, generated_wheel

from mealkit_builder.bytecode import build_bytecode_layer
from mealkit_builder.interpreter import find_interpreter
from mealkit_builder.layering import Group, build_wheel_layer
from mealkit_builder.store import Store

MB = 1 << 20

# What the process itself says of its peak: the resident pages, mapped files among them.
CHILD = """\
import json, sys
from pathlib import Path

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

from mealkit_builder.kitchen import opener
from mealkit_builder.layering import Group, build_wheel_layer, merged_files
from mealkit_builder.location import open_location
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile
import mealkit_builder.placement, hashlib, urllib3

wheel = json.loads(sys.argv[1])
wheel = WheelFile(*wheel[:-1], Path(wheel[-1]))
store = Store(Path(sys.argv[2]))
before = peak()
layer = build_wheel_layer(Group((wheel,)), "3.11", store)
spliced = peak()
target, _ = open_location(sys.argv[3], {}, push=True)
way = target.put_blob(layer.digest, layer.size, opener(store, layer.digest))
target.close()
print(json.dumps({"size": layer.size, "way": way, "spliced": spliced - before, "all": peak() - before}))
"""


@pytest.mark.registry
def test_memory_does_not_grow_with_a_wheel(tmp_path: Path, registry: RunningRegistry) -> None:
    wheel = generated_wheel(
        tmp_path, {"huge.bin": (180, zipfile.ZIP_STORED), "huge.so": (60, zipfile.ZIP_DEFLATED)}, 3000
    )
    assert wheel.size > 280 * MB
    value = [wheel.name, wheel.version, wheel.filename, wheel.sha256, wheel.size, str(wheel.path)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(value), str(tmp_path / "store"), f"{registry.host}/memory/huge"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["way"] == "uploaded"
    assert told["size"] > 280 * MB
    assert told["spliced"] < 80 * MB, told
    assert told["all"] < 100 * MB, told


@pytest.mark.parametrize("made", ["files", "bytecode"])
def test_a_wheel_that_is_done_with_keeps_no_page(tmp_path: Path, made: str) -> None:
    """Wheels stay mapped while a build lasts: what each kept would make memory grow with their number."""
    wheel = generated_wheel(tmp_path, {"large.so": (3, zipfile.ZIP_DEFLATED)}, 200)
    store, group = Store(tmp_path / "store"), Group((wheel,))
    if made == "files":
        build_wheel_layer(group, MINOR, store)
    else:
        interpreter = find_interpreter(MINOR, os.environ)
        assert interpreter is not None
        build_bytecode_layer(group, MINOR, interpreter, store)
    assert _resident(str(wheel.path)) == 0


def _resident(path: str) -> int:
    """KiB of a mapped file in this process' memory; -1: it is not mapped."""
    found = -1
    mine = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split(maxsplit=1)[0].endswith(":"):
            if mine and line.startswith("Rss:"):
                found = max(found, 0) + int(line.split()[1])
        else:
            mine = line.endswith(path)
    return found
