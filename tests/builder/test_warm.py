"""A warm build asks for little, moves little and imports little; requests, bytes and modules are counted, not timed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit_builder.testing import MemoryRegistry

SAMPLE = Path(__file__).parents[2] / "sample_recipe" / "propensity"

HEAVY = {
    "pydantic", "pandas", "docker", "jinja2", "rich", "packaging", "installer", "cryptography", "pathspec", "uv",
    "tarfile", "deflate", "mealkit.describe", "mealkit_builder.tar_reader", "mealkit_builder.wheel_reader",
    "mealkit_builder.zip_directory", "mealkit_builder.pages",
    "mealkit_builder.compiler", "mealkit_builder.spool", "mealkit_builder.download",
    "mealkit_builder.placement", "mealkit_builder.finishing",
}  # fmt: skip


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


@pytest.fixture
def root(workshop: Workshop) -> Path:
    """A recipe whose package is as large as the sample's."""
    root = workshop.recipe()
    for file in SAMPLE.glob("*.py"):
        shutil.copyfile(file, root / "tiny" / f"sample_{file.name}")
    return root


def place(memory: MemoryRegistry) -> str:
    return f"{memory.host}/team/tiny"


def edit(root: Path) -> None:
    with (root / "tiny" / "sample_model.py").open("a") as file:
        file.write("# edited\n")


def requests(memory: MemoryRegistry) -> dict[str, int]:
    """How many there were of each kind since the last call; the base is in a folder, and asks for none."""
    found: dict[str, int] = {}
    for one in memory.seen:
        what = f"{one.method} {'manifest' if '/manifests/' in one.path else 'blob'}"
        found[what] = found.get(what, 0) + 1
    memory.forget()
    return found


def test_nothing_changed(workshop: Workshop, memory: MemoryRegistry, root: Path) -> None:
    first = workshop.build(root, place(memory))
    memory.forget()
    record = workshop.build(root, place(memory))
    assert record.url == first.url
    assert memory.bytes_in == 0
    assert requests(memory) == {"GET manifest": 1, "HEAD manifest": 1}


def test_a_tag_that_was_moved_is_brought_back(workshop: Workshop, memory: MemoryRegistry, root: Path) -> None:
    first = workshop.build(root, place(memory))
    edit(root)
    workshop.build(root, place(memory), tags=("1.0.0",))
    (root / "tiny" / "sample_model.py").write_text(
        (root / "tiny" / "sample_model.py").read_text()[: -len("# edited\n")]
    )
    again = workshop.build(root, place(memory))
    assert again.url == first.url
    assert {memory.tag_digests["team/tiny"][tag] for tag in first.tags} == {first.digest}


def test_one_file_changed(workshop: Workshop, memory: MemoryRegistry, root: Path) -> None:
    workshop.build(root, place(memory))
    edit(root)
    memory.forget()
    record = workshop.build(root, place(memory))
    assert record.layers["uploaded"] == 2  # the file that was edited, and RECORD, which names its hash
    assert record.layers["reused"] == 6
    assert requests(memory) == {"GET manifest": 1, "POST blob": 3, "PUT blob": 3, "PUT manifest": 2}


def test_one_file_changed_on_a_fresh_machine(workshop: Workshop, memory: MemoryRegistry, root: Path) -> None:
    workshop.build(root, place(memory))
    edit(root)
    memory.forget()
    workshop.fresh().build(root, place(memory))
    # The sample has twelve layers more, of wheels and bytecode: 1.3 kB each, in a manifest that moves three times and
    # a config that moves twice.
    assert memory.bytes_in + memory.bytes_out < 50_000 - 12 * 1300
    assert requests(memory) == {
        "GET manifest": 1, "GET blob": 1, "POST blob": 3, "PUT blob": 3, "PUT manifest": 2,
    }  # fmt: skip


def imported(workshop: Workshop, *arguments: str | Path) -> set[str]:
    code = """
import sys
from mealkit_builder.cli import main
try:
    main(sys.argv[1:])
finally:
    print("MODULES", *sorted(sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=dict(workshop.environment), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return set(next(line for line in done.stderr.splitlines() if line.startswith("MODULES ")).split()[1:])


def test_what_a_build_imports_in_which_nothing_changed(workshop: Workshop, memory: MemoryRegistry, root: Path) -> None:
    workshop.build(root, place(memory))
    found = imported(workshop, "build", "-C", root, "--to", place(memory))
    assert not found & HEAVY
    # Each costs a part of a millisecond at least: whoever adds twenty looks whether they are needed here.
    assert len([name for name in found if name.startswith("mealkit")]) < 75
