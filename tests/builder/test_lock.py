"""The lock: resolved with our requirements, kept where it fits, refused with both sides named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from workshop import Workshop

from mealkit.errors import LockError, UnreachableError
from mealkit.project import read_project
from mealkit_builder.lock import LOCK_NAME, Lock, lock_inputs, make_lock, read_lock, uv_program
from mealkit_builder.own import own_requirements


def locked(workshop: Workshop, root: Path, *, upgrade: bool = False) -> Lock:
    return make_lock(read_project(root), workshop.environment, upgrade=upgrade)


def versions(lock: Lock) -> dict[str, str]:
    return {package["name"]: package["version"] for package in tomllib.loads(lock.text)["packages"]}


def rewrite(root: Path, old: str, new: str) -> None:
    file = root / "pyproject.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_lock_is_a_pep_751_file_with_the_recipes_requirements_and_ours(workshop: Workshop) -> None:
    workshop.wheel("spice", "1.4", requires=["salt"])
    workshop.wheel("salt", "2.0")
    root = workshop.recipe(dependencies=["spice>=1"])
    lock = locked(workshop, root)
    assert lock.path == root / LOCK_NAME
    assert lock.path.read_text() == lock.text
    found = versions(lock)
    assert found["spice"] == "1.4"
    assert found["salt"] == "2.0"
    ours = {re.match(r"[\w-]+", text)[0] for text in own_requirements()}  # type: ignore[index]
    assert ours <= set(found)
    assert not {"mealkit", "mealkit-runtime"} & set(found)
    assert tomllib.loads(lock.text)["lock-version"] == "1.0"


def test_a_requirement_of_mealkit_itself_is_not_looked_for_on_the_index(workshop: Workshop) -> None:
    root = workshop.recipe(dependencies=["mealkit==0.1.0", "Mealkit_Runtime"])
    assert "mealkit" not in versions(locked(workshop, root))


def test_a_lock_that_fits_is_read_again(workshop: Workshop) -> None:
    root = workshop.recipe(lock=False)
    made = locked(workshop, root)
    assert read_lock(read_project(root)) == made
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", made.digest)


def test_a_lock_of_other_requirements_is_out_of_date(workshop: Workshop) -> None:
    root = workshop.recipe(lock=False)
    locked(workshop, root)
    rewrite(root, "dependencies = []", 'dependencies = ["pandas>=2"]')
    assert read_lock(read_project(root)) is None


def test_a_lock_of_another_python_is_out_of_date(workshop: Workshop) -> None:
    root = workshop.recipe(lock=False)
    locked(workshop, root)
    rewrite(root, ">=3.11", ">=3.12")
    assert read_lock(read_project(root)) is None


def test_other_settings_leave_the_lock_as_it_is(workshop: Workshop) -> None:
    root = workshop.recipe(lock=False)
    before = lock_inputs(read_project(root))
    rewrite(root, 'version = "1.0.0"', 'version = "2.0.0"')
    rewrite(root, 'kind = "classification"', 'kind = "regression"')
    assert lock_inputs(read_project(root)) == before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"packages = 1\n"])
def test_a_file_that_is_no_lock_of_ours_is_made_anew(workshop: Workshop, content: bytes) -> None:
    root = workshop.recipe(lock=False)
    (root / LOCK_NAME).write_bytes(content)
    assert read_lock(read_project(root)) is None
    locked(workshop, root)
    assert read_lock(read_project(root)) is not None


def test_older_pins_are_kept_until_an_upgrade(workshop: Workshop) -> None:
    workshop.wheel("spice", "1.0")
    root = workshop.recipe(dependencies=["spice"])
    assert versions(locked(workshop, root))["spice"] == "1.0"
    workshop.wheel("spice", "2.0")
    assert versions(locked(workshop, root))["spice"] == "1.0"
    assert versions(locked(workshop, root, upgrade=True))["spice"] == "2.0"


def test_a_pin_that_no_longer_fits_gives_way(workshop: Workshop) -> None:
    workshop.wheel("spice", "1.0")
    root = workshop.recipe(dependencies=["spice"])
    locked(workshop, root)
    workshop.wheel("spice", "2.0")
    rewrite(root, '"spice"', '"spice>=2"')
    assert versions(locked(workshop, root))["spice"] == "2.0"


def test_the_same_requirements_give_the_same_lock_in_another_folder(workshop: Workshop, tmp_path: Path) -> None:
    one = locked(workshop, workshop.recipe("tiny", within=tmp_path / "a", lock=False))
    other = locked(workshop, workshop.recipe("tiny", within=tmp_path / "b", lock=False))
    assert one.text == other.text


def test_a_conflict_names_both_sides(workshop: Workshop) -> None:
    root = workshop.recipe(dependencies=["pandas<2"])
    with pytest.raises(LockError) as caught:
        locked(workshop, root)
    assert "'pandas<2' is asked for by tiny" in caught.value.message
    assert "'pandas>=2.2' is asked for by mealkit-runtime" in caught.value.message
    assert caught.value.where == f"{root}/pyproject.toml: project.dependencies"
    assert caught.value.hint
    assert not (root / LOCK_NAME).exists()


def test_a_failed_lock_leaves_the_older_one(workshop: Workshop) -> None:
    root = workshop.recipe(lock=False)
    before = locked(workshop, root).text
    rewrite(root, "dependencies = []", 'dependencies = ["pandas<2"]')
    with pytest.raises(LockError):
        locked(workshop, root)
    assert (root / LOCK_NAME).read_text() == before
    assert sorted(path.name for path in root.iterdir()) == ["pylock.toml", "pyproject.toml", "tiny"]


def test_what_is_no_requirement_is_told(workshop: Workshop) -> None:
    with pytest.raises(LockError, match="cannot be resolved") as caught:
        locked(workshop, workshop.recipe(dependencies=["not a requirement!"]))
    assert "not a requirement!" in caught.value.message


@pytest.mark.parametrize(("text", "said"), [("nonsense", "not a version specifier"), ("<3.11", "no Python from 3.11")])
def test_an_impossible_python_is_told(workshop: Workshop, text: str, said: str) -> None:
    root = workshop.recipe(lock=False)
    rewrite(root, ">=3.11", text)
    with pytest.raises(LockError, match=said) as caught:
        locked(workshop, root)
    assert caught.value.where == f"{root}/pyproject.toml: project.requires-python"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("allowed", "lowest"), [(">=3.11.4", "3.11"), (">=3.12,<4", "3.12"), ("~=3.13.0", "3.13"), ("", "3.11")]
)
def test_the_lowest_python_that_is_allowed_is_resolved_for(workshop: Workshop, allowed: str, lowest: str) -> None:
    root = workshop.recipe(lock=False)
    rewrite(root, ">=3.11", allowed)
    assert tomllib.loads(locked(workshop, root).text)["requires-python"].startswith(f">={lowest}")


def test_an_index_that_does_not_answer_is_a_passing_fault(workshop: Workshop) -> None:
    dead = workshop.online("http://127.0.0.1:1/simple")
    with pytest.raises(UnreachableError) as caught:
        locked(dead, workshop.recipe(dependencies=["spice"]))
    assert caught.value.where == "127.0.0.1:1"
    assert caught.value.exit_code == 75


def test_a_wheel_may_be_named_by_its_file(workshop: Workshop, tmp_path: Path) -> None:
    made = workshop.wheel("spice", "3.0")
    elsewhere = tmp_path / made.name
    made.rename(elsewhere)
    root = workshop.recipe(dependencies=[f"spice @ {elsewhere.as_uri()}"])
    workshop.build(root)
    assert '"spice"' in (root / LOCK_NAME).read_text()


def test_uv_stands_beside_the_builder() -> None:
    assert Path(uv_program()).is_file()
