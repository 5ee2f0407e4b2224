"""The dry run: it says what the build then does, and why, and writes nothing."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import Workshop, make_base

from mealkit.errors import LockError, UsageError
from mealkit_builder.dry_run import Plan, plan_build
from mealkit_builder.testing import MemoryRegistry

WHERE = "team/tiny"


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


def edit(root: Path, name: str = "tiny/model.py", text: str = "# changed\n") -> None:
    with (root / name).open("a") as file:
        file.write(text)


def plan(workshop: Workshop, root: Path, memory: MemoryRegistry, where: str = WHERE, **changes: object) -> Plan:
    """A plan; and proof that the registry and the project are as they were."""
    before = copy.deepcopy((memory.blobs, memory.manifests, memory.tag_digests))
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    memory.forget()
    made = plan_build(workshop.request(root, f"{memory.host}/{where}", **changes))
    assert {one.method for one in memory.seen} <= {"GET", "HEAD"}
    assert (memory.blobs, memory.manifests, memory.tag_digests) == before
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == files
    json.dumps(made.to_json())
    return made


def reasons(made: Plan, action: str = "uploaded") -> dict[str, str]:
    return {one.title: one.reason for one in made.images[0].layers if one.action == action and one.kind != "base"}


def ways(made: Plan) -> dict[str, int]:
    """As the record of a build counts them."""
    count = Counter(one.action for image in made.images for one in image.layers if one.kind != "base")
    return {way: count[way] for way in ("reused", "mounted", "uploaded")}  # type: ignore[index]


def test_a_first_build_makes_all(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    made = plan(workshop, root, memory)
    assert not (root / ".mealkit").exists()
    assert len(made.downloads) == 6
    assert set(reasons(made).values()) == {"no earlier image"}
    assert [one.kind for one in made.images[0].layers if one.made] == ["wheels", "bytecode", "mealkit"]
    assert made.images[0].digest is None
    assert not made.exact
    record = workshop.build(root, f"{memory.host}/{WHERE}")
    assert record.layers == ways(made)
    assert record.wheels_downloaded == len(made.downloads)


def test_nothing_changed(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    record = workshop.build(root, f"{memory.host}/{WHERE}")
    made = plan(workshop, root, memory)
    assert made.images[0].unchanged
    assert made.images[0].digest == record.digest
    assert made.exact
    assert reasons(made) == {}
    assert set(reasons(made, "reused").values()) == {"in the last image"}
    assert made.bytes_of("uploaded") == 0


def test_a_changed_file_is_named(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, f"{memory.host}/{WHERE}")
    edit(root)
    made = plan(workshop, root, memory)
    assert reasons(made) == {"tiny 1.0.0": "source changed: tiny/model.py"}
    record = workshop.build(root, f"{memory.host}/{WHERE}")
    assert record.layers == ways(made)
    assert made.images[0].digest == record.digest
    document = json.loads(memory.manifests[WHERE][record.digest][0])
    assert made.bytes_of("uploaded") == document["layers"][-1]["size"]


def test_a_fresh_machine_reads_what_changed_from_the_registry(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, f"{memory.host}/{WHERE}")
    edit(root)
    (root / "tiny" / "new.py").write_text("X = 1\n")
    (root / "tiny" / "settings.py").write_text((root / "tiny" / "settings.py").read_text() + "\n# a comment\n")
    made = plan(workshop.fresh(), root, memory)
    assert reasons(made) == {
        "tiny 1.0.0": "source changed: tiny/model.py, new file: tiny/new.py, source changed: tiny/settings.py"
    }
    assert made.downloads == {}


def test_a_large_file_has_its_own_reason(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    (root / "tiny" / "large.py").write_text("# long\n" * 400)
    workshop.build(root, f"{memory.host}/{WHERE}")
    edit(root, "tiny/large.py")
    found = reasons(plan(workshop, root, memory))
    assert found == {
        "tiny/large.py": "source changed: tiny/large.py",
        "tiny 1.0.0": "its RECORD lists what changed",
    }


def test_a_new_version_and_a_new_wheel_are_named(workshop: Workshop, memory: MemoryRegistry) -> None:
    workshop.wheel("small", "1.0")
    root = workshop.recipe()
    workshop.build(root, f"{memory.host}/{WHERE}")
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace("dependencies = []", 'dependencies = ["small"]'))
    with pytest.raises(LockError) as caught:
        plan_build(workshop.request(root, f"{memory.host}/{WHERE}"))
    assert caught.value.hint == "run `mealkit lock`"
    assert workshop.mealkit("lock", "-C", root).status == 0
    made = plan(workshop, root, memory)
    assert reasons(made)["7 small packages"] == "new wheel: small 1.0"
    assert reasons(made)["bytecode of 7 small packages"] == "new wheel: small 1.0"
    assert [one.made for one in made.images[0].layers if one.kind == "wheels"] == [True]
    workshop.build(root, f"{memory.host}/{WHERE}")
    workshop.wheel("small", "1.1")
    assert workshop.mealkit("lock", "--upgrade", "-C", root).status == 0
    assert reasons(plan(workshop, root, memory))["7 small packages"] == "small 1.0 → 1.1"


def test_a_changed_base_is_named(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, f"{memory.host}/{WHERE}")
    other = make_base(workshop.folder / "other", glibc="2.37")
    made = plan(workshop, root, memory, base=other)
    (layer,) = (one for one in made.images[0].layers if one.kind == "base")
    assert layer.action == "uploaded"
    assert layer.reason.startswith(f"base changed: {workshop.base} → {other} (sha256:")
    assert ways(made) == {"reused": 4, "mounted": 0, "uploaded": 0}
    assert not made.images[0].unchanged


def test_mounts_and_tags_are_told(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, f"{memory.host}/{WHERE}")
    made = plan(workshop, root, memory, "team/other")
    assert ways(made)["mounted"] == 3
    assert all(why.startswith(f"{WHERE} has it") for why in reasons(made, "mounted").values())
    made = plan(workshop.fresh(), root, memory, tags=("branch",))
    assert list(reasons(made, "reused").values()).count("a cache tag tells it") == 3
    record = workshop.fresh().build(root, f"{memory.host}/{WHERE}", tags=("branch",))
    assert record.layers == ways(made)


def test_two_platforms_are_planned(workshop: Workshop, memory: MemoryRegistry) -> None:
    base = make_base(workshop.folder / "two", platforms=("amd64", "arm64"))
    root = workshop.recipe(base=base, image='platforms = ["linux/amd64", "linux/arm64"]')
    made = plan(workshop, root, memory)
    assert [image.platform for image in made.images] == ["linux/amd64", "linux/arm64"]
    assert len(made.downloads) == 6


def test_without_the_cache_all_is_made(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, f"{memory.host}/{WHERE}")
    made = plan(workshop, root, memory, use_cache=False)
    assert all(one.made for one in made.images[0].layers if one.kind != "base")
    assert set(reasons(made).values()) == {"made anew: --no-cache"}


def test_the_docker_engine_cannot_tell(workshop: Workshop, memory: MemoryRegistry) -> None:
    with pytest.raises(UsageError, match="a dry run needs the engine oci"):
        plan_build(workshop.request(workshop.recipe(), f"{memory.host}/{WHERE}", engine="docker"))


def test_the_command_prints_a_table_and_writes_nothing(workshop: Workshop) -> None:
    root = workshop.recipe()
    assert workshop.mealkit("build", "-C", root).status == 0
    before = sorted(path for path in (root / ".mealkit").rglob("*"))
    edit(root)
    done = workshop.mealkit("build", "-C", root, "--dry-run")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("reused ")
    assert any(line.startswith("uploaded") and line.endswith("source changed: tiny/model.py") for line in lines)
    assert lines[-1].startswith("1 layer would be uploaded, ")
    told = json.loads(workshop.mealkit("build", "-C", root, "--dry-run", "--json").out)
    assert told["images"][0]["layers"][-1]["reason"] == "source changed: tiny/model.py"
    assert told["bytes"]["uploaded"] == told["images"][0]["layers"][-1]["size"]
    assert sorted(path for path in (root / ".mealkit").rglob("*")) == before
    fresh = workshop.recipe("unbuilt")
    done = workshop.mealkit("build", "-C", fresh, "--dry-run")
    assert "no earlier image" in done.out
    assert not (fresh / ".mealkit").exists()
