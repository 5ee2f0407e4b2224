"""Staging folders: unfinished work beside the dataset that it is for, and how the living are told from the dead."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mealkit.errors import StorageError

from .files import STAGING, make_folder, umask
from .stop import Stopper


def stage_folder(dataset: Path, name: str, stopper: Stopper, resources: contextlib.ExitStack) -> Path:
    """A new folder for unfinished work; what killed runs left is removed first.

    Args:
        dataset: The folder that the work is for; it is made.
        name: Begins the folder's name.
        stopper: Removes the folder if the process must be ended from outside Python.
        resources: Holds the lock that tells that the writer is alive; close it when the folder is gone.
    """
    root = dataset / STAGING
    for _ in range(100):
        make_folder(root)
        with contextlib.suppress(FileNotFoundError), _alone(root):  # another run may remove the empty root just now
            _remove_dead(root)
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
            folder.chmod(0o777 & ~umask())  # mkdtemp gives 0700; who may read a batch is the caller's umask
            resources.enter_context(stopper.staging(folder))
            resources.enter_context(_locked(folder))
            return folder
    raise StorageError(
        "the staging folder disappears again and again", where=str(root), hint="let only mealkit write in it"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock that says: whoever writes here is alive. The kernel drops it when the process dies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: then nothing is taken for dead either
            fcntl.flock(handle, fcntl.LOCK_EX)  # waits at most for the blink in which another run tries it
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """No one else makes a staging folder, or looks for dead ones: a folder that is not locked is not just being made.

    Raises:
        FileNotFoundError: the root was removed.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_ino != root.stat().st_ino:
            raise FileNotFoundError(root)  # removed and made again while we waited
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _dead(folder: Path) -> Iterator[bool]:
    """Whether the writer of a staging folder is gone; while the block runs, no one else tries it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def is_dead(root: Path, folder: Path) -> bool:
    """Whether the writer of a staging folder below ``root`` is gone."""
    try:
        with _alone(root), _dead(folder) as dead:
            return dead
    except FileNotFoundError:
        return False


def _remove_dead(root: Path) -> None:
    """Remove staging folders whose writer is gone."""
    for folder in root.iterdir():
        with contextlib.suppress(OSError), _dead(folder) as dead:
            if dead:
                shutil.rmtree(folder, ignore_errors=True)
