"""Files that are there as a whole or not at all: results, reports, records; and what of them killed runs left."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .files import STAGING, sync, umask
from .staging import lock, remove_dead


def write_atomic(path: Path, text: str) -> None:
    """Write a file by one rename; its folder is made.

    Raises:
        OSError: the disk is full or failed; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _written(path, text.encode()) as temporary:
        temporary.replace(path)


def create_atomic(path: Path, data: bytes) -> bool:
    """Make a file by one hard link, and force it to the disk; False: it is there, and was left as it is.

    Raises:
        FileNotFoundError: its folder is not there.
        OSError: the disk is full or failed.
    """
    try:
        with _written(path, data) as temporary:
            os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        return _create_in_place(path, data)  # a file system without hard links
    finally:
        with contextlib.suppress(FileNotFoundError):
            sync(path.parent)
    return True


@contextlib.contextmanager
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file beside ``path`` that is whole and on the disk; it is gone after the block."""
    prefix = f"{STAGING}-{path.name}-"
    with contextlib.suppress(OSError):  # a folder that may be written, and not be listed
        remove_dead([one for one in path.parent.iterdir() if one.name.startswith(prefix)])
    taken = True
    while taken:
        handle, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                if taken := not lock(handle, temporary):
                    continue  # by another run, for a dead one's
                file.write(data)
                file.flush()
                os.fchmod(handle, 0o666 & ~umask())  # mkstemp gives 0600; who may read it is the caller's umask
                os.fsync(handle)
                yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def _create_in_place(path: Path, data: bytes) -> bool:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return True
