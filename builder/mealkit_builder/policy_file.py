"""The policy's file: which one holds, found without importing what judges by it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mealkit.errors import PolicyError

VARIABLE = "MEALKIT_POLICY"


def find_policy(named: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The policy that holds: the named one, ``$MEALKIT_POLICY``, the user's; None where there is none.

    Raises:
        PolicyError: a file that is named is not there.
    """
    chosen = named or (Path(environment[VARIABLE]) if environment.get(VARIABLE) else None)
    if chosen is not None:
        if not chosen.is_file():
            raise PolicyError("there is no such policy file", where=str(chosen), hint=f"check --policy, or {VARIABLE}")
        return chosen
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME") or "~", ".config")  # noqa: PTH118
    usual = Path(home).expanduser() / "mealkit" / "policy.toml"
    # A policy that cannot be read must not count as none.
    return usual if usual.exists() or usual.is_symlink() else None
