"""The boundaries of a run: its calls that change what it writes, found and stopped at with strace.

A boundary is a system call, the path that it is about, and how many calls of this kind on this path came before: so it
is the same one in the next run, whatever other threads do. At a boundary the process is killed when it enters the call,
before the kernel does it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "openat", "write", "pwrite64", "writev", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
    "symlinkat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "fsync", "fdatasync", "ftruncate", "fallocate",
    "copy_file_range", "sendfile", "sync_file_range",
)  # fmt: skip

ROOM = ("openat", "write", "pwrite64", "writev", "link", "linkat", "mkdir", "mkdirat", "fallocate")
"""Calls that need room on the disk: they fail when it is full, the others when it is broken."""

_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_HANDLE = re.compile(r"(?<![\w-])\d+<((?:\\.|[^<>\\])*)>")
_TEXT = re.compile(r'"((?:\\.|[^"\\])*)"')
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE")


@dataclass(frozen=True)
class Boundary:
    """One call; see the module."""

    call: str
    path: str
    number: int

    @property
    def killing(self) -> tuple[str, ...]:
        """The arguments that make strace kill there."""
        return self._injecting(f"error=EINTR:signal=SIGKILL:when={self.number}")

    @property
    def failing(self) -> tuple[str, ...]:
        """Those that make the call fail, and all of its kind on this path from then on."""
        return self._injecting(f"error={'ENOSPC' if self.call in ROOM else 'EIO'}:when={self.number}+")

    def _injecting(self, fault: str) -> tuple[str, ...]:
        return ("-P", self.path, "-e", f"trace={self.call}", "-e", f"inject={self.call}:{fault}")


def counting(log: Path) -> tuple[str, ...]:
    """The arguments of strace that log every call which may be a boundary."""
    assert shutil.which("strace"), "strace is in the apt list of .ci/run"
    return ("-y", "-s", "0", "-o", str(log), "-e", f"trace={','.join(CALLS)}")


def boundaries(log: Path, folder: Path) -> tuple[list[Boundary], list[str]]:
    """The boundaries in and below ``folder`` that a log shows, in their order; and what was written elsewhere."""
    found, elsewhere = [], set()
    count: Counter[tuple[str, str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:  # a signal, or the rest of a call that was interrupted by another thread's
            continue
        thread, call, rest = match.groups()
        rest = rest.partition(") = ")[0].partition("<unfinished")[0]
        # strace knows a call by its absolute paths, and by the paths of its descriptors.
        paths = [text for text in _TEXT.findall(rest) if text.startswith("/")]
        paths += [path.removesuffix(" (deleted)") for path in _HANDLE.findall(rest)]
        for path in set(paths):
            count[thread, call, path] += 1
        if not paths or (call == "openat" and not _WRITES.search(rest)):
            continue
        path = paths[0]
        if path == str(folder) or path.startswith(f"{folder}/"):
            found.append(Boundary(call, path, count[thread, call, path]))
        elif path.startswith("/"):
            elsewhere.add(f"{call} {path}")
    return list(dict.fromkeys(found)), sorted(elsewhere)


@contextlib.contextmanager
def attached(pid: int, arguments: tuple[str, ...]) -> Iterator[None]:
    """strace follows a process, which is stopped, from now on."""
    watcher = subprocess.Popen(
        ["strace", "-f", "-qqq", *(() if "-o" in arguments else ("-o", "/dev/null")), *arguments, "-p", str(pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 60
        while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
            assert watcher.poll() is None, watcher.stderr and watcher.stderr.read()
            assert time.monotonic() < until, "strace comes"
            time.sleep(0.005)
        time.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            watcher.communicate(timeout=60)
        watcher.kill()
        watcher.communicate()
