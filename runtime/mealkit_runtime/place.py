"""The surroundings of a process in a container: any user, a read-only root, no home."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path


def settle(environment: MutableMapping[str, str]) -> Path | None:
    """Give libraries a home that they can write and a user name; nothing else is changed.

    matplotlib, numba, joblib and others keep caches under the home folder, and ``getpass.getuser`` fails for a user
    that ``/etc/passwd`` does not know. The number of threads is left as it is on purpose: it would change the order of
    sums, and so the last bits of a result, between a container and the machine outside.

    Returns:
        The temporary home, to be removed when the run is over; None when the user has one.
    """
    if not any(environment.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            environment["LOGNAME"] = "mealkit"
    home = environment.get("HOME", "")
    # Root may write "/" itself, but caches there would be no one's.
    if home not in ("", "/") and os.access(home, os.W_OK | os.X_OK):
        return None
    try:
        temporary = Path(tempfile.mkdtemp(prefix="mealkit-home-"))
    except OSError:
        return None  # no folder at all can be written: whoever needs one will say so
    environment["HOME"] = str(temporary)
    return temporary


def leave(home: Path | None) -> None:
    """Remove the temporary home."""
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)
