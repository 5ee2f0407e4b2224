"""The system layer: what the packages' scripts would have made and an image needs, and dpkg's list of packages.

No script of a package is run. Made instead, by these rules and no others:

- links into ``/usr`` (``/bin``, ``/lib`` …), ``/var/run`` and ``/var/lock``; ``/bin/sh`` where dash brings none;
- ``/etc/passwd`` and ``/etc/group`` from base-passwd's masters, with the user and group ``mealkit``, 65532;
- ``/etc/nsswitch.conf`` from base-files' own;
- ``/etc/ssl/certs/ca-certificates.crt`` from all certificates of ca-certificates, in the order of their names, and
  ``/usr/lib/ssl/cert.pem``, where OpenSSL looks; the links by hash are not made;
- ``/etc/localtime`` and ``/etc/timezone``: UTC;
- ``/var/lib/dpkg/status`` with every package as installed.

Folders with a mode of their own are named again, since a layer below may have been written without knowing it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from mealkit_builder.layer import Layer
from mealkit_builder.splice import compressor
from mealkit_builder.store import Store
from mealkit_builder.tree import DirEntry, FileEntry, LinkEntry, tree_layer

from .archive import Deb, DebEntry, open_deb
from .package import MERGED, check_collisions, folder_mode, installed, package_name
from .pin import Pin

LAYOUT = 1
"""The version of these rules; raise it with every change that moves the layer's digest."""

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
TITLE = "Debian's system files"

Entry = FileEntry | LinkEntry | DirEntry


def system_key(pins: Sequence[Pin]) -> str:
    """What the system layer is a pure function of."""
    names = "\n".join(f"{pin.architecture} {pin.sha256}" for pin in sorted(pins))
    return f"deb-system/{LAYOUT}/{compressor()}/{hashlib.sha256(names.encode()).hexdigest()}"


def build_system_layer(pins: Sequence[Pin], debs: Sequence[Path], store: Store) -> Layer:
    """The system layer over all packages of a base.

    Args:
        pins: The packages.
        debs: Their files, in the same order.
        store: Where the bytes go.

    Raises:
        BaseImageError: a package is broken, or two bring one path.
        StorageError: the disk is full.
    """
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_deb(path, package_name(pin), store.root))
            for pin, path in zip(pins, debs, strict=True)
        ]
        check_collisions(opened)
        return tree_layer(
            system_entries(opened), kind="base", key=system_key(pins), title=TITLE, store=store, compress=True
        )


def system_entries(debs: Sequence[Deb]) -> Iterator[Entry]:
    """The entries of the system layer."""
    tree = _Tree(debs)
    for name in MERGED:
        if name in ("bin", "lib", "sbin") or any(path.startswith(f"/usr/{name}/") for path in tree.found):
            yield LinkEntry(f"/{name}", f"usr/{name}")
    for path, mode in sorted(tree.folders.items()):
        if mode != 0o755:
            yield DirEntry(path, mode)
    made: list[Entry] = [
        LinkEntry("/var/run", "/run"),
        LinkEntry("/var/lock", "/run/lock"),
        *_accounts(tree),
        *_certificates(tree),
        FileEntry("/var/lib/dpkg/status", _status(debs)),
        FileEntry("/var/lib/dpkg/info/format", b"1\n"),
        DirEntry("/var/lib/dpkg/updates"),
        LinkEntry("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
        FileEntry("/etc/timezone", b"Etc/UTC\n"),
    ]
    switch = tree.read("/usr/share/base-files/nsswitch.conf") or b"passwd: files\ngroup: files\nhosts: files dns\n"
    made.append(FileEntry("/etc/nsswitch.conf", switch))
    if "/usr/bin/dash" in tree.found:
        made.append(LinkEntry("/usr/bin/sh", "dash"))
    for one in made:
        if one.path not in tree.found and tree.folders.get(one.path, 0o755) == 0o755:
            yield one


class _Tree:
    """The files of all packages together."""

    def __init__(self, debs: Sequence[Deb]) -> None:
        self.found: dict[str, tuple[Deb, DebEntry]] = {}
        self.folders: dict[str, int] = {}
        for deb in debs:
            for one in installed(deb):
                if one.kind == "folder":
                    self.folders[one.path] = max(self.folders.get(one.path, 0), folder_mode(one))
                else:
                    self.found[one.path] = (deb, one)

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is no file."""
        deb, one = self.found.get(path, (None, None))
        return deb.read(one) if deb and one and one.kind == "file" else None


def _accounts(tree: _Tree) -> Iterator[FileEntry]:
    passwd = tree.read("/usr/share/base-passwd/passwd.master") or b"root:*:0:0:root:/root:/bin/sh\n"
    group = tree.read("/usr/share/base-passwd/group.master") or b"root:*:0:\n"
    # The masters have * for a password that nobody can give; x would point to /etc/shadow, which there is none of.
    yield FileEntry("/etc/passwd", passwd + b"mealkit:*:65532:65532:mealkit:/tmp:/usr/sbin/nologin\n")
    yield FileEntry("/etc/group", group + b"mealkit:*:65532:\n")


def _certificates(tree: _Tree) -> Iterator[Entry]:
    names = [name for name in tree.found if name.startswith("/usr/share/ca-certificates/") and name.endswith(".crt")]
    parts = [tree.read(name) or b"" for name in sorted(names, key=str.encode)]
    if parts:
        yield FileEntry(CA_BUNDLE, b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts))
        yield LinkEntry("/usr/lib/ssl/cert.pem", CA_BUNDLE)
        yield LinkEntry("/usr/lib/ssl/certs", "/etc/ssl/certs")


def _status(debs: Sequence[Deb]) -> bytes:
    stanzas = []
    for deb in sorted(debs, key=lambda deb: deb.control["package"]):
        first, _, rest = deb.control_text.strip("\n").partition("\n")
        lines = [line for line in (first, *rest.split("\n")) if line and not line.lower().startswith("status:")]
        stanzas.append("\n".join([lines[0], "Status: install ok installed", *lines[1:]]) + "\n")
    return "\n".join(stanzas).encode()
