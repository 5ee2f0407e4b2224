"""Unpacks an image's layers into a folder, as a container engine would, but as an ordinary user."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mealkit.errors import RegistryError, RetryableError, storage_error

from .image import Image
from .layer import Layer
from .tar_reader import DEEPEST, OPAQUE, BadLayer, Member, printable, read_layer

_READY = ".mealkit-unpacked"
_MOUNT_POINTS = ("dev", "mnt", "proc", "sys", "tmp")
# What an entry alone can be to blame for: a file where a folder should be, a name or a link that no system takes.
_IMPOSSIBLE = frozenset(
    {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENOENT,
     errno.EMLINK, errno.EILSEQ}
)  # fmt: skip


def unpack_image(image: Image, digest: str, open_layer: Callable[[str], BinaryIO], folder: Path) -> Path:
    """The root file system of an image below ``folder``, unpacked once.

    Owners are not kept (all is the calling user's) and device files are left out; the folder's own user may
    always write, so that it can be removed again.

    Args:
        image: What to unpack.
        digest: Its manifest's digest.
        open_layer: Opens a layer's compressed bytes.
        folder: Where; several images share it.

    Raises:
        RegistryError: a layer is damaged or is not what the image says, or would write outside of the image.
        StorageError: the disk is full or read-only.
    """
    root = folder / digest.removeprefix("sha256:")
    if (root / _READY).exists():
        return root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".tmp-"))
        try:
            temporary.chmod(0o755)
            for layer in image.layers:
                with open_layer(layer.digest) as file:
                    unpack_layer(file, layer, temporary)
            for name in _MOUNT_POINTS:
                point = temporary / name
                if point.is_symlink() or (point.exists() and not point.is_dir()):
                    raise RegistryError(
                        f"the image's /{name} is no folder", where=digest, hint="run it in a container engine"
                    )
                point.mkdir(exist_ok=True)
            (temporary / _READY).write_text(digest)
            try:
                temporary.replace(root)
            except OSError as error:
                # Another process was faster; its folder has the same files.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, "cannot unpack the image") from error
    return root


@contextlib.contextmanager
def using(root: Path) -> Iterator[None]:
    """While the block runs, an unpacked image is not pruned.

    Raises:
        RetryableError: it was pruned just now.
    """
    try:
        mark = (root / _READY).open("rb")
    except FileNotFoundError:
        raise RetryableError(
            "the unpacked image was removed just now", where=str(root), hint="run the same command again"
        ) from None
    with mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        with contextlib.suppress(OSError):
            os.utime(root / _READY)
        yield


@contextlib.contextmanager
def removing(root: Path) -> Iterator[bool]:
    """Whether an unpacked image may be removed: nobody is using it."""
    try:
        mark = (root / _READY).open("rb")
    except FileNotFoundError:
        yield True
        return
    with mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def inside(root: Path, path: str) -> Path:
    """Where ``path`` of an image really lies below ``root``: links are followed as if ``root`` were ``/``.

    Raises:
        RegistryError: links go in a circle.
    """
    done, rest, hops = root, [part for part in path.split("/") if part not in ("", ".")], 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = done.parent if done != root else root
            continue
        here = done / part
        if not here.is_symlink():
            done = here
            continue
        hops += 1
        if hops > 40:
            raise RegistryError("too many symbolic links in the image", where=path, hint="build it again")
        target = str(here.readlink())
        rest = [piece for piece in target.split("/") if piece not in ("", ".")] + rest
        if target.startswith("/"):
            done = root
    return done


def unpack_layer(file: BinaryIO, layer: Layer, root: Path) -> None:
    """Unpack one layer over what is there; whiteouts remove what lower layers brought (OCI image spec, "Layer").

    Raises:
        RegistryError: the layer is damaged, is not what its descriptor and diff ID say, or would write elsewhere.
        OSError: the disk is full or read-only.
    """
    new = _New()
    name = ""
    try:
        for member in read_layer(file, layer):
            name = member.info.name
            if member.parts:
                _unpack(member, root, new)
    except BadLayer as error:
        raise RegistryError(
            f"a layer cannot be unpacked: {error}",
            where=f"{layer.digest}: {error.entry}" if error.entry else layer.digest,
            hint="do not use this image: build or fetch it again",
        ) from error
    except OSError as error:
        if error.errno not in _IMPOSSIBLE:
            raise
        raise RegistryError(
            f"a layer has an entry that cannot be: {error.strerror}",
            where=f"{layer.digest}: {printable(name)}",
            hint="do not use this image: build or fetch it again",
        ) from error


class _New:
    """What the layer itself has brought, and the folders above it: its own whiteouts do not hide that."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.above: set[str] = set()

    def add(self, path: Path) -> None:
        name = str(path)
        self.paths.add(name)
        while (name := name.rpartition("/")[0]) and name not in self.above:
            self.above.add(name)

    def __contains__(self, path: Path) -> bool:
        return str(path) in self.paths


def _unpack(member: Member, root: Path, new: _New) -> None:
    info = member.info
    parent = inside(root, "/".join(member.parts[:-1]))
    below = parent.relative_to(root).parts
    # Links can lead deeper than any name; and what mealkit keeps beside the image is no part of it.
    if len(below) >= DEEPEST:
        raise BadLayer("it lies too deep", info.name)
    if (*below, member.parts[-1])[0].startswith(".mealkit-"):
        raise BadLayer("the name is one that mealkit uses for itself", info.name)
    if member.removes == OPAQUE:
        if parent.is_dir():
            for path in list(parent.iterdir()):
                _hide(path, new)
        return
    if member.removes:
        _hide(parent / member.removes, new)
        return
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / member.parts[-1]
    new.add(path)
    if info.isdir():
        if path.is_symlink() or not path.is_dir():
            _remove(path)
            path.mkdir()
        path.chmod(info.mode & 0o1777 | 0o700)
        return
    if info.islnk():
        first = inside(root, info.linkname)
        if not first.is_file() or first.is_symlink():
            raise BadLayer(f"it is a hard link to what is no file: {printable(info.linkname)}", info.name)
        if first != path:
            _remove(path)
            os.link(first, path, follow_symlinks=False)
        return
    _remove(path)
    if info.issym():
        path.symlink_to(info.linkname)
    elif info.isreg():
        with path.open("xb") as output:
            for block in member.blocks():
                output.write(block)
        path.chmod(info.mode & 0o777 | 0o600)  # no set-user-ID: the owner is another one here


def _hide(path: Path, new: _New) -> None:
    """Remove what lower layers brought; what this layer has brought stays, wherever the whiteout stands in it."""
    if str(path) in new.above and path.is_dir() and not path.is_symlink():
        for inner in list(path.iterdir()):
            _hide(inner, new)
    elif path not in new:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
