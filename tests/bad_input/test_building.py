"""Bad input to the builder: each with its exit status, code, place and hint; no traceback, nothing left half done."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from workshop import Done, Workshop, make_base

from mealkit_builder.digest import digest_bytes
from mealkit_builder.testing import MemoryRegistry

USERS = {"ada": "lovelace", "eve": "peeks"}


@dataclass
class Scene:
    """What a case starts from, and may change."""

    workshop: Workshop
    registry: MemoryRegistry
    root: Path
    arguments: list[str]

    @property
    def place(self) -> str:
        return f"{self.registry.host}/team/tiny"

    def edit(self, name: str, old: str, new: str) -> None:
        file = self.root / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def log_in(self, user: str, password: str) -> None:
        folder = Path(self.workshop.environment["DOCKER_CONFIG"])
        folder.mkdir(parents=True, exist_ok=True)
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.registry.host: {"auth": token}}}))

    def lock(self) -> None:
        assert self.workshop.mealkit("lock", "-C", self.root).status == 0


Prepare = Callable[[Scene], None]
CASES: dict[str, tuple[Prepare, int, str, str, str, str]] = {}


def case(status: int, code: str, *, said: str, where: str, hint: str) -> Callable[[Prepare], Prepare]:
    """Adds a case: how to spoil the scene, and what must be told (parts of message, place and hint)."""

    def add(prepare: Prepare) -> Prepare:
        CASES[prepare.__name__] = (prepare, status, code, said, where, hint)
        return prepare

    return add


# The project


@case(2, "project", said="there is no recipe here", where="recipes", hint="mealkit init")
def no_project(scene: Scene) -> None:
    (scene.root / "pyproject.toml").unlink()


@case(2, "project", said="cannot read pyproject.toml", where="pyproject.toml", hint="mend it")
def no_toml(scene: Scene) -> None:
    scene.edit("pyproject.toml", "[project]", "[project")


@case(2, "project", said="no [tool.mealkit] table", where="pyproject.toml", hint="mealkit init")
def no_recipe_table(scene: Scene) -> None:
    scene.edit("pyproject.toml", "[tool.mealkit", "[tool.other")


@case(2, "project", said="unknown key 'trainr'", where="tool.mealkit.trainr", hint="did you mean 'trainer'?")
def misspelt_key(scene: Scene) -> None:
    scene.edit("pyproject.toml", "trainer =", "trainr =")


@case(2, "project", said="not a reference", where="tool.mealkit.trainer", hint="package.module:Class")
def no_reference(scene: Scene) -> None:
    scene.edit("pyproject.toml", "tiny.model:Trainer", "tiny.model.Trainer")


@case(2, "project", said="unknown kind 'classify'", where="tool.mealkit.kind", hint="classification")
def unknown_kind(scene: Scene) -> None:
    scene.edit("pyproject.toml", '"classification"', '"classify"')


@case(2, "project", said="no module 'tiny.nowhere'", where="tool.mealkit.trainer", hint="did you mean tiny.model:")
def unknown_module(scene: Scene) -> None:
    scene.edit("pyproject.toml", "tiny.model:", "tiny.nowhere:")


@case(2, "project", said="has no class 'Trainr'", where="tool.mealkit.trainer", hint="did you mean tiny.model:Trainer?")
def unknown_class(scene: Scene) -> None:
    scene.edit("pyproject.toml", "tiny.model:Trainer", "tiny.model:Trainr")


@case(2, "project", said="no module 'tiny.nowhere'", where="tool.mealkit.input", hint="file")
def unknown_settings_module(scene: Scene) -> None:
    scene.edit("pyproject.toml", "tiny.settings:Visit", "tiny.nowhere:Visit")


@case(2, "project", said="has no class 'Vist'", where="tool.mealkit.input", hint="did you mean tiny.settings:Visit?")
def unknown_settings_class(scene: Scene) -> None:
    scene.edit("pyproject.toml", "tiny.settings:Visit", "tiny.settings:Vist")


@case(2, "project", said="no package or module 'small'", where="tool.mealkit", hint="__init__.py")
def unknown_package(scene: Scene) -> None:
    scene.edit("pyproject.toml", "tiny.model:", "small.model:")


@case(2, "project", said="imports 'pandas'", where="tool.mealkit.hyperparameters", hint="move what needs 'pandas'")
def heavy_settings(scene: Scene) -> None:
    scene.edit("tiny/settings.py", "import mealkit", "import mealkit\nimport pandas")


@case(2, "project", said="is no Python", where="model.py:7", hint="mend it")
def broken_model(scene: Scene) -> None:
    scene.edit("tiny/model.py", "def train(self, data, context):", "def train(self, data, context)")


@case(5, "recipe", said="ZeroDivisionError", where="settings.py:", hint="mend")
def settings_that_fail(scene: Scene) -> None:
    scene.edit("tiny/settings.py", "class Visit(", "1 / 0\n\n\nclass Visit(")


@case(2, "project", said="requires a distribution with its own name: 'pandas'", where="project.name", hint="rename")
def name_of_a_requirement(scene: Scene) -> None:
    scene.edit("pyproject.toml", 'name = "tiny"', 'name = "pandas"')


@case(6, "lock", said="the lock is missing", where="pylock.toml", hint="mealkit lock")
def no_lock(scene: Scene) -> None:
    (scene.root / "pylock.toml").unlink()
    scene.arguments.insert(1, "--locked")


# The sources


@case(2, "secret-found", said="a file for credentials stands among", where="tiny/.env", hint=".gitignore")
def dot_env(scene: Scene) -> None:
    (scene.root / "tiny" / ".env").write_text("TOKEN=1\n")


@case(2, "secret-found", said="a private key stands among", where="tiny/deploy.pem", hint="environment")
def private_key(scene: Scene) -> None:
    (scene.root / "tiny" / "deploy.pem").write_text("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n")


@case(2, "project", said="leads out of the project", where="tiny/link", hint="copy")
def link_out(scene: Scene) -> None:
    (scene.root / "tiny" / "link").symlink_to("/etc")


# The lock and the wheels


@case(6, "lock", said="'pandas>=2.2' is asked for by mealkit-runtime", where="project.dependencies", hint="loosen")
def conflict(scene: Scene) -> None:
    scene.edit("pyproject.toml", "dependencies = []", 'dependencies = ["pandas<2"]')


@case(6, "lock", said="'pandas<2' is asked for by tiny", where="project.dependencies", hint="--upgrade")
def conflict_other_side(scene: Scene) -> None:
    conflict(scene)


@case(6, "lock", said="the lock is damaged", where="pylock.toml", hint="mealkit lock")
def damaged_lock(scene: Scene) -> None:
    scene.edit("pylock.toml", "[[packages]]", "[packages.x]")


@case(6, "lock", said="cannot be resolved", where="project.dependencies", hint="mend")
def no_requirement(scene: Scene) -> None:
    scene.edit("pyproject.toml", "dependencies = []", 'dependencies = ["what is this"]')


@case(6, "no-wheel", said="for Python 3.", where="pylock.toml", hint="base")
def no_wheel_for_the_platform(scene: Scene) -> None:
    scene.workshop.wheel("spice", "1.0", tag="cp311-cp311-manylinux_2_17_aarch64")
    scene.edit("pyproject.toml", "dependencies = []", 'dependencies = ["spice"]')


@case(6, "no-wheel", said="musl", where="pylock.toml", hint="base")
def no_wheel_for_musl(scene: Scene) -> None:
    scene.workshop.wheel("spice", "1.0", tag="py3-none-manylinux_2_17_x86_64")
    scene.edit("pyproject.toml", "dependencies = []", 'dependencies = ["spice"]')
    scene.arguments += ["--base", make_base(scene.workshop.folder / "musl", musl=True)]


@case(6, "bad-wheel", said="its sha256 differs", where="spice-1.0", hint="only if you trust")
def replaced_wheel(scene: Scene) -> None:
    scene.workshop.wheel("spice", "1.0")
    scene.edit("pyproject.toml", "dependencies = []", 'dependencies = ["spice"]')
    scene.lock()
    scene.workshop.wheel("spice", "1.0", files={"spice.py": "# another\n"})


@case(6, "bad-wheel", said="is locked, but not there", where="spice-1.0", hint="lock again")
def lost_wheel(scene: Scene) -> None:
    path = scene.workshop.wheel("spice", "1.0")
    scene.edit("pyproject.toml", "dependencies = []", 'dependencies = ["spice"]')
    scene.lock()
    path.unlink()


@case(75, "unreachable", said="the package index gave no answer", where="127.0.0.1:1", hint="retry")
def index_that_does_not_answer(scene: Scene) -> None:
    scene.workshop = scene.workshop.online("http://127.0.0.1:1/simple")
    scene.edit("pyproject.toml", "dependencies = []", 'dependencies = ["spice"]')


# The base


@case(7, "not-found", said="no such base image", where="oci:", hint="check the name")
def lost_base(scene: Scene) -> None:
    scene.arguments += ["--base", "oci:/nowhere"]


@case(6, "base-image", said="not for linux/amd64", where="oci:", hint="--platform")
def base_for_another_platform(scene: Scene) -> None:
    base = make_base(scene.workshop.folder / "arm", platforms=("arm64",))
    scene.arguments += ["--base", base, "--platform", "linux/amd64"]


@case(6, "base-image", said="linux/arm64", where="oci:", hint="linux/amd64")
def index_without_the_platform(scene: Scene) -> None:
    base = make_base(scene.workshop.folder / "two", platforms=("amd64", "arm64"))
    layout = Path(base.removeprefix("oci:"))
    top = json.loads((layout / "index.json").read_text())["manifests"][0]
    blob = layout / "blobs" / "sha256" / top["digest"].removeprefix("sha256:")
    index = json.loads(blob.read_text())
    index["manifests"] = index["manifests"][:1]
    data = json.dumps(index).encode()
    digest = digest_bytes(data)
    (blob.parent / digest.removeprefix("sha256:")).write_bytes(data)
    text = (layout / "index.json").read_text().replace(top["digest"], digest)
    (layout / "index.json").write_text(text.replace(f'"size":{top["size"]}', f'"size":{len(data)}'))
    scene.arguments += ["--base", base, "--platform", "linux/arm64"]


@case(6, "base-image", said="3.11 or newer", where="oci:", hint="newer base")
def old_base(scene: Scene) -> None:
    scene.arguments += ["--base", make_base(scene.workshop.folder / "old", version="3.10.1")]


@case(2, "usage", said="unknown platform 'windows/amd64'", where="", hint="linux/amd64")
def unknown_platform(scene: Scene) -> None:
    scene.arguments += ["--platform", "windows/amd64"]


# The registry


@case(75, "unreachable", said="", where="127.0.0.1", hint="")
def registry_that_does_not_answer(scene: Scene) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        scene.arguments[-1] = f"127.0.0.1:{probe.getsockname()[1]}/team/tiny"


@case(7, "unauthenticated", said="credentials", where="127.0.0.1", hint="docker login")
def no_password(scene: Scene) -> None:
    scene.registry.users = dict(USERS)


@case(7, "unauthenticated", said="", where="127.0.0.1", hint="docker login")
def wrong_password(scene: Scene) -> None:
    scene.registry.users = dict(USERS)
    scene.log_in("ada", "byron")


@case(7, "unauthenticated", said="", where="127.0.0.1", hint="docker login")
def wrong_password_for_a_token(scene: Scene) -> None:
    scene.registry.users, scene.registry.auth = dict(USERS), "bearer"
    scene.log_in("ada", "byron")


@case(7, "denied", said="you may not push here", where="team/tiny", hint="push rights")
def a_reader(scene: Scene) -> None:
    scene.registry.users, scene.registry.readers = dict(USERS), frozenset({"eve"})
    scene.log_in("eve", "peeks")


@case(7, "denied", said="knows eve", where="127.0.0.1", hint="push rights")
def a_reader_with_a_token(scene: Scene) -> None:
    scene.registry.users, scene.registry.readers = dict(USERS), frozenset({"eve"})
    scene.registry.auth = "bearer"
    scene.log_in("eve", "peeks")


@case(75, "registry-fault", said="broke", where="/team/tiny", hint="run the same command again")
def a_registry_that_hangs_up(scene: Scene) -> None:
    scene.registry.fail_next("reset", times=99, method="PUT", path_contains="/manifests/")


@case(2, "usage", said="not a repository", where="Team", hint="lower-case")
def no_repository(scene: Scene) -> None:
    scene.arguments[-1] = f"{scene.registry.host}/Team/Tiny"


@case(2, "usage", said="cannot push to a digest", where="@sha256:", hint="repository")
def push_to_a_digest(scene: Scene) -> None:
    scene.arguments[-1] += f"@sha256:{'a' * 64}"


# Places on the disk


@case(2, "usage", said="the folder is not empty and no OCI image layout", where="/mine", hint="empty folder")
def a_folder_of_somebody_else(scene: Scene) -> None:
    folder = scene.workshop.folder / "mine"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    scene.arguments[-1] = f"oci:{folder}"


@case(8, "storage", said="cannot write to mealkit's cache", where="/file", hint="")
def a_cache_that_is_a_file(scene: Scene) -> None:
    (scene.workshop.folder / "file").write_text("x")
    scene.workshop = scene.workshop.having(MEALKIT_CACHE=str(scene.workshop.folder / "file"))


@case(2, "usage", said="SOURCE_DATE_EPOCH", where="environment", hint="seconds since 1970")
def a_time_that_is_none(scene: Scene) -> None:
    scene.workshop = scene.workshop.having(SOURCE_DATE_EPOCH="yesterday")


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        yield one


@pytest.mark.parametrize("name", list(CASES))
def test_bad_input_is_told_and_leaves_nothing(name: str, workshop: Workshop, registry: MemoryRegistry) -> None:
    prepare, status, code, said, where, hint = CASES[name]
    root = workshop.recipe()
    scene = Scene(workshop, registry, root, ["build", "-C", str(root), "--json", "--to", f"{registry.host}/team/tiny"])
    prepare(scene)
    refused(scene.workshop.mealkit(*scene.arguments), status, code, said, where, hint)
    left(root, registry)


def refused(done: Done, status: int, code: str, said: str, where: str, hint: str) -> None:
    """The error in both forms: for people on standard error, for machines on standard output."""
    told = f"{done.out}\n{done.err}"
    assert done.status == status, told
    error = json.loads(done.out)["error"]
    assert error["code"] == code, told
    assert error["exit_code"] == status
    assert error["retryable"] == (status == 75)
    assert said in error["message"], told
    assert where in (error["where"] or ""), told
    assert error["hint"], told
    assert hint in error["hint"], told
    assert f"error[{code}]: " in done.err
    assert "\nhint: " in done.err
    if code != "recipe":  # the author's own error comes with the author's own lines
        assert "Traceback" not in told
    assert "lovelace" not in told
    assert "byron" not in told


def left(root: Path, registry: MemoryRegistry) -> None:
    """Nothing is half-written or half-pushed."""
    assert registry.tags("team/tiny") == set()
    assert registry.manifests.get("team/tiny", {}) == {}
    assert not (root / ".mealkit").exists()
    assert not [path for path in root.rglob("*") if path.name.startswith(".tmp") or path.suffix == ".tmp"]
