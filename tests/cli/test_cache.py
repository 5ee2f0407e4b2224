"""The command ``mealkit cache``."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from services import RunningRegistry
from workshop import Workshop

from mealkit_builder.cli._quantity import Age, Size
from mealkit_builder.testing import MemoryRegistry


def test_the_path_is_told(shop: Workshop) -> None:
    assert shop.mealkit("cache", "path").out.strip() == shop.environment["MEALKIT_CACHE"]


def test_the_local_cache_is_listed_and_pruned(workshop: Workshop) -> None:
    assert workshop.mealkit("cache", "ls").out == f"0 B in {workshop.store.root}\n"
    root = workshop.recipe()
    first = workshop.build(root)
    done = workshop.mealkit("cache", "ls")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert any(line.startswith("layer of wheels") and "last used just now" in line for line in lines)
    assert lines[-1].endswith(f" in {workshop.store.root}")
    told = json.loads(workshop.mealkit("cache", "ls", "--json").out)
    assert told["size"] == sum(row["size"] for row in told["kinds"])
    assert {row["kind"]: row["count"] for row in told["kinds"]}["wheel file"] == 6

    would = json.loads(workshop.mealkit("cache", "prune", "--max-size", "1kB", "--dry-run", "--json").out)
    assert would["dry_run"]
    assert all(Path(one["path"]).exists() for one in would["removed"])
    assert "0 things" in workshop.mealkit("cache", "prune", "--older-than", "1h").out
    done = workshop.mealkit("cache", "prune", "--all")
    assert done.out.startswith("removed "), done.err
    assert workshop.build(root).digest == first.digest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prune"], "nothing says what may go"),
        (["prune", "--older-than", "soon"], "no length of time"),
        (["prune", "--max-size", "big"], "no size"),
        (["prune", "host.io/x", "--older-than", "1d"], "cache tags have no age"),
        (["ls", "oci:somewhere"], "a layout folder has no cache tags"),
    ],
)
def test_a_wrong_line_is_told(shop: Workshop, arguments: list[str], said: str) -> None:
    done = shop.mealkit("cache", *arguments)
    assert done.status == 2
    assert said in done.err
    assert "hint: " in done.err


@pytest.mark.registry
def test_cache_tags_are_listed_and_removed_in_a_real_registry(shop: Workshop, registry: RunningRegistry) -> None:
    to = f"{registry.host}/cache/listed"
    record = shop.build(shop.recipe("listed"), to)
    lines = shop.mealkit("cache", "ls", to).out.splitlines()
    assert lines[-1].startswith("4 cache tags, 3 layers, ")
    assert any(line.startswith("mealkit-cache-lock-") and line.endswith("a lock: 2 layers") for line in lines)
    told = json.loads(shop.mealkit("cache", "ls", to, "--json").out)
    assert {layer["kind"] for one in told for layer in one["layers"]} == {"wheels", "bytecode", "mealkit"}
    assert len(json.loads(shop.mealkit("cache", "prune", to, "--dry-run", "--json").out)["removed"]) == 4
    assert shop.mealkit("cache", "prune", to).out == "removed 4 cache tags\n"
    assert shop.mealkit("cache", "ls", to).out == "0 cache tags, 0 layers, 0 B\n"
    assert shop.mealkit("inspect", record.url).status == 0  # the image is as it was


def test_cache_tags_are_removed_from_a_memory_registry_too(shop: Workshop) -> None:
    with MemoryRegistry() as memory:
        to = f"{memory.host}/team/pruned"
        record = shop.build(shop.recipe("pruned"), to)
        assert len(memory.tag_digests["team/pruned"]) == 6
        assert shop.mealkit("cache", "prune", to).out == "removed 4 cache tags\n"
        assert memory.tag_digests["team/pruned"] == dict.fromkeys(("1.0.0", "latest"), record.digest)


def test_a_registry_that_forbids_deleting_is_told(shop: Workshop) -> None:
    with MemoryRegistry() as memory:
        to = f"{memory.host}/team/kept"
        shop.build(shop.recipe("kept"), to)
        memory.fail_next(405, times=9, method="DELETE")
        done = shop.mealkit("cache", "prune", to)
        assert done.status == 7
        assert "does not allow to delete" in done.err
        assert "hint: ask its operator" in done.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), ("1.5D", 129_600)]
)
def test_ages_are_written_as_people_do(text: str, seconds: float) -> None:
    assert Age().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("12", 12), ("5GB", 5 * 10**9), ("5 g", 5 * 10**9), ("1.5GiB", 3 << 29), ("100MB", 10**8)],
)
def test_sizes_are_written_as_people_do(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "d", "-1d", "1y", "30"])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Age().convert(text, None, None)


def test_an_unwritable_cache_is_told(shop: Workshop, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    done = shop.having(MEALKIT_CACHE=str(file)).mealkit("cache", "prune", "--all")
    assert done.status == 8
    assert str(file) in done.err
    assert file.read_text() == "not a folder"
