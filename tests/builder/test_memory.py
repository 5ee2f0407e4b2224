"""A wheel of 300 MB is spliced, hashed and pushed in less memory than a tenth of what it unpacks to would take."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from services import RunningRegistry
from wheels_for_tests import generated_wheel

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
