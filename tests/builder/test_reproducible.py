"""The same inputs, the same digest: whoever builds, where, and with which Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import write_layout
from workshop import MEALKIT, Workshop, make_workshop

from mealkit_builder.base import Base
from mealkit_builder.store import Store

ROOT = Path(__file__).parents[2]
NOBODY = "65534"
HERE = f"3.{sys.version_info[1]}"
OTHERS = tuple(minor for minor in ("3.11", "3.12", "3.13") if minor != HERE)


@pytest.fixture(scope="module")
def open_workshop(pantry: Path) -> Iterator[Workshop]:
    """A workshop in a folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="mealkit-open-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        shutil.copytree(pantry, folder / "pantry")
        yield make_workshop(folder / "workshop", folder / "pantry")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def base(host: Base, shared_store: Store, open_workshop: Workshop) -> str:
    """This machine's Python as a layout folder: the same base for every builder, which ``host`` is not."""
    write_layout(host.image, shared_store, open_workshop.folder / "host")
    return f"oci:{open_workshop.folder / 'host'}"


@pytest.fixture(scope="module")
def expected(open_workshop: Workshop, base: str) -> str:
    root = open_workshop.recipe(base=base, within=open_workshop.folder / "expected")
    return open_workshop.build(root).digest


def digest(
    program: str,
    workshop: Workshop,
    base: str,
    name: str,
    prefix: tuple[str, ...] = (),
    *,
    owner: int | None = None,
    **variables: str,
) -> str:
    """What another builder, with a cache of its own, makes of the same recipe in another folder."""
    folder = workshop.folder / name
    root = workshop.recipe(base=base, within=folder)
    home = folder / "home"
    home.mkdir()
    if owner is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, owner)
    environment = {
        **workshop.environment,
        "HOME": str(home),
        "MEALKIT_CACHE": str(home / "cache"),
        "UV_CACHE_DIR": str(home / "uv"),
        **variables,
    }
    done = subprocess.run(
        [*prefix, program, "build", "-q", "-C", str(root)],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stderr
    return done.stdout.strip().rpartition("@")[2]


def test_another_folder_umask_zone_and_locale(open_workshop: Workshop, base: str, expected: str) -> None:
    prefix = ("bash", "-c", 'umask 077; exec "$@"', "bash")
    around = {"TZ": "Pacific/Chatham", "LC_ALL": "C", "PYTHONHASHSEED": "42"}
    assert digest(MEALKIT, open_workshop, base, "another folder", prefix, **around) == expected


def test_a_long_path(open_workshop: Workshop, base: str, expected: str) -> None:
    assert digest(MEALKIT, open_workshop, base, "/".join(["a long folder's name " * 5] * 8)) == expected


def test_a_folder_whose_files_come_in_another_order(
    open_workshop: Workshop, base: str, expected: str, tmp_path: Path
) -> None:
    """The order of a folder is its file system's: here every listing of this process is turned round."""
    (tmp_path / "sitecustomize.py").write_text(TURNED)
    around = {"PYTHONPATH": str(tmp_path), "TURNED": str(tmp_path / "turned")}
    assert digest(MEALKIT, open_workshop, base, "turned round", **around) == expected
    assert (tmp_path / "turned").exists()


TURNED = """
import os
def turned(plain):
    def listed(*arguments):
        found = plain(*arguments)
        entries = list(found)[::-1]
        open(os.environ["TURNED"], "a").close()
        return entries if isinstance(found, list) else Entries(entries)
    return listed
class Entries(list):
    def __enter__(self): return self
    def __next__(self):
        if not self: raise StopIteration
        return self.pop(0)
    def __exit__(self, *error): pass
    def close(self): pass
os.listdir, os.scandir = turned(os.listdir), turned(os.scandir)
"""


def test_another_zlib(open_workshop: Workshop, base: str, expected: str, tmp_path: Path) -> None:
    """What this Python's own zlib would choose, as zlib-ng chooses otherwise, has no say in a digest."""
    (tmp_path / "sitecustomize.py").write_text(
        "import zlib\nplain = zlib.compressobj\nzlib.compressobj = lambda *given, **named: plain(1)\n"
        "whole = zlib.compress\nzlib.compress = lambda data, *given, **named: whole(data, 1)\n"
    )
    assert digest(MEALKIT, open_workshop, base, "another zlib", PYTHONPATH=str(tmp_path)) == expected


def as_nobody() -> tuple[str, ...]:
    """The prefix of a command that makes it run as another user who can start this Python."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root, with the program setpriv, can build as another user")
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # A Python below /root is closed to others; the right to pass folders lets them in and changes nothing else.
    reading = (*user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    for prefix in (user, reading):
        # Through a shell: the first program is still looked for with the rights of root.
        asked = [*prefix, "bash", "-c", f"{MEALKIT} --version && cat /proc/self/status"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
        if done.returncode == 0:
            assert f"Uid:\t{NOBODY}\t{NOBODY}" in done.stdout
            return (*prefix, "bash", "-c", 'exec "$@"', "bash")
    pytest.skip("no other user can start this Python")


def test_another_user(open_workshop: Workshop, base: str, expected: str) -> None:
    prefix = as_nobody()
    subprocess.run(["chmod", "-R", "a+rX", str(open_workshop.folder.parent)], check=True)
    assert digest(MEALKIT, open_workshop, base, "another user", prefix, owner=int(NOBODY)) == expected


def other_python(minor: str) -> str:
    """A Python of another minor version on this machine."""
    pyenv = Path.home() / ".pyenv" / "versions"
    for path in (*sorted(pyenv.glob(f"{minor}.*/bin/python{minor}")), shutil.which(f"python{minor}")):
        if path and subprocess.run([str(path), "-c", "import venv"], capture_output=True, timeout=30).returncode == 0:
            return str(path)
    pytest.skip(f"this machine has no Python {minor}")


@pytest.fixture(scope="module", params=OTHERS)
def other_builder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command, installed beside another Python with the pinned versions of what it needs."""
    python, folder = other_python(request.param), tmp_path_factory.mktemp("other") / "venv"
    uv = str(Path(sys.executable).with_name("uv"))
    needed = {"hatchling", "editables"}
    for name in ("sdk", "templates", "builder"):
        document = tomllib.loads((ROOT / name / "pyproject.toml").read_text())
        needed |= {text for text in document["project"]["dependencies"] if not text.startswith("mealkit")}
    pins = re.sub(r"\s*\\\n\s+--hash=\S+", "", (ROOT / ".ci" / "requirements.txt").read_text())
    (folder.parent / "pins.txt").write_text(pins)
    install = [uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python")]
    own = [part for name in ("sdk", "runtime", "templates", "builder") for part in ("-e", str(ROOT / name))]
    for command in (
        [uv, "venv", "-q", "--python", python, str(folder)],
        [*install, "-c", str(folder.parent / "pins.txt"), *sorted(needed)],
        [*install, "--no-deps", "--no-build-isolation", *own],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        if done.returncode != 0 and re.search(r"error sending request|Failed to fetch|dns error", done.stderr):
            pytest.skip("no package index can be reached to set up another Python")
        assert done.returncode == 0, done.stderr
    return str(folder / "bin" / "mealkit")


@pytest.mark.slow
def test_another_python(open_workshop: Workshop, base: str, expected: str, other_builder: str) -> None:
    about = subprocess.run(
        [str(Path(other_builder).with_name("python")), "-c", "import sys; print(sys.version)"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert about.stdout.startswith(OTHERS)
    assert digest(other_builder, open_workshop, base, f"another python {about.stdout.split()[0]}") == expected
