"""The build: each part once, the same digest every time, and nothing tagged when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from workshop import MEALKIT, Workshop, commit, make_base, uploads

from mealkit.errors import (
    BaseImageError,
    LockError,
    NotFoundError,
    RegistryError,
    StorageError,
    UsageError,
    WheelError,
)
from mealkit_builder.build import build
from mealkit_builder.cache_tag import CACHE_CONFIG_DIGEST
from mealkit_builder.layout import Layout
from mealkit_builder.progress import Silent
from mealkit_builder.pull import pull_image
from mealkit_builder.record import history_file, read_records
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


def place(memory: MemoryRegistry, repository: str = "team/tiny") -> str:
    return f"{memory.host}/{repository}"


def edit(root: Path, text: str = "# changed\n") -> None:
    with (root / "tiny" / "model.py").open("a") as file:
        file.write(text)


def named(memory: MemoryRegistry, repository: str = "team/tiny") -> set[str]:
    """The digests that users' tags name."""
    return {memory.tag_digests[repository][tag] for tag in memory.tags(repository)}


def kinds(layout: Layout, tag: str = "latest") -> list[str]:
    pulled = pull_image(layout, tag)
    assert pulled is not None
    return [layer.kind for layer in pulled.image.layers]


def test_without_a_place_the_image_goes_into_the_projects_own_folder(workshop: Workshop) -> None:
    root = workshop.recipe()
    record = workshop.build(root)
    assert record.url.startswith(f"oci:{root}/.mealkit/images@sha256:")
    assert record.tags == ("1.0.0", "latest")
    assert kinds(Layout(root / ".mealkit" / "images")) == ["base", "wheels", "bytecode", "mealkit", "recipe"]
    assert list(read_records(history_file(root))) == [record]


def test_the_record_says_what_was_done(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    record = workshop.build(root, place(memory))
    assert record.url == f"{place(memory)}@{record.digest}"
    assert record.platforms == {"linux/amd64": record.digest}
    assert (record.name, record.version) == ("tiny", "1.0.0")
    assert record.base == workshop.base
    assert set(record.base_digest) == {"linux/amd64"}
    assert record.lock_digest.startswith("sha256:")
    assert (record.revision, record.dirty) == (None, False)
    assert record.layers == {"reused": 0, "mounted": 0, "uploaded": 4}
    assert record.wheels_downloaded == 6
    assert record.bytecode
    blobs = memory.blobs["team/tiny"]
    assert record.bytes_uploaded == sum(len(blobs[digest]) for digest in blobs.keys() - {CACHE_CONFIG_DIGEST})
    assert 0 < record.seconds < 60
    assert memory.tags("team/tiny") == {"1.0.0", "latest"}
    assert named(memory) == {record.digest}


def test_a_second_build_moves_nothing(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    memory.forget()
    again = workshop.build(root, place(memory))
    assert again.digest == first.digest
    assert again.layers == {"reused": 4, "mounted": 0, "uploaded": 0}
    assert again.bytes_uploaded == again.wheels_downloaded == 0
    assert uploads(memory) == []
    assert memory.requests <= 5


def test_one_changed_file_sends_the_recipes_layer_and_the_config(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    edit(root)
    memory.forget()
    record = workshop.build(root, place(memory))
    assert record.digest != first.digest
    assert record.layers == {"reused": 3, "mounted": 0, "uploaded": 1}
    assert len(uploads(memory)) == 2
    assert memory.requests <= 9
    assert record.bytes_uploaded < 20_000


def test_a_fresh_machine_brings_no_wheel(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, place(memory))
    edit(root)
    shutil.rmtree(workshop.index)
    moved = workshop.pantry.parent / "moved-away"
    workshop.pantry.rename(moved)  # whatever would be fetched is not there
    try:
        memory.forget()
        record = workshop.fresh().build(root, place(memory))
    finally:
        moved.rename(workshop.pantry)
    assert record.wheels_downloaded == 0
    assert record.layers == {"reused": 3, "mounted": 0, "uploaded": 1}
    assert len(uploads(memory)) == 2
    assert not [
        one
        for one in memory.seen
        if one.method == "GET"
        and one.path.endswith(
            tuple(layer for layer in memory.blobs["team/tiny"] if len(memory.blobs["team/tiny"][layer]) > 50_000)
        )
    ]


def test_a_fresh_machine_reads_no_layer_of_the_base(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    edit(root)
    layers = [layer.digest for layer in pull_image(Layout(Path(workshop.base[4:])), "latest").image.layers]
    for digest in layers:
        (Path(workshop.base[4:]) / "blobs" / "sha256" / digest[7:]).unlink()
    record = workshop.fresh().build(root, place(memory))  # the last image's label tells which Python the base has
    assert record.base_digest == first.base_digest
    assert record.url != first.url


def test_one_further_requirement_keeps_the_large_layers(workshop: Workshop, memory: MemoryRegistry) -> None:
    workshop.wheel("big", "1.0", files={"big.py": "X = 1\n", "big.bin": os.urandom(1 << 20)})
    workshop.wheel("small", "1.0")
    root = workshop.recipe(dependencies=["big"])
    served = workshop.having(UV_NO_INDEX="1")
    served.build(root, place(memory))
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace('["big"]', '["big", "small"]'))
    record = served.build(root, place(memory))
    assert record.wheels_downloaded == 1
    assert 'name = "small"' in (root / "pylock.toml").read_text()


def test_the_same_inputs_give_the_same_digest_whatever_is_around_them(
    workshop: Workshop, tmp_path: Path, memory: MemoryRegistry
) -> None:
    one = workshop.build(workshop.recipe(within=tmp_path / "one"))
    other = workshop.recipe(within=tmp_path / "a much longer" / "path with blanks")
    for number, path in enumerate(sorted(other.rglob("*"))):
        os.utime(path, (number, number))
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert workshop.fresh("c1").build(other).digest == one.digest
    assert workshop.fresh("c2").build(other, place(memory)).digest == one.digest
    assert workshop.fresh("c3").build(other, use_cache=False).digest == one.digest


AROUND = pytest.mark.parametrize(
    "around",
    [
        {"TZ": "Asia/Kathmandu"},
        {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONHASHSEED": "7"},
        {"PYTHONDONTWRITEBYTECODE": ""},
    ],
    ids=lambda around: next(iter(around)),
)


@AROUND
def test_the_environment_of_the_process_is_not_in_the_image(
    shop: Workshop, around: dict[str, str], tmp_path: Path
) -> None:
    root = shop.recipe(within=tmp_path)
    (root / "tiny" / "Käse.csv").write_text("ä,ö\n")
    expected = shop.build(root).digest
    elsewhere = shop.having(MEALKIT_CACHE=str(tmp_path / "cache"), **around)
    old = os.umask(0o077)
    try:
        done = elsewhere.mealkit("build", "-q", "-C", root, "--to", f"oci:{tmp_path / 'images'}", cwd=Path("/"))
    finally:
        os.umask(old)
    assert done.out.strip().rpartition("@")[2] == expected, done.err


def test_the_lock_that_a_build_makes_is_a_change_for_it_as_for_the_next(workshop: Workshop) -> None:
    root = workshop.recipe(lock=False)
    commit(root)
    first = workshop.build(root)
    assert (first.dirty, workshop.build(root).digest) == (True, first.digest)
    commit(root)
    clean = workshop.build(root)
    assert not clean.dirty
    assert workshop.build(root).digest == clean.digest != first.digest


def test_tags_are_those_that_are_named(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, place(memory), tags=("blue", "green", "blue"))
    assert memory.tags("team/tiny") == {"blue", "green"}
    assert workshop.build(root, place(memory, "other") + ":stable").tags == ("stable",)
    assert memory.tags("other") == {"stable"}
    with pytest.raises(UsageError, match="cannot push to a digest"):
        workshop.build(root, f"{place(memory)}@sha256:{'a' * 64}")


def test_a_local_version_becomes_a_tag(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace('"1.0.0"', '"1.0.0+cpu"'))
    assert workshop.build(root, place(memory)).tags == ("1.0.0_cpu", "latest")


def test_another_repository_gets_the_layers_from_the_cache(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    record = workshop.build(root, place(memory, "team/copy"))
    assert record.digest == first.digest
    assert record.wheels_downloaded == 0


def test_two_platforms_make_an_index(workshop: Workshop, memory: MemoryRegistry) -> None:
    base = make_base(workshop.folder / "two", platforms=("amd64", "arm64"))
    root = workshop.recipe(base=base, image='platforms = ["linux/amd64", "linux/arm64"]')
    record = workshop.build(root, place(memory))
    assert set(record.platforms) == {"linux/amd64", "linux/arm64"}
    document = json.loads(memory.manifests["team/tiny"][record.digest][0])
    assert [entry["platform"]["architecture"] for entry in document["manifests"]] == ["amd64", "arm64"]
    memory.forget()
    again = workshop.build(root, place(memory))
    assert again.digest == record.digest
    assert uploads(memory) == []


def test_an_image_for_arm64_is_built_here(workshop: Workshop) -> None:
    base = make_base(workshop.folder / "arm", platforms=("arm64",))
    record = workshop.build(workshop.recipe(base=base), platforms=("linux/arm64",))
    assert set(record.platforms) == {"linux/arm64"}


def test_without_an_interpreter_of_the_version_there_is_no_bytecode(workshop: Workshop) -> None:
    base = make_base(workshop.folder / "future", version="3.39.0")
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    root = workshop.recipe(base=base)
    record = build(workshop.request(root), Noting())
    assert not record.bytecode
    assert len(notes) == 1
    assert "no Python 3.39" in notes[0]
    assert kinds(Layout(root / ".mealkit" / "images")) == ["base", "wheels", "mealkit", "recipe"]


def test_bytecode_can_be_left_out(workshop: Workshop) -> None:
    root = workshop.recipe()
    record = workshop.build(root, bytecode=False)
    assert not record.bytecode
    assert "bytecode" not in kinds(Layout(root / ".mealkit" / "images"))
    assert workshop.build(root).digest != record.digest


def test_a_locked_build_makes_no_lock(workshop: Workshop) -> None:
    root = workshop.recipe(lock=False)
    with pytest.raises(LockError, match="the lock is missing") as caught:
        workshop.build(root, locked=True)
    assert caught.value.hint
    assert not (root / "pylock.toml").exists()
    assert not (root / ".mealkit").exists()


def test_a_damaged_lock_is_told_and_can_be_made_again(workshop: Workshop) -> None:
    root = workshop.recipe()
    file = root / "pylock.toml"
    file.write_text(file.read_text().replace('lock-version = "1.0"', "lock-version = 1"))
    with pytest.raises(LockError, match="damaged") as caught:
        workshop.build(root)
    assert caught.value.where == str(file)
    assert workshop.mealkit("lock", "-C", root).status == 0
    workshop.build(root)


def test_a_wheel_that_is_not_the_locked_one_stops_the_build(workshop: Workshop, memory: MemoryRegistry) -> None:
    workshop.wheel("spice", "1.0")
    root = workshop.recipe(dependencies=["spice"])
    assert workshop.mealkit("lock", "-C", root).status == 0
    workshop.wheel("spice", "1.0", files={"spice.py": "import os  # something else\n"})
    with pytest.raises(WheelError, match="sha256 differs"):
        workshop.build(root, place(memory))
    assert memory.tags("team/tiny") == set()


def test_wheels_that_collide_stop_the_build(workshop: Workshop, memory: MemoryRegistry) -> None:
    workshop.wheel("spice", "1.0", files={"shared.py": "ONE = 1\n"})
    workshop.wheel("salt", "1.0", files={"shared.py": "TWO = 2\n"})
    root = workshop.recipe(dependencies=["spice", "salt"])
    with pytest.raises(WheelError, match=r"salt 1\.0 and spice 1\.0 bring different files"):
        workshop.build(root, place(memory))
    assert memory.tags("team/tiny") == set()


@pytest.mark.parametrize(
    ("base", "kind", "said"),
    [
        ("oci:nowhere", NotFoundError, "no such base image"),
        ("arm", BaseImageError, "not for linux/amd64"),
        ("old", BaseImageError, "3.11 or newer"),
    ],
)
def test_a_base_that_cannot_be_used_stops_the_build(
    workshop: Workshop, memory: MemoryRegistry, base: str, kind: type[Exception], said: str
) -> None:
    if base == "arm":
        base = make_base(workshop.folder / "arm", platforms=("arm64",))
    elif base == "old":
        base = make_base(workshop.folder / "old", version="3.9.18")
    with pytest.raises(kind, match=said):
        workshop.build(workshop.recipe(base=base), place(memory))
    assert memory.tags("team/tiny") == set()
    assert uploads(memory) == []


@pytest.mark.parametrize("what", ["/blobs/uploads/", "/manifests/"])
def test_a_push_that_fails_leaves_the_old_tags(workshop: Workshop, memory: MemoryRegistry, what: str) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    edit(root)
    memory.fail_next(400, times=99, method="POST" if "blobs" in what else "PUT", path_contains=what)
    with pytest.raises(RegistryError, match="400"):
        workshop.build(root, place(memory))
    assert named(memory) == {first.digest}
    assert len(list(read_records(history_file(root)))) == 1


def test_a_killed_build_leaves_no_tag_and_the_next_goes_on(workshop: Workshop) -> None:
    with MemoryRegistry() as memory:
        root = workshop.recipe()
        hold, killed = threading.Event(), threading.Event()
        before = memory.due_fault

        def slow(method: str, path: str) -> object:
            if method == "PUT" and "/manifests/" in path:
                hold.set()
                killed.wait(20)
            return before(method, path)

        memory.due_fault = slow  # type: ignore[method-assign, assignment]
        process = subprocess.Popen(
            [MEALKIT, "build", "-C", str(root), "--to", place(memory)],
            env=dict(workshop.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert hold.wait(30)
        finally:
            process.kill()
            process.communicate(timeout=10)
            killed.set()
        assert memory.tags("team/tiny") == set()
        assert not (root / ".mealkit").exists()
        memory.due_fault = before  # type: ignore[method-assign]
        record = workshop.build(root, place(memory))
        assert record.wheels_downloaded == 0
        assert named(memory) == {record.digest}


def test_two_builds_at_once_do_not_disturb_each_other(workshop: Workshop) -> None:
    root = workshop.recipe()
    arguments = ("build", "-q", "-C", root, "--to", f"oci:{workshop.folder / 'images'}")
    with ThreadPoolExecutor(3) as pool:
        results = [job.result() for job in [pool.submit(workshop.mealkit, *arguments) for _ in range(3)]]
    assert [done.status for done in results] == [0, 0, 0], results
    assert len({done.out for done in results}) == 1
    assert len(list(read_records(history_file(root)))) == 3


def test_a_read_only_project_is_told_when_its_record_cannot_be_kept(workshop: Workshop) -> None:
    root = workshop.recipe()
    (root / ".mealkit").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="its record cannot be written") as caught:
        workshop.build(root, f"oci:{workshop.folder / 'images'}")
    assert str(root / ".mealkit") in (caught.value.where or "")
