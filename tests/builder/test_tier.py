"""The tiers: a layer that anybody knows is not made again, and nobody is believed who says what is not so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import RunningRegistry
from workshop import Workshop, uploads

from mealkit.errors import RegistryError
from mealkit_builder.build import build
from mealkit_builder.cache_tag import is_cache_tag, read_cache_manifest
from mealkit_builder.layer import Layer
from mealkit_builder.layout import Layout
from mealkit_builder.progress import Silent
from mealkit_builder.pull import pull_image
from mealkit_builder.record import ImageRecord
from mealkit_builder.target import Moved
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


def place(memory: MemoryRegistry, repository: str = "team/tiny") -> str:
    return f"{memory.host}/{repository}"


def cache_tags(memory: MemoryRegistry, repository: str = "team/tiny") -> dict[str, dict[str, Layer]]:
    """The layers that each cache tag tells."""
    return {
        tag: read_cache_manifest(memory.manifests[repository][digest][0])
        for tag, digest in memory.tag_digests[repository].items()
        if is_cache_tag(tag)
    }


def asked(memory: MemoryRegistry, method: str = "GET") -> list[str]:
    """The cache tags that were asked for, or written, since the registry was told to forget."""
    return [
        one.path.rpartition("/")[2] for one in memory.seen if one.method == method and "/mealkit-cache-" in one.path
    ]


def without_wheels(workshop: Workshop) -> Workshop:
    """A fresh machine that can get no wheel: whatever would be fetched is not there."""
    shutil.move(workshop.pantry, workshop.pantry.with_name("moved-away"))
    return workshop.fresh()


@pytest.fixture
def wheels_come_back(workshop: Workshop) -> Iterator[None]:
    yield
    if (moved := workshop.pantry.with_name("moved-away")).exists():
        shutil.move(moved, workshop.pantry)


class Noting(Silent):
    """A reporter that keeps the notes, and counts layers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.restart()

    def restart(self) -> None:
        self.awaited, self.came = 0, 0

    def layers(self, count: int) -> None:
        self.awaited += count

    def layer(self, way: Moved) -> None:
        self.came += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def noted(workshop: Workshop, root: Path, to: str) -> tuple[ImageRecord, list[str]]:
    reporter = Noting()
    return build(workshop.request(root, to), reporter), reporter.notes


def dependencies(memory: MemoryRegistry, repository: str = "team/tiny") -> dict[str, Layer]:
    """The layers that cache tags of a repository tell, by kind."""
    return {layer.kind: layer for layers in cache_tags(memory, repository).values() for layer in layers.values()}


# --- cache tags ---


def test_a_first_build_writes_a_tag_for_each_shared_layer_and_one_for_the_lock(
    workshop: Workshop, memory: MemoryRegistry
) -> None:
    workshop.build(workshop.recipe(), place(memory))
    tags = cache_tags(memory)
    kinds = sorted(sorted(layer.kind for layer in layers.values()) for layers in tags.values())
    assert kinds == [["bytecode"], ["bytecode", "wheels"], ["mealkit"], ["wheels"]]
    assert all(layer.digest in memory.blobs["team/tiny"] for layers in tags.values() for layer in layers.values())
    assert memory.tags("team/tiny") == {"1.0.0", "latest"}


@pytest.mark.usefixtures("wheels_come_back")
def test_a_fresh_machine_finds_all_by_one_tag_when_no_image_tells(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    memory.forget()
    record = without_wheels(workshop).build(root, place(memory), tags=("branch",))
    assert record.digest == first.digest
    assert record.layers == {"reused": 4, "mounted": 0, "uploaded": 0}  # the recipe's too: it was asked for
    assert record.wheels_downloaded == 0
    assert len([tag for tag in asked(memory) if "-lock-" in tag]) == 1
    assert len([tag for tag in asked(memory) if "-layer-" in tag]) == 1  # mealkit's own, which is of no lock
    assert len(uploads(memory)) <= 2  # the config and the tests' tiny base, sent rather than asked for
    assert asked(memory, "PUT") == []


@pytest.mark.usefixtures("wheels_come_back")
def test_without_the_locks_tag_each_layers_own_is_asked_for(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, place(memory))
    (lock,) = (tag for tag in cache_tags(memory) if "-lock-" in tag)
    del memory.tag_digests["team/tiny"][lock]
    memory.forget()
    record = without_wheels(workshop).build(root, place(memory), tags=("branch",))
    assert record.wheels_downloaded == 0
    assert len([tag for tag in asked(memory) if "-layer-" in tag]) == 3
    assert asked(memory, "PUT") == [lock]  # no layer is new, but nobody told the lock


def test_a_warm_build_asks_for_no_tag(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, place(memory))
    (root / "tiny" / "model.py").write_text((root / "tiny" / "model.py").read_text() + "# changed\n")
    memory.forget()
    workshop.build(root, place(memory))
    workshop.fresh().build(root, place(memory))
    assert asked(memory) == asked(memory, "PUT") == []


def test_one_further_wheel_asks_for_and_writes_what_is_new(workshop: Workshop, memory: MemoryRegistry) -> None:
    workshop.wheel("small", "1.0")
    root = workshop.recipe()
    workshop.build(root, place(memory))
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace("dependencies = []", 'dependencies = ["small"]'))
    memory.forget()
    workshop.build(root, place(memory))
    assert len(asked(memory)) == 3  # the lock, the group of small wheels, its bytecode
    assert len(asked(memory, "PUT")) == 3


def test_a_small_layer_is_there_before_its_tag(workshop: Workshop) -> None:
    with MemoryRegistry(mounts="no") as memory:
        root = workshop.recipe()
        workshop.build(root, place(memory, "team/other"))
        workshop.build(root, place(memory), bytecode=False)
        record, notes = noted(workshop, root, place(memory))  # the bytecode is in the index, and small
        told = sorted(sorted(layer.kind for layer in layers.values()) for layers in cache_tags(memory).values())
        assert told.count(["bytecode"]) == told.count(["bytecode", "wheels"]) == 1
        refused = [
            one for one in memory.seen if one.method == "PUT" and "/manifests/" in one.path and one.status >= 400
        ]
        assert refused == []
        assert notes == []
        assert record.bytecode


def test_tags_that_cannot_be_written_fail_no_build(workshop: Workshop, memory: MemoryRegistry) -> None:
    memory.fail_next(403, times=99, method="PUT", path_contains="mealkit-cache-")
    record, notes = noted(workshop, workshop.recipe(), place(memory))
    assert memory.tags("team/tiny") == set(record.tags)
    assert cache_tags(memory) == {}
    assert notes == []


def test_tags_that_cannot_be_read_fail_no_build(workshop: Workshop, memory: MemoryRegistry) -> None:
    memory.fail_next(403, times=99, method="GET", path_contains="mealkit-cache-")
    assert workshop.build(workshop.recipe(), place(memory)).layers["uploaded"] == 4


def test_tags_can_be_switched_off(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe(image='cache = "off"')
    workshop.build(root, place(memory))
    workshop.fresh().build(root, place(memory), tags=("branch",))
    assert asked(memory) == asked(memory, "PUT") == []


# --- nobody is believed ---


def change(memory: MemoryRegistry, path: str, value: object, kind: str = "wheels") -> None:
    """Write a lie about the layers of a kind into all cache tags."""
    for digest, (data, media_type) in list(memory.manifests["team/tiny"].items()):
        document = json.loads(data)
        for layer in document.get("layers", ()):
            told = layer.get("annotations", {})
            if "io.mealkit.layer.diff-id" in told and told["io.mealkit.layer.key"].startswith(f"{kind}/"):
                (told if path.startswith("io.") else layer)[path] = value
        memory.manifests["team/tiny"][digest] = (json.dumps(document).encode(), media_type)


@pytest.mark.parametrize(
    ("path", "value"),
    [("digest", "sha256:" + "0" * 64), ("size", 12), ("digest", "nonsense"), ("io.mealkit.layer.key", "wheel/other")],
)
def test_a_tag_that_names_what_is_not_there_breaks_no_build(
    workshop: Workshop, memory: MemoryRegistry, path: str, value: object
) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    change(memory, path, value)
    # Its bytes no longer have the digest that the tag names: the registry serves them by the new one.
    manifests = memory.manifests["team/tiny"]
    for tag, digest in list(memory.tag_digests["team/tiny"].items()):
        if is_cache_tag(tag):
            from mealkit_builder.digest import digest_bytes

            changed = digest_bytes(manifests[digest][0])
            manifests[changed] = manifests[digest]
            memory.tag_digests["team/tiny"][tag] = changed
    record = workshop.fresh().build(root, place(memory), tags=("branch",))
    assert record.digest == first.digest
    assert record.wheels_downloaded == 6
    assert record.layers == {"reused": 4, "mounted": 0, "uploaded": 0}  # made here, and then found there


def test_what_this_machine_made_itself_counts_more_than_a_tag(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    change(memory, "io.mealkit.layer.diff-id", "sha256:" + "1" * 64)
    memory.tag_digests["team/tiny"].pop("latest")
    assert workshop.build(root, place(memory), tags=("branch",)).digest == first.digest


def test_a_layer_that_the_registry_has_removed_is_made_again(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    lost = dependencies(memory)["wheels"]
    del memory.blobs["team/tiny"][lost.digest]
    record = workshop.fresh().build(root, place(memory), tags=("branch",))
    assert record.digest == first.digest
    assert lost.digest in memory.blobs["team/tiny"]
    assert record.wheels_downloaded == 6


def test_a_layer_of_the_last_image_that_the_registry_has_removed_is_made_again(
    workshop: Workshop, memory: MemoryRegistry
) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    lost = dependencies(memory)["wheels"]
    del memory.blobs["team/tiny"][lost.digest]
    (root / "tiny" / "model.py").write_text((root / "tiny" / "model.py").read_text() + "# changed\n")
    reporter = Noting()
    record = build(workshop.fresh().request(root, place(memory)), reporter)
    assert record.digest != first.digest
    assert record.wheels_downloaded == 6  # the manifest's refusal told; then nothing was believed any more
    assert lost.digest in memory.blobs["team/tiny"]
    assert [note.partition(":")[0] for note in reporter.notes] == [
        "something that was known is gone from the registry or the cache"
    ]
    assert memory.tag_digests["team/tiny"]["latest"] == record.digest
    assert sum(record.layers.values()) == 4
    assert reporter.awaited == reporter.came == 5, "the base's layer too, and none is counted for both tries"


def test_a_registry_that_refuses_the_second_time_too_is_told(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    workshop.build(root, place(memory))
    base = pull_image(Layout(Path(workshop.base[4:])), "latest")
    assert base is not None
    digest = base.image.layers[0].digest
    del memory.blobs["team/tiny"][digest]
    (Path(workshop.base[4:]) / "blobs" / "sha256" / digest[7:]).unlink()  # and nobody has it any more
    (root / "tiny" / "model.py").write_text((root / "tiny" / "model.py").read_text() + "# changed\n")
    with pytest.raises(RegistryError, match="no such blob"):
        workshop.build(root, place(memory))


# --- mounts ---


def bytes_of_dependencies(memory: MemoryRegistry, repository: str) -> set[str]:
    """The digests of wheels' and bytecode's layers that were uploaded to a repository just now."""
    shared = {layer.digest for kind, layer in dependencies(memory).items() if kind != "recipe"}
    return {path.partition("digest=")[2].replace("%3A", ":") for path in uploads(memory) if repository in path} & shared


def test_a_second_repository_of_the_registry_gets_the_layers_without_a_byte(
    workshop: Workshop, memory: MemoryRegistry
) -> None:
    workshop.build(workshop.recipe(), place(memory))
    memory.forget()
    record = workshop.build(workshop.recipe("other"), place(memory, "team/other"))
    assert record.layers == {"reused": 0, "mounted": 3, "uploaded": 1}
    assert record.wheels_downloaded == 0
    assert bytes_of_dependencies(memory, "team/other") == set()
    assert record.bytes_uploaded < 20_000
    base = pull_image(Layout(Path(workshop.base[4:])), "latest")
    assert base is not None
    assert not [path for path in uploads(memory) if base.image.layers[0].digest[7:] in path]  # the base's neither


def test_a_layer_whose_bytes_are_not_here_is_mounted_too(workshop: Workshop, memory: MemoryRegistry) -> None:
    workshop.build(workshop.recipe(), place(memory))
    shutil.rmtree(workshop.store.root / "blobs")
    record = workshop.build(workshop.recipe("other"), place(memory, "team/other"))
    assert record.layers == {"reused": 0, "mounted": 3, "uploaded": 1}
    assert record.wheels_downloaded == 0


@pytest.mark.parametrize("mounts", ["no", "phantom"])
@pytest.mark.parametrize("here", [True, False], ids=["bytes-here", "bytes-gone"])
def test_a_mount_that_does_not_work_becomes_an_upload(workshop: Workshop, mounts: str, here: bool) -> None:
    with MemoryRegistry(mounts=mounts) as memory:  # type: ignore[arg-type]
        workshop.build(workshop.recipe(), place(memory))
        if not here:
            shutil.rmtree(workshop.store.root / "blobs")
        record = workshop.build(workshop.recipe("other"), place(memory, "team/other"))
        assert record.layers == {"reused": 0, "mounted": 0, "uploaded": 4}
        assert record.wheels_downloaded == (0 if here else 6)
        pulled = memory.manifests["team/other"][record.digest][0]
        assert {layer["digest"] for layer in json.loads(pulled)["layers"]} <= memory.blobs["team/other"].keys()


@pytest.mark.usefixtures("wheels_come_back")
@pytest.mark.registry
def test_a_second_recipe_on_a_fresh_machine_by_a_shared_cache_in_a_real_registry(
    workshop: Workshop, registry: RunningRegistry
) -> None:
    shared = f'cache = "{registry.host}/tiers/cache"'
    workshop.build(workshop.recipe("one", image=shared), f"{registry.host}/tiers/one")
    second = workshop.recipe("two", image=shared)
    before = len(registry.requests())
    record = without_wheels(workshop).build(second, f"{registry.host}/tiers/two")
    assert record.layers == {"reused": 0, "mounted": 3, "uploaded": 1}
    assert record.wheels_downloaded == 0
    assert record.bytes_uploaded < 30_000
    requests = registry.requests()[before:]
    sent = [line for line in requests if line.startswith("PUT /v2/tiers/two/blobs/uploads/")]
    assert len(sent) == 3  # the recipe's layer, the config, and the base's layer, of which nobody knows where it is
    mounted = [line for line in requests if line.startswith("POST") and "mount=" in line]
    assert len(mounted) == 3
    assert all("from=tiers%2Fcache" in line for line in mounted)
    for name in ("one", "two"):  # the images' own repositories hold no cache tag
        assert not [line for line in registry.requests() if f"tiers/{name}/manifests/mealkit-cache" in line]


def test_a_cache_on_another_registry_is_not_used_and_told(workshop: Workshop, memory: MemoryRegistry) -> None:
    with MemoryRegistry() as elsewhere:
        root = workshop.recipe(image=f'cache = "{elsewhere.host}/team/cache"')
        _, notes = noted(workshop, root, place(memory))
        assert elsewhere.seen == []
    assert len(notes) == 1
    assert "another registry" in notes[0]
    assert cache_tags(memory) != {}


def test_a_shared_cache_that_cannot_be_written_is_told(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe(image=f'cache = "{memory.host}/team/cache"')
    memory.fail_next(403, times=99, path_contains="/team/cache/")
    record, notes = noted(workshop, root, place(memory))
    assert memory.tags("team/tiny") == set(record.tags)
    assert len(notes) == 1
    assert notes[0].startswith("the cache tags were not written: ")


# --- layout folders ---


@pytest.mark.usefixtures("wheels_come_back")
def test_in_a_folder_any_image_tells_the_layers(workshop: Workshop) -> None:
    folder = workshop.folder / "images"
    first = workshop.build(workshop.recipe("one"), f"oci:{folder}", tags=("one",))
    second = workshop.recipe("two")
    record = without_wheels(workshop).build(second, f"oci:{folder}", tags=("two",))
    assert record.layers == {"reused": 3, "mounted": 0, "uploaded": 1}
    assert record.wheels_downloaded == 0
    assert record.digest != first.digest
    assert set(Layout(folder).list_tags()) == {"one", "two"}  # and needs no tag of ours for that
