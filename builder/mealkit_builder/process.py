"""The process runner: runs an image where there is no container engine, from its unpacked files.

Two ways, the first that works: in namespaces of its own (``unshare``: the image's root, read-only, no network,
the run's files mounted), which needs a kernel that lets users have them; else relocated, where the image's own
loader, interpreter and packages run from where they were unpacked, with nothing closed off.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from mealkit.errors import EngineError, UsageError, storage_error
from mealkit_runtime import RECIPE_FILE

from .container import RunOptions
from .layering import VENV, site_packages
from .location import open_location
from .mounts import Mount, make_outputs, plan_mounts
from .platform import host_platform
from .pull import find_image
from .rootfs import inside, unpack_image, using
from .store import Store, default_store_root

_PROBE_SECONDS = 30
_TOOLS = ("unshare", "mount", "chroot", "mkdir", "touch", "sh")
_LOADERS = ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1")
_LIBRARY_FOLDERS = (
    "lib/{m}-linux-gnu", "usr/lib/{m}-linux-gnu", "lib64", "usr/lib64", "usr/local/lib", "usr/lib", "lib",
)  # fmt: skip


def run_process(
    url: str,
    mode: str,
    arguments: Sequence[str],
    options: RunOptions | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> int:
    """Run a mode of an image without an engine and return its exit status.

    Args:
        url: ``oci:DIR[@DIGEST]`` or ``host/repo@DIGEST``; its layers are unpacked once, in mealkit's cache.
        mode: ``train``, ``evaluate``, ``score``, ``describe`` …
        arguments: The mode's; paths are those of this machine.
        options: ``env`` and ``network`` count; limits of memory and processors need an engine.
        environment: Where the cache's folder and the tools are named.
        report: Told which of the two ways was taken.

    Raises:
        EngineError: the image cannot run on this machine without an engine.
        NotFoundError: there is no such image.
        UnreadableDataError: an input is not there.
    """
    options = options or RunOptions()
    if options.memory or options.cpus or options.user:
        raise UsageError("--memory, --cpus and --user need a container engine", hint="start Docker, or leave them out")
    mounted = plan_mounts(mode, arguments, Path.cwd())
    source, location = open_location(url, environment)
    try:
        pulled = find_image(source, location.target, host_platform(), url)
        folder = Store(default_store_root(dict(environment))).root / "rootfs"
        root = unpack_image(pulled.image, pulled.manifest_digest, source.open_blob, folder)
    finally:
        source.close()
    make_outputs(mounted.mounts)
    env = {**pulled.image.config.environment, "MEALKIT_IMAGE": url, **options.env}
    closed = options.network == "none"
    tools = _tools(environment)
    if tools is not None and _namespaces_work(tools, root, closed):
        report(
            "process runner: in namespaces of its own (the image's root, read-only"
            + (", no network)" if closed else ", this machine's network)")
        )
        program = [*pulled.image.config.entrypoint, mode, *mounted.arguments]
        with using(root):
            return _call(_isolated(tools, root, program, mounted.mounts, closed), {"HOME": "/", **env})
    report("process runner: relocated, with nothing closed off (this machine gives its users no namespaces)")
    program = [str(_relocated_venv(root) / "bin/python"), "-I", "-B", "-m", "mealkit_runtime"]
    with using(root):
        return _call([*program, mode, *arguments], _relocated_environment(env, root, environment))


def _tools(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Where the programs of util-linux and coreutils are; None when one is missing."""
    # Users often do not have the folders of chroot and mount on their PATH.
    path = f"{environment.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
    found = {name: shutil.which(name, path=path) for name in _TOOLS}
    return {name: program for name, program in found.items() if program} if all(found.values()) else None


def _namespaces_work(tools: Mapping[str, str], root: Path, closed: bool) -> bool:
    """Try all of it but the run: kernels, containers and security modules forbid different parts."""
    command = _isolated(tools, root, [f"{VENV}/bin/python", "-I", "-S", "-c", ""], (), closed)
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False, env={})
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _isolated(
    tools: Mapping[str, str], root: Path, program: Sequence[str], mounts: Sequence[Mount], closed: bool
) -> list[str]:
    """The command that makes the namespaces, mounts what the run needs, and becomes ``program`` in the image."""
    mount, quote = tools["mount"], shlex.quote
    at = quote(str(root))
    lines = [
        "set -e",
        f"{mount} --bind {at} {at}",
        *(f"{mount} --rbind /{name} {at}/{name}" for name in ("proc", "sys", "dev")),
        f"{mount} -t tmpfs -o mode=1777 tmpfs {at}/tmp",  # noqa: S108
        f"{mount} -t tmpfs -o mode=755 tmpfs {at}/mnt",
    ]
    for one in mounts:
        target = quote(f"{root}{one.target}")
        parent = quote(posixpath.dirname(f"{root}{one.target}"))
        lines += [
            f"{tools['mkdir']} -p {target if one.folder else parent}",
            *([] if one.folder else [f"{tools['touch']} {target}"]),
            # rbind: the kernel refuses to show what other mounts hide below a folder.
            f"{mount} --rbind {quote(str(one.source))} {target}",
            # nosuid and nodev, because a mount that has them here must keep them.
            *([f"{mount} -o remount,bind,ro,nosuid,nodev {target}"] if one.read_only else []),
        ]
    lines += [
        f"{mount} -o remount,bind,ro {at}",
        "cd / && unset PWD OLDPWD",
        f"exec {tools['chroot']} {at} {shlex.join(program)}",
    ]
    flags = ["--user", "--map-root-user", "--mount", "--ipc", *(["--net"] if closed else [])]
    return [tools["unshare"], *flags, "--", tools["sh"], "-c", "\n".join(lines)]


def _relocated_venv(root: Path) -> Path:
    """A virtual environment over the unpacked interpreter; its ``python`` is a script that starts the image's loader.

    So ``sys.executable`` works for worker processes too.

    Raises:
        EngineError: the image has no glibc loader of this machine's architecture.
    """
    base = inside(root, f"{VENV}/bin/python")
    loader = next((path for name in _LOADERS if (path := inside(root, name)).is_file()), None)
    if loader is None or not base.is_file():
        raise EngineError(
            "the image cannot run here without a container engine",
            where=str(root),
            hint="start Docker or Podman; without one, only images with glibc run",
        )
    minor = base.name.removeprefix("python")
    folders = [base.parent.parent / "lib"]
    folders += [inside(root, name.format(m=host_platform().machine)) for name in _LIBRARY_FOLDERS]
    libraries = ":".join(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))
    venv = root / ".mealkit-venv"
    python = venv / "bin/python"
    command = shlex.join([str(loader), "--library-path", libraries, "--argv0", str(python), str(base)])
    try:
        _write(python, f'#!/bin/sh\nexec {command} "$@"\n', 0o755)
        _write(venv / "pyvenv.cfg", f"home = {base.parent}\ninclude-system-site-packages = false\n", 0o644)
        packages = venv / f"lib/python{minor}/site-packages"
        packages.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            packages.symlink_to(inside(root, site_packages(minor)))
    except OSError as error:
        raise storage_error(error, "cannot relocate the image") from error
    return venv


def _write(path: Path, text: str, mode: int) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.replace(path)


def _relocated_environment(env: Mapping[str, str], root: Path, outside: Mapping[str, str]) -> dict[str, str]:
    """The image's variables, with those that name one of its paths pointing at where that lies now."""
    # This machine's PATH, because the image's names folders that are other folders here.
    moved = {name: value for name, value in env.items() if name != "PATH"}
    for name, value in moved.items():
        if value.startswith("/") and (path := inside(root, value)).exists():
            moved[name] = str(path)
    kept = {name: outside[name] for name in ("PATH", "HOME", "TMPDIR") if name in outside}
    return {**kept, **moved, "MEALKIT_RECIPE": str(inside(root, str(RECIPE_FILE)))}


def _call(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command with our output as its own; stop it when we are asked to stop."""
    sys.stdout.flush()
    process = subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL)
    with _passing_on(process):
        status = process.wait()
    return 128 - status if status < 0 else status


@contextlib.contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the block runs, SIGTERM goes on to the process; Ctrl-C reaches it by itself, from the terminal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        process.terminate()

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
            process.wait()
