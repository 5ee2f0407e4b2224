"""A workshop for tests of builds: a package index of tiny wheels, a tiny base, and recipes that build in milliseconds.

Nothing in it reaches the network. The requirements that mealkit brings into every image (pandas, pyarrow …) are here
wheels of a few bytes under the same names, so that a build takes all its real steps with nothing replaced.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from images import tiny_layer

from mealkit.project import read_project
from mealkit_builder.build import BuildRequest, build
from mealkit_builder.finishing import complete_lock
from mealkit_builder.image import Image, ImageConfig, append
from mealkit_builder.layout import Layout
from mealkit_builder.lock import LOCK_NAME, make_lock
from mealkit_builder.own import own_requirements
from mealkit_builder.platform import Platform
from mealkit_builder.push import push_image
from mealkit_builder.record import ImageRecord
from mealkit_builder.store import Store
from mealkit_builder.testing import MemoryRegistry

sys.path.insert(0, str(Path(__file__).parent / "builder"))
from wheels_for_tests import make_wheel

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = sys.version.split()[0]
MEALKIT = str(Path(sys.executable).with_name("mealkit"))

PYPROJECT = """\
[project]
name = "{name}"
version = "1.0.0"
description = "A recipe for tests."
requires-python = ">=3.11"
dependencies = {dependencies}

[tool.mealkit]
kind = "classification"
hyperparameters = "{package}.settings:Hyperparameters"
input = "{package}.settings:Visit"
output = "{package}.settings:Score"
target = "ordered"
keys = ["visitor"]
trainer = "{package}.model:Trainer"
{recipe}
[tool.mealkit.image]
base = "{base}"
{image}
"""

SETTINGS = '''\
"""What the recipe takes and gives."""

from pydantic import Field

import mealkit


class Hyperparameters(mealkit.Hyperparameters):
    rate: float = Field(0.1, gt=0, le=1, description="shrinkage per tree")


class Visit(mealkit.Row):
    visitor: str
    pages: int
    ordered: bool


class Score(mealkit.Row):
    visitor: str
    probability: float
'''

MODEL = '''\
"""How the recipe learns."""

import mealkit


class Trainer(mealkit.Trainer):
    def train(self, data, context):
        return {"mean": float(data.target.mean())}
'''


@dataclass(frozen=True)
class Done:
    """What a command that ended said."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Workshop:
    """A folder with an index, a base and a cache, and the environment that makes mealkit use them.

    Attributes:
        folder: All of it.
        index: Wheels that uv finds, beside those of ``pantry``.
        pantry: Wheels of mealkit's own requirements, which several workshops share.
        base: ``oci:DIR``, a base image with this Python's version.
        environment: For builds and commands; its cache is ``cache`` in the folder.
    """

    folder: Path
    index: Path
    pantry: Path
    base: str
    environment: Mapping[str, str]

    @property
    def store(self) -> Store:
        """The cache that builds here use."""
        return Store(Path(self.environment["MEALKIT_CACHE"]))

    def fresh(self, name: str = "fresh-cache") -> Workshop:
        """The same on a machine that has built nothing yet."""
        return self.having(MEALKIT_CACHE=str(self.folder / name))

    def having(self, **variables: str) -> Workshop:
        """The same with further environment variables."""
        return replace(self, environment={**self.environment, **variables})

    def online(self, index: str) -> Workshop:
        """The same with a package index at this address."""
        return self.having(UV_NO_INDEX="0", UV_OFFLINE="0", UV_INDEX_URL=index, UV_HTTP_RETRIES="0")

    def wheel(
        self,
        name: str,
        version: str = "1.0",
        *,
        tag: str = "py3-none-any",
        requires: Sequence[str] = (),
        files: Mapping[str, bytes | str] | None = None,
    ) -> Path:
        """Put a wheel on the index."""
        return put_wheel(self.index, name, version, tag=tag, requires=requires, files=files)

    def recipe(
        self,
        name: str = "tiny",
        *,
        dependencies: Sequence[str] = (),
        recipe: str = "",
        image: str = "",
        base: str | None = None,
        within: Path | None = None,
        lock: bool = True,
    ) -> Path:
        """A recipe's folder with its sources; one without requirements comes with its lock (made once), if wanted."""
        root = (within or self.folder / "recipes") / name
        package = name.replace("-", "_")
        (root / package).mkdir(parents=True)
        quoted = "[" + ", ".join(f'"{text}"' for text in dependencies) + "]"
        (root / "pyproject.toml").write_text(
            PYPROJECT.format(
                name=name, package=package, dependencies=quoted, recipe=recipe, image=image, base=base or self.base
            )
        )
        for file, text in {"__init__": "", "settings": SETTINGS, "model": MODEL}.items():
            (root / package / f"{file}.py").write_text(text)
        if lock and not dependencies:
            premade = self.pantry / LOCK_NAME
            if not premade.exists():
                # As `mealkit lock` makes it: with the sizes that a folder of wheels does not tell. In a cache of its
                # own, so that the recipe's build finds nothing fetched.
                elsewhere = {**self.environment, "MEALKIT_CACHE": str(self.pantry / "cache")}
                project = read_project(root)
                made = complete_lock(make_lock(project, elsewhere), project, elsewhere)
                premade.write_text(made.text)
            shutil.copyfile(premade, root / LOCK_NAME)
        return root

    def request(self, root: Path, to: str | None = None, **changes: Any) -> BuildRequest:
        """A build of the recipe with this workshop's environment."""
        return BuildRequest(project=root, to=to, environment=dict(self.environment), **changes)

    def build(self, root: Path, to: str | None = None, **changes: Any) -> ImageRecord:
        """Build the recipe here, in this process."""
        return build(self.request(root, to, **changes))

    def mealkit(self, *arguments: str | Path, cwd: Path | None = None, timeout: float = 60) -> Done:
        """Run the command as a user does, in a process of its own."""
        done = subprocess.run(
            [MEALKIT, *map(str, arguments)],
            cwd=cwd or self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def put_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    files: Mapping[str, bytes | str] | None = None,
) -> Path:
    """A wheel in a folder; by default a module that knows its name."""
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += [f"Requires-Dist: {text}\n" for text in requires]
    made = make_wheel(
        folder,
        name,
        version,
        files or {f"{name}.py": f"NAME = {name!r}\n"},
        metadata="".join(lines),
        filename=f"{name}-{version}-{tag}.whl",
        wheel=f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(tag.endswith('any')).lower()}\nTag: {tag}\n",
    )
    assert made.path is not None
    return made.path


def make_pantry(folder: Path) -> Path:
    """A folder with the wheels of mealkit's own requirements."""
    for text in own_requirements():
        name, _, version = text.partition(">=")
        put_wheel(folder, name.strip().replace("-", "_"), version.strip())
    return folder


def make_workshop(folder: Path, pantry: Path) -> Workshop:
    """A workshop with everything in it."""
    index = folder / "index"
    index.mkdir(parents=True)
    (folder / "recipes").mkdir()
    (folder / "home").mkdir()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder / "home"),
        "MEALKIT_CACHE": str(folder / "cache"),
        "DOCKER_CONFIG": str(folder / "home" / ".docker"),
        "UV_CACHE_DIR": str(folder / "uv-cache"),
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": f"{pantry},{index}",
        "UV_NO_CONFIG": "1",
        "UV_OFFLINE": "1",
        "UV_PYTHON": sys.executable,
        "SOURCE_DATE_EPOCH": "1767225600",
    }
    base = make_base(folder / "base")
    return Workshop(folder, index, pantry, base, environment)


def make_base(
    folder: Path,
    *,
    platforms: Sequence[str] = ("amd64",),
    glibc: str = "2.36",
    version: str = VERSION,
    musl: bool = False,
) -> str:
    """A base image that has nothing but what tells which Python and C library it would have; its name ``oci:DIR``."""
    name = "lib/ld-musl-x86_64.so.1" if musl else "usr/lib/x86_64-linux-gnu/libc.so.6"
    content = b"\0" + b"1.2.4\0" if musl else f"GNU C Library (tests) stable release version {glibc}.\n".encode()
    layer, data = tiny_layer(name, content, kind="")
    config = ImageConfig(env=(("PATH", "/usr/local/bin:/usr/bin:/bin"), ("PYTHON_VERSION", version)))
    images = [
        append(Image(Platform("linux", architecture), config=config), replace(layer, key="", title=""))
        for architecture in platforms
    ]
    push_image(
        images if len(images) > 1 else images[0], Layout(folder), lambda digest: io.BytesIO(data), tags=("latest",)
    )
    return f"oci:{folder}"


def uploads(registry: MemoryRegistry) -> list[str]:
    """The paths of the blobs that were uploaded since the registry was told to forget."""
    return [one.path for one in registry.seen if one.method == "PUT" and "/blobs/uploads/" in one.path]


def commit(root: Path) -> None:
    """Make the folder a git repository whose only commit has all of it."""
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    for arguments in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "all of it")):
        subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.fixture(scope="session")
def pantry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of mealkit's own requirements."""
    return make_pantry(tmp_path_factory.mktemp("pantry"))


@pytest.fixture
def workshop(tmp_path: Path, pantry: Path) -> Workshop:
    """An index, a base and an empty cache of one's own."""
    return make_workshop(tmp_path / "workshop", pantry)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, pantry: Path) -> Workshop:
    """One workshop for many tests, whose cache fills: each makes a recipe of its own name, or elsewhere."""
    return make_workshop(tmp_path_factory.mktemp("shop"), pantry)
