"""Rebuilding: the same bytes from the recorded inputs, or the first thing that makes them differ."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import sample
from workshop import Workshop

from mealkit.errors import NotFoundError, UsageError
from mealkit_builder.layout import Layout
from mealkit_builder.push import push_image
from mealkit_builder.rebuild import NotReproducedError, verify_rebuild
from mealkit_builder.testing import MemoryRegistry


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, timeout=30)


def commit(folder: Path, *paths: str) -> None:
    git(folder, "add", *(paths or ("-A",)))
    git(folder, "commit", "-qm", "a commit")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with room for recipes in folders."""
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(".mealkit\n")
    return tmp_path


def test_the_commit_is_rebuilt_whatever_the_folder_has_now(
    shop: Workshop, repository: Path, memory: MemoryRegistry
) -> None:
    shop.wheel("needed")
    root = shop.recipe("committed", dependencies=["needed"], within=repository / "recipes")
    shop.mealkit("lock", "-C", root)
    commit(repository)
    record = shop.build(root, f"{memory.host}/committed")
    (root / "committed" / "model.py").write_text("X = 1\n")
    (root / "pylock.toml").unlink()
    commit(repository)
    found = verify_rebuild(record.url, root, shop.fresh("rebuild-cache").environment)
    assert found.same
    assert found.revision == record.revision
    assert found.notes == ()
    found.check()
    assert subprocess.run(["git", "-C", str(root), "status", "--porcelain"], capture_output=True).stdout == b""


def test_a_lock_that_was_not_committed_is_the_folders(shop: Workshop, repository: Path) -> None:
    (repository / ".gitignore").write_text(".mealkit\npylock.toml\n")
    root = shop.recipe("unlocked", within=repository)
    commit(repository)
    record = shop.build(root)
    found = verify_rebuild(record.url, root, shop.environment)
    assert found.same
    assert "pylock.toml" in found.notes[0]


def test_an_image_of_no_commit_is_made_from_the_folder(shop: Workshop) -> None:
    root = shop.recipe("plain")
    record = shop.build(root)
    lines = (root / ".mealkit" / "images.jsonl").read_text()
    found = verify_rebuild(record.url, root, shop.environment)
    assert found.same
    assert "records no commit" in found.notes[0]
    assert (root / ".mealkit" / "images.jsonl").read_text() == lines


def test_another_source_is_told_by_layer_file_and_field(shop: Workshop) -> None:
    root = shop.recipe("altered")
    record = shop.build(root)
    model = root / "altered" / "model.py"
    model.write_text(model.read_text() + "# longer\n")
    found = verify_rebuild(record.url, root, shop.environment)
    assert not found.same
    assert found.layer == "altered 1.0.0"
    assert found.path.startswith("opt/mealkit/venv/lib/python")
    assert "altered" in found.path
    with pytest.raises(NotReproducedError, match=r"the first difference is the (size|content) of .*altered") as caught:
        found.check()
    assert caught.value.where == record.url


def test_another_setting_is_told(shop: Workshop) -> None:
    root = shop.recipe("tuned")
    record = shop.build(root)
    project = root / "pyproject.toml"
    project.write_text(project.read_text() + 'env = {MODE = "b"}\n')
    found = verify_rebuild(record.url, root, shop.environment)
    assert (found.layer, found.path) == ("", "")
    assert found.change is not None
    assert (found.change.name, found.change.before, found.change.after) == ("env MODE", None, "b")


def test_the_recorded_time_counts_not_todays(shop: Workshop) -> None:
    root = shop.recipe("dated")
    record = shop.having(SOURCE_DATE_EPOCH="1000000000").build(root)
    assert verify_rebuild(record.url, root, shop.environment).same


def test_a_base_whose_tag_has_moved_is_taken_by_its_digest(
    shop: Workshop, memory: MemoryRegistry, tmp_path: Path
) -> None:
    from workshop import make_base

    def publish(version: str) -> None:
        folder = make_base(tmp_path / version, version=version)
        assert shop.mealkit("push", folder, "--to", f"{memory.host}/base:1").status == 0

    publish("3.11.1")
    root = shop.recipe("moved", base=f"{memory.host}/base:1")
    record = shop.build(root, f"{memory.host}/moved")
    publish("3.11.2")
    assert verify_rebuild(record.url, root, shop.environment).same


def test_several_platforms_are_rebuilt(shop: Workshop, memory: MemoryRegistry) -> None:
    from workshop import make_base

    base = make_base(shop.folder / "both", platforms=("amd64", "arm64"))
    root = shop.recipe("both", base=base)
    record = shop.build(root, f"{memory.host}/both", platforms=("linux/amd64", "linux/arm64"))
    assert len(record.platforms) == 2
    assert verify_rebuild(record.url, root, shop.environment).same
    model = root / "both" / "model.py"
    model.write_text(model.read_text() + "# longer\n")
    found = verify_rebuild(record.url, root, shop.environment)
    assert found.platform == "linux/amd64"
    assert found.layer == "both 1.0.0"


def test_a_commit_that_is_not_there(shop: Workshop, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = shop.recipe("lost", within=repository)
    commit(repository)
    record = shop.build(root)
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    (other / "file").write_text("")
    commit(other)
    with pytest.raises(NotFoundError, match="is not in the repository"):
        verify_rebuild(record.url, other, shop.environment)


def test_a_foreign_image_is_refused(shop: Workshop, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "foreign")
    foreign = sample({"a": b"1"})
    push_image(foreign.image, layout, foreign.open_layer, tags=("1",))
    with pytest.raises(UsageError, match="was not built by mealkit"):
        verify_rebuild(f"oci:{tmp_path}/foreign:1", tmp_path, shop.environment)
    with pytest.raises(NotFoundError):
        verify_rebuild(f"oci:{tmp_path}/foreign:2", tmp_path, shop.environment)
