"""The source's revision: which commit a recipe is built from, and when that was made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mealkit._value import dataclass
from mealkit.errors import UsageError

EPOCH = 315532800
"""1980-01-01: the image's time where nothing else says one; never now, or no two builds would be alike."""


@dataclass(frozen=True)
class Revision:
    """The last commit that touched the project's folder.

    Attributes:
        commit: Its full hash; None when the folder is in no git repository.
        dirty: Whether the folder differs from it.
        time: Seconds since 1970 of the image: ``SOURCE_DATE_EPOCH``, else the commit's, else :data:`EPOCH`.
    """

    commit: str | None
    dirty: bool
    time: int

    @property
    def created(self) -> str:
        """The time as RFC 3339 text, as an image's ``created`` wants it."""
        return datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def label(self) -> str | None:
        """The commit, with ``-dirty`` when the folder differs from it."""
        return None if self.commit is None else self.commit + ("-dirty" if self.dirty else "")


def read_revision(root: Path, environment: Mapping[str, str], further: Sequence[Path] = ()) -> Revision:
    """Ask git about a folder; a missing git or repository is no error.

    ``further`` are folders whose files are packed too: a commit that touched one of them counts, and what no commit of
    this repository tells makes the revision dirty.

    Raises:
        UsageError: ``SOURCE_DATE_EPOCH`` is not a number of seconds.
    """
    fixed = environment.get("SOURCE_DATE_EPOCH")
    if fixed is not None and not (fixed.isascii() and fixed.isdigit()):
        raise UsageError(
            f"SOURCE_DATE_EPOCH is not a number: {fixed!r}", where="environment", hint="set it to seconds since 1970"
        )
    commit, dirty, time = None, False, EPOCH
    paths = [".", *(_relative(root, folder) for folder in further)]
    inside = [path for path in paths if path is not None]
    log = _git(root, "log", "-1", "--format=%H %ct", "--", *inside)
    if log:
        commit, _, seconds = log.strip().partition(" ")
        time = int(seconds)
        # What builds themselves write there must not make the next build another one.
        dirty = bool(_git(root, "status", "--porcelain", "--", *inside, ":(exclude).mealkit")) or inside != paths
    return Revision(commit, dirty, int(fixed) if fixed is not None else time)


def read_remote(root: Path) -> str:
    """The address that git has for ``origin``, as it stands in its configuration; empty where there is none.

    It may hold a password: see :func:`~mealkit_builder.provenance.plain_remote`.
    """
    return _git(root, "config", "--get", "remote.origin.url").strip()


def _relative(root: Path, folder: Path) -> str | None:
    """A folder as git wants it told; None when it is in another repository or in none."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    return os.path.relpath(folder, root) if top and top == _git(root, "rev-parse", "--show-toplevel") else None


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
