"""Folders and files for unfinished work, and how those of the living are told from those of the dead.

Who works in one holds a lock on it, which the kernel drops when the process dies, however it does. The next one who
works at the same place removes what is not locked. It may so meet a folder that was made just now, and is not locked
yet: its maker sees that when the lock is had, and makes another.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mealkit.errors import StorageError

from .files import STAGING, make_folder, umask
from .stop import Stopper

_TRIES = 100


def stage_folder(dataset: Path, name: str, stopper: Stopper, resources: contextlib.ExitStack) -> Path:
    """A new folder for unfinished work beside a dataset or a model; what killed runs left is removed first.

    Args:
        dataset: The folder that the work is for; it is made.
        name: Begins the folder's name.
        stopper: Removes the folder if the process must be ended from outside Python.
        resources: Holds the lock that tells that the writer is alive; close it when the folder is gone.
    """
    root = dataset / STAGING
    for _ in range(_TRIES):
        try:
            make_folder(root)
            remove_dead(root.iterdir())
            folder = locked_folder(root, f"{name}-", resources)
        except FileNotFoundError:
            continue  # another run has removed the empty root just now
        except OSError:
            with contextlib.suppress(OSError):  # the disk had room for the root, and not for a folder in it
                root.rmdir()
            raise
        folder.chmod(0o777 & ~umask())  # mkdtemp gives 0700; who may read a batch is the caller's umask
        resources.enter_context(stopper.staging(folder))
        return folder
    raise _disappears(root)


def leave_stage(folder: Path) -> None:
    """Remove a folder that :func:`stage_folder` gave, and what it stands in unless another run works there."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def tidy_stage(dataset: Path) -> None:
    """Remove what killed runs left beside a dataset or a model, where nothing else is to be done."""
    root = dataset / STAGING
    with contextlib.suppress(OSError):
        remove_dead(root.iterdir())
        root.rmdir()


def locked_folder(root: Path, prefix: str, resources: contextlib.ExitStack) -> Path:
    """A new folder in ``root``, locked until ``resources`` are closed."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            resources.callback(os.close, handle)
            if lock(handle, folder):
                return folder
    raise _disappears(root)


def lock(handle: int, path: Path) -> bool:
    """Hold the lock that says: whoever works here is alive; False when what was opened is not there any more."""
    with contextlib.suppress(OSError):  # a file system without locks: then nothing is taken for dead either
        fcntl.flock(handle, fcntl.LOCK_EX)  # waits at most for the blink in which another run tries it
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def is_dead(path: Path) -> bool:
    """Whether nobody works in a folder, or at a file, any more."""
    with _unlocked(path) as dead:
        return dead


def remove_dead(paths: Iterable[Path]) -> None:
    """Remove those folders and files that nobody works at any more."""
    for path in paths:
        with _unlocked(path) as dead:
            if dead and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif dead:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _unlocked(path: Path) -> Iterator[bool]:
    """Whether no one holds the lock; while the block runs, no one else gets it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        with contextlib.suppress(OSError):
            yield True
    finally:
        os.close(handle)


def _disappears(root: Path) -> StorageError:
    return StorageError(
        "the staging folder disappears again and again", where=str(root), hint="let only mealkit write in it"
    )
