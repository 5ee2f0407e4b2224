"""Unpacks an image's layers into a folder, as a container engine would, but as an ordinary user."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mealkit.errors import RegistryError, RetryableError, storage_error

from .image import Image
from .layer import GZIP_LAYER, Layer

_READY = ".mealkit-unpacked"
_MOUNT_POINTS = ("dev", "mnt", "proc", "sys", "tmp")


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
        RegistryError: a layer is damaged, or would write outside of the image.
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
                inside(temporary, name).mkdir(parents=True, exist_ok=True)
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
    """Unpack one layer over what is there; whiteouts remove what lower layers brought (OCI image spec, "Layer")."""
    # GzipFile, not tarfile's own reader: that one stops at the first member of a gzip file.
    stream = gzip.GzipFile(fileobj=file) if layer.media_type == GZIP_LAYER else file
    new: set[Path] = set()
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                parts = [part for part in member.name.split("/") if part not in ("", ".")]
                if ".." in parts or "\0" in member.name:
                    raise RegistryError(
                        "a layer would write outside of the image", where=member.name, hint="do not use this image"
                    )
                if parts:
                    _unpack(archive, member, inside(root, "/".join(parts[:-1])), parts[-1], root, new)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise RegistryError(f"a layer is damaged: {error}", where=layer.digest, hint="build it again") from error


def _unpack(
    archive: tarfile.TarFile, member: tarfile.TarInfo, parent: Path, name: str, root: Path, new: set[Path]
) -> None:
    if name == ".wh..wh..opq":
        if parent.is_dir():
            for path in list(parent.iterdir()):
                _hide(path, new)
        return
    if name.startswith(".wh."):
        _hide(parent / name[len(".wh.") :], new)
        return
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / name
    new.add(path)
    if member.isdir():
        if path.is_symlink() or not path.is_dir():
            _remove(path)
            path.mkdir()
        path.chmod(member.mode & 0o7777 | 0o700)
        return
    _remove(path)
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(inside(root, member.linkname), path, follow_symlinks=False)
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        with path.open("wb") as output:
            shutil.copyfileobj(content, output, 1 << 20)
        path.chmod(member.mode & 0o777 | 0o600)  # no set-user-ID: the owner is another one here


def _hide(path: Path, new: set[Path]) -> None:
    """Remove what lower layers brought; what this layer has brought stays, wherever the whiteout stands in it."""
    if path.is_dir() and not path.is_symlink() and any(path == other or path in other.parents for other in new):
        for inner in list(path.iterdir()):
            _hide(inner, new)
    elif path not in new:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
