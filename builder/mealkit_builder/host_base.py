"""The base ``host``: this machine's own Python and the libraries it needs, as two layers.

For machines that can reach no registry. Every path in the image is the path on this machine, because an
interpreter has its prefix compiled in; modes are made plain (0644, 0755), because an image's user is not the
one who owns the files here (think of a Python below ``/root``, mode 0700).
"""

from __future__ import annotations

import hashlib
import os
import platform as machine
import posixpath
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mealkit.errors import BaseImageError

from .digest import digest_bytes
from .host_files import Closure, HostPython, HostTree, closure, expected_libraries, host_python, stdlib_files
from .image import Image, ImageConfig, append
from .layer import Layer
from .platform import Platform, host_platform
from .python_in_base import BasePython, check_minor
from .splice import compressor
from .store import Store
from .tree import DirEntry, FileEntry, LinkEntry, tree_layer

LAYOUT = 2
"""The version of what goes into the layers; raise it with every change that moves their digests."""

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_BUNDLES = (CA_BUNDLE, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem")
_LOCALES = ("/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8")
_ZONES = "/usr/share/zoneinfo"
_PROGRAMS = ("/bin/sh", "/bin/cat")
"""What Python libraries start: ``subprocess`` for a shell's commands, joblib to count the processor's cores."""
_ACCOUNTS = {
    "/etc/passwd": b"root:x:0:0:root:/root:/usr/sbin/nologin\n"
    b"mealkit:x:65532:65532:mealkit:/tmp:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": b"root:x:0:\nmealkit:x:65532:\nnogroup:x:65534:\n",
    "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
}


def host_base(platform: Platform, named: str | None, store: Store) -> tuple[Image, BasePython]:
    """The image of this machine's Python, and that Python; its layers are in ``store``.

    Making it takes seconds, once: while no file that it came from changes (by path, size and time of change),
    later calls only look at those.

    Args:
        platform: What is asked for; must be this machine's.
        named: Another interpreter of this machine than the builder's own.
        store: Keeps layers and facts.

    Raises:
        BaseImageError: it can't work here; the hint says what does.
        StorageError: the layers cannot be written.
    """
    glibc = _check(platform)
    python = host_python(named)
    check_minor(python.minor, "base host")
    found = BasePython(python.minor, python.executable, "glibc", glibc, python.version)
    key = digest_bytes("\0".join((str(LAYOUT), compressor(), *asdict(python).values())).encode())
    known = store.read_fact("host", key)
    if isinstance(known, dict) and known["stamp"] == _stamp(python, known["watched"]):
        layers = [Layer(**value) for value in known["layers"]]
        if all(store.has_blob(layer.digest) for layer in layers):
            return _image(platform, python, layers), found
    watched = [*_watched(python)]
    stamp = _stamp(python, watched)
    layers, libraries = _make(python, store)
    if libraries - set(watched):
        watched += sorted(libraries - set(watched))
        stamp = _stamp(python, watched)
    fact = {"stamp": stamp, "watched": watched, "layers": [asdict(layer) for layer in layers]}
    store.write_fact("host", key, fact)
    return _image(platform, python, layers), found


def _check(platform: Platform) -> tuple[int, int]:
    """Refuse what can't work; returns the version of this machine's glibc."""
    elsewhere = 'name a base from a registry: [tool.mealkit.image] base = "python:3.12-slim", or --base'
    if sys.platform != "linux":
        raise BaseImageError(f"the base 'host' needs Linux; this is {sys.platform}", where="base host", hint=elsewhere)
    here = host_platform()
    if (platform.os, platform.architecture) != (here.os, here.architecture):
        raise BaseImageError(
            f"the base 'host' is this machine, which is {here}; it cannot become an image for {platform}",
            where="base host",
            hint=f"build for {here} only, or {elsewhere}",
        )
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = (int(part) for part in version.split(".")[:2])
    except (OSError, ValueError):
        name, major, minor = machine.libc_ver()[0], 0, 0
    if name != "glibc":
        raise BaseImageError(
            "the base 'host' needs a machine with glibc; this one has another C library (musl?)",
            where="base host",
            hint=elsewhere,
        )
    return major, minor


def _watched(python: HostPython) -> Iterable[str]:
    """Paths outside the standard library whose change (or appearance) makes other layers."""
    return (python.executable, *expected_libraries(), *_PROGRAMS, *_BUNDLES, *_LOCALES, _ZONES, f"{_ZONES}/tzdata.zi")


def _stamp(python: HostPython, watched: Iterable[str]) -> str:
    """A name for the state of all files behind the layers: no byte of them is read."""
    state = []
    try:
        for item in stdlib_files(python):
            status = item.stat()
            state.append((item.path, status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise BaseImageError(
            f"this machine's Python cannot be read: {error.strerror}",
            where=str(error.filename),
            hint="use a Python that this user may read, or a base from a registry",
        ) from error
    for path in watched:
        try:
            status = Path(path).stat()
            state.append((path, status.st_size, status.st_mtime_ns))
        except OSError:
            state.append((path, -1, 0))
    return hashlib.sha256(repr(sorted(state)).encode()).hexdigest()


def _make(python: HostPython, store: Store) -> tuple[list[Layer], set[str]]:
    """The layers, and the paths of the shared libraries in them."""
    names = [item.path for item in stdlib_files(python)]
    extensions = [path for path in names if path.endswith(".so")]
    expected = [path for path in expected_libraries() if Path(path).exists()]
    started = [path for path in _PROGRAMS if os.access(path, os.X_OK)]
    libraries = closure([python.executable, *extensions, *expected, *map(os.path.realpath, started)])
    if python.executable in libraries.broken:
        raise BaseImageError(
            f"this machine's Python needs {libraries.broken[python.executable]}, which is not found",
            where=python.executable,
            hint="mend the Python (or its LD_LIBRARY_PATH), or use a base from a registry",
        )
    usable = [path for path in names if path not in libraries.broken]
    programs = _python_tree(python, usable, libraries)
    system = _system_tree(python, expected, libraries)
    # A path that both have (a link above both, such as /lib) belongs to the lower one.
    for path in system.entries.keys() & programs.entries.keys():
        del programs.entries[path]
    layers = [
        _layer(tree, kind_title, store)
        for tree, kind_title in ((system, "system libraries"), (programs, f"Python {python.version}"))
    ]
    return layers, {*libraries.libraries.values()}


def _is_own(path: str, python: HostPython) -> bool:
    """Whether a library belongs to the interpreter's own tree; a system's Python has no tree of its own."""
    return python.prefix not in ("/usr", "") and path.startswith(python.prefix + "/")


def _python_tree(python: HostPython, names: list[str], libraries: Closure) -> HostTree:
    from .bytecode import compile_tree
    from .interpreter import inspect_interpreter

    tree = HostTree()
    tree.add(python.executable, executable=True)
    for path in libraries.libraries.values():
        if _is_own(path, python):
            tree.add(path)
    sources: dict[str, bytes] = {}
    for path in names:
        real = tree.add(path)
        if path.endswith(".py"):
            # The interpreter names a module by the path it searched, not by what a link there points to.
            sources[path] = Path(real).read_bytes()
    interpreter = inspect_interpreter(Path(python.executable))
    if interpreter is not None:
        for path, data in compile_tree(sources, interpreter).items():
            tree.put(FileEntry(path, data))
    if not Path(python.dynload).exists():
        tree.put(DirEntry(python.dynload))  # Python warns at every start when it is missing
    return tree


def _system_tree(python: HostPython, expected: list[str], libraries: Closure) -> HostTree:
    tree = HostTree()
    # Where the C library is, its loader searches by default.
    default = posixpath.dirname(os.path.realpath(libraries.libraries["libc.so.6"]))
    for name, path in libraries.libraries.items():
        if _is_own(path, python):
            continue
        real = tree.add(path, executable=name.startswith("/"))  # the loader goes by its path, and is a program
        if not name.startswith("/") and posixpath.dirname(real) != default:
            # The image has no cache of ld.so.conf's folders: make the library known where every loader looks.
            tree.put(LinkEntry(f"{default}/{name}", path))
    for path in expected:
        tree.add(path)
    for path in _PROGRAMS:
        if os.access(path, os.X_OK):
            tree.add(path, executable=True)
    for path, data in _ACCOUNTS.items():
        tree.put(FileEntry(path, data))
    bundle = next((path for path in _BUNDLES if os.access(path, os.R_OK)), None)
    if bundle is not None:
        tree.put(FileEntry(CA_BUNDLE, Path(os.path.realpath(bundle))))
    for folder in _LOCALES:
        tree.add_folder(folder)
    tree.add_folder(_ZONES, without=frozenset({"right", "posix", "localtime", "leapseconds"}))
    for path in ("/tmp", "/var/tmp"):  # noqa: S108
        tree.put(DirEntry(path, 0o1777))
    for path in ("/dev", "/proc", "/sys", "/run", "/mnt"):
        tree.put(DirEntry(path))
    return tree


def _layer(tree: HostTree, title: str, store: Store) -> Layer:
    """The layer of a tree, keyed by what is in it."""
    state = hashlib.sha256()
    for path, entry in sorted(tree.entries.items()):
        if isinstance(entry, LinkEntry):
            content = f"-> {entry.target}"
        elif isinstance(entry, DirEntry):
            content = f"/ {entry.mode:o}"
        else:
            data = entry.data if isinstance(entry.data, bytes) else entry.data.read_bytes()
            content = f"{entry.executable} {digest_bytes(data)}"
        state.update(f"{path} {content}\n".encode())
    key = f"host/{LAYOUT}/{compressor()}/{state.hexdigest()}"
    return store.layer(
        key, lambda: tree_layer(tree.entries.values(), kind="base", key=key, title=title, store=store, compress=True)
    )


def _image(platform: Platform, python: HostPython, layers: list[Layer]) -> Image:
    folders = dict.fromkeys((posixpath.dirname(python.executable), "/usr/local/bin", "/usr/bin", "/bin"))
    env = (
        ("PATH", ":".join(folders)),
        ("LANG", "C.UTF-8"),
        # OpenSSL's compiled-in folder depends on who built Python; this works for all.
        ("SSL_CERT_FILE", CA_BUNDLE),
        ("PYTHON_VERSION", python.version),
    )
    return append(Image(platform, config=ImageConfig(env=env)), *layers)
