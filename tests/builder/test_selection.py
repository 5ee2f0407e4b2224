"""The selection: the right wheel of a lock for each platform, Python and C library."""

from __future__ import annotations

from pathlib import Path

import pytest

from mealkit.errors import BuildError, LockError, NoWheelError
from mealkit_builder.lock import Lock
from mealkit_builder.note import Built, Notes, with_notes
from mealkit_builder.origin import Origin
from mealkit_builder.platform import Platform
from mealkit_builder.selection import select_wheels
from mealkit_builder.store import Store
from mealkit_builder.wheel import WheelFile

AMD = Platform("linux", "amd64")
ARM = Platform("linux", "arm64")
FILES = (
    "spice-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "spice-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    "spice-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
    "spice-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
    "spice-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    "spice-1.0-cp311-cp311-win_amd64.whl",
    "spice-1.0-cp311-cp311-macosx_11_0_arm64.whl",
)


def wheel(filename: str) -> str:
    return f'{{ name = "{filename}", url = "http://127.0.0.1/{filename}", size = 7, {hashes("a")} }}'


def hashes(digit: str) -> str:
    return f'hashes = {{ sha256 = "{digit * 64}" }}'


def package(name: str, *filenames: str, more: str = "") -> str:
    return f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{more}\n' + (
        f"wheels = [{', '.join(map(wheel, filenames))}]\n" if filenames else ""
    )


def lock(*packages: str, python: str = ">=3.11") -> Lock:
    head = f'lock-version = "1.0"\ncreated-by = "uv"\nrequires-python = "{python}"\n'
    return Lock(Path("/recipe/pylock.toml"), "\n".join((head, *packages)))


def chosen(
    text: Lock,
    store: Store,
    *,
    minor: str = "3.11",
    platform: Platform = AMD,
    libc: str = "glibc",
    version: tuple[int, int] = (2, 36),
) -> dict[str, str]:
    return {w.name: w.filename for w in select_wheels(text, minor, platform, libc, version, store)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.mark.parametrize(
    ("minor", "platform", "libc", "version", "expected"),
    [
        ("3.11", AMD, "glibc", (2, 36), "cp311-cp311-manylinux_2_28_x86_64"),
        ("3.11", AMD, "glibc", (2, 27), "manylinux_2_17_x86_64"),
        ("3.12", AMD, "glibc", (2, 36), "cp312-cp312-manylinux_2_28_x86_64"),
        ("3.11", ARM, "glibc", (2, 36), "cp311-cp311-manylinux_2_28_aarch64"),
        ("3.11", AMD, "musl", (1, 2), "musllinux_1_2_x86_64"),
    ],
)
def test_the_wheel_fits_the_image_and_not_this_machine(
    store: Store, minor: str, platform: Platform, libc: str, version: tuple[int, int], expected: str
) -> None:
    found = chosen(lock(package("spice", *FILES)), store, minor=minor, platform=platform, libc=libc, version=version)
    assert expected in found["spice"]


@pytest.mark.parametrize(
    ("minor", "platform", "libc", "version"),
    [
        ("3.11", AMD, "glibc", (2, 16)),  # older than any of its wheels
        ("3.11", ARM, "glibc", (2, 27)),
        ("3.11", ARM, "musl", (1, 2)),
        ("3.11", AMD, "musl", (1, 1)),
        ("3.13", AMD, "glibc", (2, 36)),
    ],
)
def test_a_requirement_without_a_wheel_for_the_image_is_told(
    store: Store, minor: str, platform: Platform, libc: str, version: tuple[int, int]
) -> None:
    with pytest.raises(NoWheelError) as caught:
        chosen(lock(package("spice", *FILES)), store, minor=minor, platform=platform, libc=libc, version=version)
    error = caught.value
    assert "spice" in error.message
    assert f"Python {minor} on {platform} with {libc} {version[0]}.{version[1]}" in error.message
    assert error.where == "/recipe/pylock.toml"
    assert error.hint
    assert error.exit_code == 6


def test_a_wheel_for_any_platform_fits_all(store: Store) -> None:
    text = lock(package("salt", "salt-1.0-py3-none-any.whl"))
    for platform in (AMD, ARM):
        for libc, version in (("glibc", (2, 17)), ("musl", (1, 0))):
            assert chosen(text, store, minor="3.13", platform=platform, libc=libc, version=version)
    assert chosen(lock(package("salt", "salt-1.0-cp39-abi3-manylinux1_x86_64.whl")), store) != {}


def test_markers_are_those_of_the_image(store: Store) -> None:
    text = lock(
        package("armour", "armour-1.0-py3-none-any.whl", more="marker = \"platform_machine == 'aarch64'\""),
        package("old", "old-1.0-py3-none-any.whl", more="marker = \"python_full_version < '3.12'\""),
        package("win", "win-1.0-py3-none-any.whl", more="marker = \"sys_platform == 'win32'\""),
        package("salt", "salt-1.0-py3-none-any.whl"),
    )
    assert set(chosen(text, store)) == {"old", "salt"}
    assert set(chosen(text, store, minor="3.12")) == {"salt"}
    assert set(chosen(text, store, platform=ARM, minor="3.12")) == {"armour", "salt"}


def selected(text: Lock, store: Store, **changes: object) -> WheelFile:
    given = {"minor": "3.11", "platform": AMD, "libc": "glibc", "libc_version": (2, 36), **changes}
    (found,) = select_wheels(text, store=store, **given)  # type: ignore[arg-type]
    return found


SDIST = f'sdist = {{ name = "spice-1.0.tar.gz", url = "http://127.0.0.1/s.tar.gz", size = 9, {hashes("b")} }}'


def test_a_source_distribution_alone_is_to_be_built(store: Store) -> None:
    for _ in range(2):  # the second time from what is remembered
        found = selected(lock(package("spice", more=SDIST)), store)
        assert (found.filename, found.sha256, found.size) == ("", "", 0)
        assert found.origin == Origin("sdist", "http://127.0.0.1/s.tar.gz", "b" * 64, size=9)


def test_a_repository_is_to_be_built(store: Store) -> None:
    vcs = f'vcs = {{ type = "git", url = "http://127.0.0.1/s.git", commit-id = "{"c" * 40}", subdirectory = "lib" }}'
    found = selected(lock(package("spice", more=vcs)), store)
    assert found.origin == Origin("git", "http://127.0.0.1/s.git", "c" * 40, "lib")
    assert found.origin.name == f"git:{'c' * 40}#lib"


def test_a_repository_of_another_kind_is_refused(store: Store) -> None:
    vcs = f'vcs = {{ type = "hg", url = "http://127.0.0.1/s", commit-id = "{"c" * 40}" }}'
    with pytest.raises(LockError, match="repository of hg"):
        selected(lock(package("spice", more=vcs)), store)


def test_what_is_no_commit_is_refused(store: Store) -> None:
    vcs = 'vcs = { type = "git", url = "http://127.0.0.1/s.git", commit-id = "--upload-pack=evil" }'
    with pytest.raises(LockError, match="is no commit"):
        selected(lock(package("spice", more=vcs)), store)


def test_a_folder_is_told_by_its_path(store: Store) -> None:
    folder = 'directory = { path = "../lib", editable = true }'
    found = selected(lock(package("spice", more=folder)), store)
    assert found.origin == Origin("folder", "/lib")


@pytest.mark.parametrize(
    ("file", "libc", "changes", "fits"),
    [
        ("spice-1.0-py3-none-any.whl", "", {}, True),
        ("spice-1.0-py3-none-any.whl", "", {"platform": ARM, "minor": "3.13", "libc": "musl"}, True),
        ("spice-1.0-cp311-cp311-linux_x86_64.whl", "glibc-2.36", {}, True),
        ("spice-1.0-cp311-cp311-linux_x86_64.whl", "glibc-2.36", {"libc_version": (2, 41)}, True),
        ("spice-1.0-cp311-cp311-linux_x86_64.whl", "glibc-2.36", {"libc_version": (2, 31)}, False),
        ("spice-1.0-cp311-cp311-linux_x86_64.whl", "glibc-2.36", {"libc": "musl", "libc_version": (3, 0)}, False),
        ("spice-1.0-cp311-cp311-linux_x86_64.whl", "glibc-2.36", {"platform": ARM}, False),
        ("spice-1.0-cp311-cp311-linux_x86_64.whl", "glibc-2.36", {"minor": "3.12"}, False),
    ],
)  # fmt: skip
def test_a_recorded_wheel_is_taken_where_it_fits(
    store: Store, file: str, libc: str, changes: dict[str, object], fits: bool
) -> None:
    built = Built("spice", f"sha256:{'b' * 64}", "3.11", ("oven==1",), file, "e" * 64, 77, libc)
    text = with_notes(lock(package("spice", more=SDIST)).text, Notes("sha256:" + "0" * 64, (built,)))
    found = selected(Lock(Path("/recipe/pylock.toml"), text), store, **changes)
    assert (found.filename, found.sha256, found.size) == ((file, "e" * 64, 77) if fits else ("", "", 0))
    assert found.origin is not None


def test_a_wheel_that_fits_is_preferred_to_sources(store: Store) -> None:
    text = lock(package("spice", *FILES, more=SDIST))
    assert selected(text, store).origin is None
    assert selected(text, store, minor="3.13").origin is not None


def test_a_noted_size_counts_where_the_index_tells_none(store: Store) -> None:
    text = lock(package("salt", "salt-1.0-py3-none-any.whl").replace("size = 7, ", ""))
    assert selected(text, store).size == 0
    noted = with_notes(text.text, Notes("sha256:" + "0" * 64, sizes={"a" * 64: 1 << 21}))
    assert selected(Lock(text.path, noted), store).size == 1 << 21


def test_a_wheel_named_by_its_file_keeps_its_name(store: Store) -> None:
    archive = f'archive = {{ path = "wheels/spice-1.0-py3-none-any.whl", {hashes("d")} }}'
    (found,) = select_wheels(lock(package("spice", more=archive)), "3.11", AMD, "glibc", (2, 36), store)
    assert found.filename == "spice-1.0-py3-none-any.whl"
    assert found.path == Path("/recipe/wheels/spice-1.0-py3-none-any.whl")


@pytest.mark.parametrize(
    "place",
    [
        'path = "wheels/spice-1.0+cpu.1-py3-none-any.whl"',
        'url = "http://127.0.0.1/spice-1.0%2Bcpu.1-py3-none-any.whl"',
        'url = "http://127.0.0.1/spice-1.0+cpu.1-py3-none-any.whl?x=1"',
    ],
)
def test_a_local_version_is_read_from_any_address(store: Store, place: str) -> None:
    found = selected(lock(package("spice", more=f"archive = {{ {place}, {hashes('d')} }}")), store)
    assert found.filename == "spice-1.0+cpu.1-py3-none-any.whl"
    assert found.origin is None


def test_a_lock_for_other_pythons_is_refused(store: Store) -> None:
    with pytest.raises(BuildError, match=r"3\.11"):
        chosen(lock(package("salt", "salt-1.0-py3-none-any.whl"), python=">=3.12"), store)


NEWER = 'lock-version = "9.0"\ncreated-by = "x"\npackages = []'


@pytest.mark.parametrize("text", ["packages = 1", "[[packages]]\nname = 3", "=", NEWER])
def test_a_damaged_lock_is_told(store: Store, text: str) -> None:
    with pytest.raises(LockError) as caught:
        select_wheels(Lock(Path("/recipe/pylock.toml"), text), "3.11", AMD, "glibc", (2, 36), store)
    assert caught.value.where == "/recipe/pylock.toml"
    assert caught.value.hint


def test_a_wheel_without_sha256_is_refused(store: Store) -> None:
    text = lock(package("salt", "salt-1.0-py3-none-any.whl"))
    weak = Lock(text.path, text.text.replace("sha256", "md5"))
    with pytest.raises(LockError, match="sha256"):
        chosen(weak, store)


def test_a_selection_is_remembered_by_lock_and_target(store: Store) -> None:
    text = lock(package("spice", *FILES))
    first = select_wheels(text, "3.11", AMD, "glibc", (2, 36), store)
    assert len(list((store.root / "selections").iterdir())) == 1
    assert select_wheels(text, "3.11", AMD, "glibc", (2, 36), store) == first
    assert select_wheels(text, "3.11", AMD, "glibc", (2, 20), store) != first
    other = Lock(text.path, text.text.replace("1.0", "1.0 ").replace('"1.0 "', '"1.0"') + "\n# another text\n")
    select_wheels(other, "3.11", AMD, "glibc", (2, 36), store)
    assert len(list((store.root / "selections").iterdir())) == 3
