"""Faults at system calls: a run under strace, whose calls fail, or during which it is killed.

``start("train", …, prefix=failing("fsync", "EIO"))`` runs with every ``fsync`` failing;
``prefix=killing("rename", 2)`` kills the process at the second ``rename`` of a thread, before the kernel does it.
"""

from __future__ import annotations

import shutil

CALLS = {
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2",
    "mkdir": "mkdir,mkdirat",
    "rmdir": "rmdir,unlinkat",
}
"""What one boundary is called on different processors."""


def failing(call: str, error: str) -> tuple[str, ...]:
    """Every such call fails."""
    return _strace(CALLS[call], f"error={error}")


def killing(call: str, number: int) -> tuple[str, ...]:
    """The process is killed when it enters the call for the ``number``-th time."""
    return _strace(CALLS[call], f"error=EINTR:signal=SIGKILL:when={number}")


def _strace(calls: str, fault: str) -> tuple[str, ...]:
    assert shutil.which("strace"), "strace is in the apt list of .ci/run"
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}")
