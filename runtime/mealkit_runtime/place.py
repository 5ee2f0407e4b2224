"""The surroundings of a process: any user, a read-only root, no home; and a parent that may die."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from .staging import locked_folder, remove_dead

_HOME = "mealkit-home-"
_KILL_WHEN_PARENT_DIES = 1  # PR_SET_PDEATHSIG of prctl(2)


@contextlib.contextmanager
def settled(environment: MutableMapping[str, str]) -> Iterator[Path | None]:
    """Give libraries a home that they can write and a user name while the block runs; nothing else is changed.

    matplotlib, numba, joblib and others keep caches under the home folder, and ``getpass.getuser`` fails for a user
    that ``/etc/passwd`` does not know. The number of threads is left as it is on purpose: it would change the order of
    sums, and so the last bits of a result, between a container and the machine outside.

    Yields:
        The temporary home, which is removed afterwards; None when the user has one.
    """
    if not any(environment.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            environment["LOGNAME"] = "mealkit"
    home = environment.get("HOME", "")
    with contextlib.ExitStack() as resources:
        temporary = None
        # Root may write "/" itself, but caches there would be no one's.
        if home in ("", "/") or not os.access(home, os.W_OK | os.X_OK):
            temporary = _temporary_home(resources)
        if temporary is not None:
            environment["HOME"] = str(temporary)
        yield temporary


def _temporary_home(resources: contextlib.ExitStack) -> Path | None:
    """A new home; those that killed runs left are removed."""
    try:
        root = Path(tempfile.gettempdir())
        remove_dead(root.glob(f"{_HOME}*"))
        home = locked_folder(root, _HOME, resources)
    except OSError:
        return None  # no folder at all can be written: whoever needs one will say so
    resources.callback(shutil.rmtree, home, ignore_errors=True)
    return home


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, which started it, dies."""
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_KILL_WHEN_PARENT_DIES, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)
