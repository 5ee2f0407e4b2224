"""Our own distributions: the same files however they are installed, checked against their RECORD."""

from __future__ import annotations

import csv
import io
from importlib.metadata import PathDistribution
from pathlib import Path
from types import SimpleNamespace

import pytest

from mealkit.errors import BuildError
from mealkit_builder import own


def test_all_modules_are_packed_and_no_bytecode() -> None:
    files = own.own_files()
    assert {"mealkit/__init__.py", "mealkit/py.typed", "mealkit_runtime/__main__.py"} <= set(files)
    assert list(files) == sorted(files)
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]
    assert {name.split("/")[0] for name in files} == {"mealkit", "mealkit_runtime"}


def test_requirements_are_ours_without_ourselves() -> None:
    requirements = own.own_requirements()
    assert list(requirements) == sorted(set(requirements))
    assert any(text.startswith("pandas") for text in requirements)
    assert not any(own.is_own(text) for text in requirements)


@pytest.mark.parametrize(
    "text", ["mealkit", "mealkit==0.1.0", "Mealkit_Runtime>=1", " mealkit-runtime[all] ; python_version>'3'"]
)
def test_our_names_are_known_however_they_are_written(text: str) -> None:
    assert own.is_own(text)


@pytest.mark.parametrize("text", ["mealkit-builder", "mealkits", "pandas", "my-mealkit", ""])
def test_other_names_are_not_ours(text: str) -> None:
    assert not own.is_own(text)


def test_metadata_can_be_read_by_others(tmp_path: Path) -> None:
    files = {"shop/__init__.py": b"", "shop/a,b.csv": b"1,2\n"}
    made = own.metadata_files("My.Shop", "1.0", "First line\nTopic: no header", ">=3.11", ("pandas>=2",), files)
    for name, data in {**made, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (folder,) = tmp_path.glob("*.dist-info")
    assert folder.name == "My_Shop-1.0.dist-info"
    found = PathDistribution(folder)
    assert (found.name, found.version, found.requires) == ("My.Shop", "1.0", ["pandas>=2"])
    assert found.metadata["Summary"] == "First line Topic: no header"
    assert found.metadata["Topic"] is None
    for entry in found.files or ():
        if entry.hash is not None:
            assert entry.hash.value == own.record_hash((tmp_path / str(entry)).read_bytes())
            assert entry.size == (tmp_path / str(entry)).stat().st_size
    names = {row[0] for row in csv.reader(io.StringIO(made[f"{folder.name}/RECORD"].decode()))}
    assert names == {*made, *files}


def test_metadata_are_the_same_every_time() -> None:
    files = {"b.py": b"2", "a.py": b"1"}
    one = own.metadata_files("shop", "1", "", ">=3.11", (), files)
    other = own.metadata_files("shop", "1", "", ">=3.11", (), dict(sorted(files.items())))
    assert one == other


def test_an_editable_checkout_is_packed_as_it_is() -> None:
    own.check_records(own.own_files())


def test_an_installed_file_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mealkit" / "row.py"
    path.parent.mkdir()
    path.write_text("# changed by somebody\n")

    def distribution(name: str) -> SimpleNamespace:
        info = tmp_path / f"{name}-0.1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        hashed = own.record_hash(b"# as it was\n")
        (info / "RECORD").write_text(f"mealkit/row.py,sha256={hashed},12\n" if name == "mealkit" else "")
        return PathDistribution(info)  # type: ignore[return-value]

    monkeypatch.setattr("importlib.metadata.distribution", distribution)
    with pytest.raises(BuildError, match="mealkit was changed after it was installed") as caught:
        own.check_records({"mealkit/row.py": path})
    assert caught.value.where == str(path)
    assert caught.value.hint
    path.write_text("# as it was\n")
    own.check_records({"mealkit/row.py": path})
