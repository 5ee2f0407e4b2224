"""What the last image tells a machine that knows nothing: neither pydantic nor the lock's parser is asked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from workshop import Workshop

from mealkit_builder.bytecode import compile_tree
from mealkit_builder.inflate import Buffer
from mealkit_builder.interpreter import Interpreter
from mealkit_builder.platform import Platform
from mealkit_builder.pull import Pulled, pull_image
from mealkit_builder.recall import SELECTION_LABEL
from mealkit_builder.reference import parse_reference
from mealkit_builder.registry import Repository
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


def place(memory: MemoryRegistry) -> str:
    return f"{memory.host}/team/tiny"


def latest(memory: MemoryRegistry) -> Pulled:
    repository = Repository(parse_reference(place(memory)), {})
    try:
        found = pull_image(repository, "latest", Platform())
    finally:
        repository.close()
    assert found is not None
    return found


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **further: object) -> None:
        raise AssertionError("worked out again")

    monkeypatch.setattr("mealkit.describe.describe_with_sources", forbidden)
    monkeypatch.setattr("mealkit_builder.selection._select", forbidden)


def test_a_fresh_machine_makes_and_compiles_only_what_changed(
    workshop: Workshop, memory: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workshop.recipe()
    for name in ("large", "larger"):
        (root / "tiny" / f"{name}.py").write_text(f"{name.upper()} = 1\n" * 400)
    workshop.build(root, place(memory))
    compiled: list[str] = []

    def compile_some(files: Mapping[str, Buffer], interpreter: Interpreter) -> dict[str, bytes]:
        compiled.extend(path.rpartition("/")[2] for path in files)
        return compile_tree(files, interpreter)

    monkeypatch.setattr("mealkit_builder.bytecode.compile_tree", compile_some)
    (root / "tiny" / "larger.py").write_text("LARGER = 2\n" * 400)
    fresh = workshop.fresh()
    edited = fresh.build(root, place(memory))
    assert sorted(compiled) == ["__init__.py", "larger.py", "model.py", "settings.py"]
    assert sorted(layer.title for layer in fresh.store.layers()) == ["tiny 1.0.0", "tiny/larger.py"]
    assert edited.layers == {"reused": 4, "mounted": 0, "uploaded": 2}
    monkeypatch.undo()
    assert workshop.fresh("another").build(root, f"oci:{workshop.folder / 'other'}").digest == edited.digest


def test_a_fresh_machine_works_out_nothing(
    workshop: Workshop, memory: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    forbid(monkeypatch)
    again = workshop.fresh().build(root, place(memory))
    assert again.url == first.url
    assert (again.wheels_downloaded, again.layers["uploaded"], again.bytes_uploaded) == (0, 0, 0)
    with (root / "tiny" / "model.py").open("a") as model:
        model.write("# edited\n")
    edited = workshop.fresh().build(root, place(memory))
    assert edited.layers == {"reused": 3, "mounted": 0, "uploaded": 1}
    monkeypatch.undo()
    # And it is what a machine makes that asks nobody.
    assert workshop.fresh().build(root, use_cache=False).digest == edited.digest


@pytest.mark.parametrize("changed", ["lock", "settings", "pyproject"])
def test_what_changed_is_worked_out_again(workshop: Workshop, memory: MemoryRegistry, changed: str) -> None:
    root = workshop.recipe()
    workshop.build(root, place(memory))
    before = latest(memory).image.config.label_map
    file = {"lock": "pylock.toml", "settings": "tiny/settings.py", "pyproject": "pyproject.toml"}[changed]
    text = (root / file).read_text()
    wanted = {"lock": "# another\n" + text, "settings": text + "A = 1\n", "pyproject": text + "# another\n"}[changed]
    (root / file).write_text(wanted)
    workshop.fresh().build(root, place(memory))
    after = latest(memory).image.config.label_map
    assert (after[SELECTION_LABEL] != before[SELECTION_LABEL]) == (changed == "lock")
    assert (after["io.mealkit.recipe.source"] != before["io.mealkit.recipe.source"]) == (changed != "lock")


def test_a_layer_that_is_gone_is_made_all_the_same(workshop: Workshop, memory: MemoryRegistry) -> None:
    root = workshop.recipe()
    first = workshop.build(root, place(memory))
    gone = next(layer for layer in latest(memory).image.layers if layer.kind == "wheels")
    del memory.blobs["team/tiny"][gone.digest]
    (root / "tiny" / "model.py").write_text((root / "tiny" / "model.py").read_text() + "# edited\n")
    again = workshop.fresh().build(root, place(memory))
    assert again.url != first.url
    assert gone.digest in memory.blobs["team/tiny"]
