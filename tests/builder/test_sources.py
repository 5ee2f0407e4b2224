"""Requirements that have no wheel – archives, commits, folders – are built once, recorded, and the same everywhere."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sources import archive, commit, git, image_files, library, repository
from workshop import MINOR, Workshop, make_base

from mealkit.errors import BuildError, LockError, NoWheelError, SecretFoundError
from mealkit.project import read_project
from mealkit_builder.finishing import complete_lock
from mealkit_builder.lock import LOCK_NAME, Lock, make_lock, read_lock
from mealkit_builder.record import ImageRecord

SITE = f"opt/mealkit/venv/lib/python{MINOR}/site-packages"


def with_sources(root: Path, text: str) -> None:
    """Give a recipe a ``[tool.uv.sources]`` table."""
    file = root / "pyproject.toml"
    file.write_text(f"{file.read_text()}\n[tool.uv.sources]\n{text}\n")


def lock(workshop: Workshop, root: Path) -> Lock:
    project = read_project(root)
    return complete_lock(make_lock(project, workshop.environment), project, workshop.environment)


def build(workshop: Workshop, root: Path, **changes: Any) -> ImageRecord:
    """Build without bytecode, which would only take time here."""
    return workshop.build(root, changes.pop("to", None), bytecode=False, **changes)


def anew(workshop: Workshop, root: Path, name: str = "fresh", **changes: Any) -> ImageRecord:
    """Build on a machine that has nothing, for a place that has nothing."""
    return build(workshop.fresh(name), root, to=f"oci:{workshop.folder / name}-images", **changes)


def notes(root: Path) -> list[dict[str, Any]]:
    table = tomllib.loads((root / LOCK_NAME).read_text())["tool"]["mealkit"]
    return list(table.get("built", []))


def test_a_source_distribution_is_built_once_and_recorded(workshop: Workshop, tmp_path: Path) -> None:
    archive(library(tmp_path / "spice"), workshop.index)
    root = workshop.recipe(dependencies=["spice"])
    first = build(workshop, root)
    assert image_files(first.url)[f"{SITE}/spice/__init__.py"] == b"HOT = True\n"
    (note,) = notes(root)
    assert note["file"] == "spice-1.0-py3-none-any.whl"
    assert note["python"] == MINOR
    assert note["source"].startswith("sha256:")
    text = (root / LOCK_NAME).read_text()
    assert build(workshop, root).digest == first.digest
    # A machine that has nothing builds the same, though the backend writes another time and order.
    assert anew(workshop, root, locked=True).digest == first.digest
    assert (root / LOCK_NAME).read_text() == text


def test_lock_records_what_a_locked_build_needs(workshop: Workshop, tmp_path: Path) -> None:
    archive(library(tmp_path / "spice"), workshop.index)
    root = workshop.recipe(dependencies=["spice"])
    make_lock(read_project(root), workshop.environment)
    with pytest.raises(LockError, match="notes no wheel that is built from the sources of spice") as caught:
        build(workshop, root, locked=True)
    assert "mealkit lock" in str(caught.value.hint)
    done = workshop.mealkit("lock", "--project", root)
    assert done.status == 0, done.err
    text = (root / LOCK_NAME).read_text()
    build(workshop, root, locked=True)
    # Locking again keeps what is noted.
    lock(workshop, root)
    assert (root / LOCK_NAME).read_text() == text


def test_another_wheel_than_the_recorded_one_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    path = archive(library(tmp_path / "spice", extra="files['spice/here.txt'] = os.urandom(9)"), workshop.index)
    root = workshop.recipe(dependencies=["spice"])
    first = build(workshop, root)
    with pytest.raises(BuildError, match="is not the one that the lock records") as caught:
        anew(workshop, root)
    assert "wheels" in str(caught.value.hint)
    # Where the layer is known nothing is built, and the index needs not even be there.
    path.unlink()
    assert build(workshop, root).digest == first.digest


def test_a_kept_wheel_is_taken_instead_of_building(workshop: Workshop, tmp_path: Path) -> None:
    archive(library(tmp_path / "spice", extra="files['spice/here.txt'] = os.urandom(9)"), workshop.index)
    root = workshop.recipe(dependencies=["spice"], image='wheels = "wheels"')
    first = build(workshop, root)
    assert [path.name for path in (root / "wheels").iterdir()] == ["spice-1.0-py3-none-any.whl"]
    assert anew(workshop, root, locked=True).digest == first.digest
    # A changed file is not taken.
    (root / "wheels/spice-1.0-py3-none-any.whl").write_bytes(b"evil")
    with pytest.raises(BuildError, match="is not the one that the lock records"):
        anew(workshop, root, "third")


def test_compiled_code_serves_its_own_platform_alone(workshop: Workshop, tmp_path: Path) -> None:
    archive(library(tmp_path / "spice", tag="MINOR-MINOR-linux_x86_64"), workshop.index)
    root = workshop.recipe(dependencies=["spice"])
    build(workshop, root)
    (note,) = notes(root)
    assert note["libc"].startswith("glibc-2.")
    with pytest.raises(NoWheelError, match=r"only sources for Python 3\.\d+ on linux/arm64") as caught:
        build(workshop, root, base=arm_base(workshop), platforms=("linux/arm64",))
    assert "compiled code" in str(caught.value.hint)


def arm_base(workshop: Workshop) -> str:
    return make_base(workshop.folder / "arm", platforms=("arm64",))


def test_pure_sources_serve_any_platform(workshop: Workshop, tmp_path: Path) -> None:
    archive(library(tmp_path / "spice"), workshop.index)
    root = workshop.recipe(dependencies=["spice"])
    build(workshop, root, base=arm_base(workshop), platforms=("linux/arm64",))
    build(workshop, root)
    assert len(notes(root)) == 1


def test_a_branch_is_locked_to_its_commit(workshop: Workshop, tmp_path: Path) -> None:
    project = library(tmp_path / "spice")
    first = repository(project)
    root = workshop.recipe(dependencies=[f"spice @ git+{project.as_uri()}@main"])
    before = build(workshop, root)
    assert first in (root / LOCK_NAME).read_text()
    (note,) = notes(root)
    assert note["source"] == f"git:{first}"
    # The branch moves on; the image does not.
    (project / "spice/__init__.py").write_text("HOT = False\n")
    second = commit(project)
    assert build(workshop, root).digest == before.digest
    assert anew(workshop, root, locked=True).digest == before.digest
    make_lock(read_project(root), workshop.environment, upgrade=True)
    after = build(workshop, root)
    assert image_files(after.url)[f"{SITE}/spice/__init__.py"] == b"HOT = False\n"
    assert [one["source"] for one in notes(root)] == [f"git:{second}"]


def test_a_project_in_a_subdirectory_of_a_repository(workshop: Workshop, tmp_path: Path) -> None:
    library(tmp_path / "all/libs/spice")
    revision = repository(tmp_path / "all")
    root = workshop.recipe(dependencies=["spice"])
    with_sources(root, f'spice = {{ git = "{(tmp_path / "all").as_uri()}", tag = "v1", subdirectory = "libs/spice" }}')
    git(tmp_path / "all", "tag", "v1")
    record = build(workshop, root)
    assert f"{SITE}/spice/__init__.py" in image_files(record.url)
    assert [one["source"] for one in notes(root)] == [f"git:{revision}#libs/spice"]


def test_a_commit_that_is_gone_is_told(workshop: Workshop, tmp_path: Path) -> None:
    project = library(tmp_path / "spice")
    repository(project)
    root = workshop.recipe(dependencies=[f"spice @ git+{project.as_uri()}"])
    build(workshop, root)
    shutil.rmtree(project)
    with pytest.raises(BuildError, match="git does not give spice at") as caught:
        anew(workshop, root)
    assert caught.value.hint


def test_a_folder_is_packed_as_it_is(workshop: Workshop, tmp_path: Path) -> None:
    workshop.wheel("salt", "2.0")
    root = workshop.recipe(dependencies=["spice"])
    library(root.parent / "libs/spice", dependencies='["salt>=2"]')
    with_sources(root, 'spice = { path = "../libs/spice", editable = true }')
    first = build(workshop, root)
    inside = image_files(first.url)
    assert inside[f"{SITE}/spice/__init__.py"] == b"HOT = True\n"
    assert f"{SITE}/salt.py" in inside
    assert not [name for name in inside if name.endswith(".pth")]
    text = (root / LOCK_NAME).read_text()
    assert 'path = "../libs/spice"' in text
    assert str(tmp_path) not in text.replace(str(workshop.index), "").replace(str(workshop.pantry), "")
    assert anew(workshop, root, locked=True).digest == first.digest
    # Another source file: another image, and the lock still fits.
    (root.parent / "libs/spice/spice/__init__.py").write_text("HOT = False\n")
    second = build(workshop, root, locked=True)
    assert image_files(second.url)[f"{SITE}/spice/__init__.py"] == b"HOT = False\n"
    assert second.digest != first.digest
    # What is ignored, or is left over from tools, changes nothing.
    (root.parent / "libs/spice/.gitignore").write_text("*.log\n")
    third = build(workshop, root, locked=True)
    for name in ("x.log", "spice.egg-info/PKG-INFO", "build/lib/x.py", "spice/__pycache__/x.pyc"):
        file = root.parent / "libs/spice" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("left over")
    assert build(workshop, root, locked=True).digest == third.digest == second.digest
    assert not (root.parent / "libs/spice/spice.egg-info/SOURCES.txt").exists()


def test_a_folder_with_other_requirements_wants_another_lock(workshop: Workshop) -> None:
    workshop.wheel("salt", "2.0")
    root = workshop.recipe(dependencies=["spice"])
    project = library(root.parent / "libs/spice")
    with_sources(root, 'spice = { path = "../libs/spice" }')
    build(workshop, root)
    assert read_lock(read_project(root)) is not None
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text().replace("dependencies = []", 'dependencies = ["salt"]')
    )
    assert read_lock(read_project(root)) is None
    assert f"{SITE}/salt.py" in image_files(build(workshop, root).url)


def test_a_member_of_the_workspace_is_found(workshop: Workshop) -> None:
    root = workshop.recipe(dependencies=["spice"])
    library(root.parent / "libs/spice")
    (root.parent / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["libs/*", "tiny"]\n')
    with_sources(root, "spice = { workspace = true }")
    assert f"{SITE}/spice/__init__.py" in image_files(build(workshop, root).url)


def test_a_secret_in_a_folder_is_not_packed(workshop: Workshop) -> None:
    root = workshop.recipe(dependencies=["spice"])
    project = library(root.parent / "libs/spice")
    with_sources(root, 'spice = { path = "../libs/spice" }')
    (project / "spice/.env").write_text("TOKEN=1\n")
    with pytest.raises(SecretFoundError, match=r"spice/\.env"):
        build(workshop, root)


def test_build_requirements_are_pinned_and_recorded(workshop: Workshop, tmp_path: Path) -> None:
    workshop.wheel("oven", "1.0", files={"oven.py": "HEAT = 1\n"})
    extra = "import oven; files['spice/heat.txt'] = str(oven.HEAT).encode()"
    archive(library(tmp_path / "spice", requires='["oven"]', extra=extra), workshop.index)
    root = workshop.recipe(dependencies=["spice"])
    first = build(workshop, root)
    assert [one["requires"] for one in notes(root)] == [["oven==1.0"]]
    # A newer one comes out, which would give another wheel.
    workshop.wheel("oven", "2.0", files={"oven.py": "HEAT = 2\n"})
    assert anew(workshop, root, locked=True).digest == first.digest


def test_a_build_that_fails_says_why(workshop: Workshop, tmp_path: Path) -> None:
    archive(library(tmp_path / "spice", extra="raise OSError('no oven in this kitchen')"), workshop.index)
    with pytest.raises(BuildError, match="cannot be built from its sources") as caught:
        build(workshop, workshop.recipe(dependencies=["spice"]))
    assert "no oven in this kitchen" in caught.value.message
    assert "compiler" in str(caught.value.hint)


def test_sources_of_another_distribution_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    project = library(tmp_path / "spice")
    (project / "backend.py").write_text((project / "backend.py").read_text().replace("'1.0'", "'6.6'"))
    archive(project, workshop.index)
    with pytest.raises(LockError, match=r"the sources of spice 1\.0 build spice 6\.6"):
        build(workshop, workshop.recipe(dependencies=["spice"]))


def test_extras_bring_their_requirements(workshop: Workshop) -> None:
    for name in ("salt", "pepper", "sugar"):
        workshop.wheel(name)
    root = workshop.recipe(image='extras = ["Hot"]', lock=False)
    file = root / "pyproject.toml"
    table = '[project.optional-dependencies]\nhot = ["pepper", "tiny[plain]"]\nplain = ["salt"]\nsweet = ["sugar"]\n'
    file.write_text(file.read_text().replace("[tool.mealkit]\n", f"{table}\n[tool.mealkit]\n"))
    inside = image_files(build(workshop, root).url)
    assert {f"{SITE}/pepper.py", f"{SITE}/salt.py"} <= set(inside)
    assert f"{SITE}/sugar.py" not in inside


def test_a_project_setting_is_no_part_of_a_cached_selection(workshop: Workshop, tmp_path: Path) -> None:
    """Two checkouts of one lock: each takes the folder beside itself."""
    root = workshop.recipe(dependencies=["spice"], within=tmp_path / "one")
    library(root.parent / "spice")
    with_sources(root, 'spice = { path = "../spice" }')
    build(workshop, root)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two/spice/spice/__init__.py").write_text("HOT = None\n")
    record = build(workshop, tmp_path / "two/tiny")
    assert image_files(record.url)[f"{SITE}/spice/__init__.py"] == b"HOT = None\n"
    assert replace(record, url="").tags == record.tags


def test_a_changed_folder_makes_the_revision_dirty(workshop: Workshop, tmp_path: Path) -> None:
    root = workshop.recipe(dependencies=["spice"], within=tmp_path / "all/recipes")
    project = library(tmp_path / "all/libs/spice")
    with_sources(root, 'spice = { path = "../../libs/spice" }')
    lock(workshop, root)
    (root / ".gitignore").write_text(".mealkit\n")
    first = repository(tmp_path / "all")
    record = build(workshop, root)
    assert (record.revision, record.dirty) == (first, False)
    (project / "spice/__init__.py").write_text("HOT = False\n")
    assert build(workshop, root).dirty
    second = commit(tmp_path / "all")
    record = build(workshop, root)
    assert (record.revision, record.dirty) == (second, False)
    shutil.copytree(project, tmp_path / "elsewhere")
    file = root / "pyproject.toml"
    file.write_text(file.read_text().replace("../../libs/spice", str(tmp_path / "elsewhere")))
    lock(workshop, root)
    commit(tmp_path / "all")
    assert build(workshop, root).dirty
