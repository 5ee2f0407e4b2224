"""The container engine for tests: fixtures that reach it, a Debian base, and a small image that tells of itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mealkit.project import ImageSettings
from mealkit_builder.assembly import ENTRYPOINT
from mealkit_builder.base import Base, resolve_base
from mealkit_builder.image import Image, append, set_env
from mealkit_builder.layering import VENV, site_packages
from mealkit_builder.layout import Layout
from mealkit_builder.platform import host_platform
from mealkit_builder.push import push_image
from mealkit_builder.store import Store
from mealkit_builder.tree import FileEntry, LinkEntry, tree_layer

CACHE = Path(os.environ.get("MEALKIT_TEST_CACHE", "/var/tmp/mealkit-tests"))
BOOKWORM = "mealkit-test/bookworm:latest"

# Stands in for the runtime: tells what it sees, reads, writes, waits for a signal, as its mode says.
PROBE = """
import json, os, signal, sys, time
mode, arguments = sys.argv[1], sys.argv[2:]
options = dict(zip(arguments[::2], arguments[1::2]))
if mode == "describe":
    status = open("/proc/self/status").read() if os.path.exists("/proc/self/status") else ""
    lines = dict(line.split(":\\t", 1) for line in status.splitlines() if ":\\t" in line)
    def writable(path):
        try:
            open(path + "/probe", "w").close()
        except OSError:
            return False
        return True
    print(json.dumps({
        "arguments": arguments, "uid": os.getuid(), "gid": os.getgid(), "prefix": sys.prefix, "pid": os.getpid(),
        "base_prefix": sys.base_prefix, "executable": sys.executable, "environment": dict(os.environ),
        "capabilities": int(lines.get("CapEff", "0"), 16), "no_new_privileges": lines.get("NoNewPrivs", "").strip(),
        "root_writable": writable("/"), "tmp_writable": writable("/tmp"),
        "interfaces": sorted(os.listdir("/sys/class/net")) if os.path.exists("/sys/class/net") else [],
        "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    }))
elif mode == "score":
    data = open(options["--input"]).read()
    try:
        open(options["--input"], "a").close()
        wrote_input = True
    except OSError:
        wrote_input = False
    with open(options["--output"] + "/scores.txt", "w") as file:
        file.write(data.upper())
    if "--result" in options:
        with open(options["--result"] + ".tmp", "w") as file:
            json.dump({"wrote_input": wrote_input, "input": options["--input"]}, file)
        os.replace(options["--result"] + ".tmp", options["--result"])
elif mode == "fail":
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    sys.exit(int(arguments[0]))
elif mode == "wait":
    signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"stopping\\n"), sys.exit(143)))
    os.write(1, b"waiting\\n")  # not print: the signal may come in the middle of it
    time.sleep(60)
elif mode == "workers":
    import concurrent.futures, multiprocessing
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        print(sum(pool.map(abs, range(10))))
elif mode == "eat":
    blob = bytearray(1 << 29)
    blob[:] = b"x" * len(blob)
"""


def probe_image(base: Base, store: Store, *, user: str = "65532:65532") -> Image:
    """A base with the environment that an image of ours has, and a stand-in for the runtime in it."""
    home = str(Path(base.python.executable).parent)
    files = [
        FileEntry(f"{VENV}/pyvenv.cfg", f"home = {home}\ninclude-system-site-packages = false\n".encode()),
        LinkEntry(f"{VENV}/bin/python", base.python.executable),
        FileEntry(f"{site_packages(base.python.minor)}/mealkit_runtime/__init__.py", b""),
        FileEntry(f"{site_packages(base.python.minor)}/mealkit_runtime/__main__.py",
                  f'if __name__ == "__main__":\n{_indented(PROBE)}'.encode()),
        FileEntry("/opt/mealkit/recipe.json", b"{}"),
    ]  # fmt: skip
    layer = tree_layer(files, kind="mealkit", key="probe", title="probe", store=store)
    image = append(base.image, layer)
    config = set_env(replace(image.config, entrypoint=ENTRYPOINT, cmd=(), user=user), {"PROBE": "1"})
    return replace(image, config=config)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())


def push_probe(base: Base, store: Store, folder: Path) -> str:
    """The probe image in a layout folder; returns its URL."""
    target = Layout(folder)
    report = push_image(probe_image(base, store), target, lambda digest: _open(base, store, digest), tags=["latest"])
    return report.url


def _open(base: Base, store: Store, digest: str) -> Any:
    return store.blob_path(digest).open("rb") if store.has_blob(digest) else base.open_layer(digest)


def write_layout(image: Image, store: Store, folder: Path) -> str:
    """Any image of the store as a layout folder; returns its URL."""
    target = Layout(folder)
    return push_image(image, target, lambda digest: store.blob_path(digest).open("rb"), tags=["latest"]).url


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for what takes seconds to make."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def host(shared_store: Store) -> Base:
    """The base ``host`` of this machine."""
    return resolve_base("host", host_platform(), ImageSettings(), shared_store)


@pytest.fixture(scope="session")
def probe_url(host: Base, shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The probe image on the base ``host``, in a layout folder."""
    return push_probe(host, shared_store, tmp_path_factory.mktemp("probe") / "registry")


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the engine; tests that need one are skipped without."""
    from mealkit_builder.engine import connect, engine_available

    if not engine_available():
        pytest.skip("no container engine answers")
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def bookworm(engine: Any) -> str:
    """A small Debian with Python as an image of the engine; no image can be pulled here, so it is made."""
    from docker.errors import ImageNotFound

    try:
        engine.images.get(BOOKWORM)
    except ImageNotFound:
        tar = CACHE / "base-bookworm.tar"
        if not tar.exists():
            _make_bookworm(tar)
        engine.api.import_image_from_file(str(tar), *BOOKWORM.split(":"))
    return BOOKWORM


def _make_bookworm(tar: Path) -> None:
    if not shutil.which("mmdebstrap"):
        pytest.skip("the program mmdebstrap is not installed")
    tar.parent.mkdir(parents=True, exist_ok=True)
    temporary = tar.with_name(f"{os.getpid()}.tar")
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", "--include=python3,ca-certificates", "bookworm"]
    done = subprocess.run([*command, str(temporary)], capture_output=True, timeout=240, check=False)
    if done.returncode != 0:
        pytest.skip(f"mmdebstrap cannot make a Debian: {done.stderr.decode(errors='replace')[-200:]}")
    temporary.replace(tar)
