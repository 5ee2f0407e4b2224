"""The journal of a study's trials: Optuna's file, with a lock that the kernel drops when its holder dies.

Optuna's own lock is a file beside the journal. A process that is killed while it holds it leaves it there, and all
others wait half a minute before they take it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Any


def journal(path: str) -> Any:
    """Optuna's storage in a journal file, which is made if it is not there.

    Raises:
        OSError: the file cannot be written.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = _Lock(path) if _has_locks(path) else None
    return JournalStorage(JournalFileBackend(path, lock))


class _Lock:
    """The lock of a journal, as Optuna asks for it; a storage asks from one thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = -1

    def acquire(self) -> bool:
        """Wait until nobody else writes."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _mend(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True

    def release(self) -> None:
        """Let others write."""
        os.close(self._handle)


def _has_locks(path: str) -> bool:
    """Whether the file system knows locks; else Optuna's own one does, as it can."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _mend(handle: int) -> None:
    """Take away the half line that a full disk left at the end, or what is added to it could never be read."""
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        os.ftruncate(handle, os.pread(handle, size, 0).rfind(b"\n") + 1)
