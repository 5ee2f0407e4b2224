"""Where the shards of one run tell that they are done: the last of them commits the batch of all.

.. code-block:: text

    BOARD/plan.json           what all shards must agree on; made by the first of them
    BOARD/shard-00003.json    shard 3 is done: its file, its rows and what it read; made once

Every file is made once and never changed, so shards need no lock and may come in any order, again, or two at once. The
board is cleared after the commit; what a run that was given up leaves is removed by ``mealkit batches DATASET clean``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mealkit.errors import StorageError, UsageError

from .batch_record import Part
from .shard import Shard
from .shelf import Shelf

PLAN = "plan.json"


@dataclass(frozen=True)
class Mark:
    """What a shard tells when it is done.

    Attributes:
        part: Its file; None when the shard had no rows and knows no columns.
        schema: The Arrow schema of its file, in base64; empty without a file.
        input: What it read, as in a batch's provenance.
        bad_rows: How many rows it left out, by column and rule.
    """

    part: Part | None
    schema: str
    input: Mapping[str, Any]
    bad_rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Board:
    """The board of one run in one dataset.

    Args:
        shelf: The files of the dataset.
        folder: Where the board is on the shelf.
        shard: Which shard this run is.
    """

    def __init__(self, shelf: Shelf, folder: str, shard: Shard) -> None:
        self.shelf = shelf
        self.folder = folder
        self.shard = shard

    def join(self, plan: Mapping[str, object]) -> None:
        """Agree with the other shards on what they all make.

        Raises:
            UsageError: the shards that came before make another batch.
        """
        plan = {"shards": self.shard.count, **plan}
        text = json.dumps(plan, indent=2, ensure_ascii=False).encode()
        while not self.shelf.create(f"{self.folder}/{PLAN}", text):
            found = self.shelf.read(f"{self.folder}/{PLAN}")
            if found is None:
                continue  # the board was cleared just now
            other = _object(found, f"{self.folder}/{PLAN}")
            wrong = sorted(key for key in {*plan, *other} if plan.get(key) != other.get(key))
            if wrong:
                raise UsageError(
                    f"the shards of this run do not agree on their {', '.join(wrong)}: "
                    f"{_brief(other, wrong)} was told before, now {_brief(plan, wrong)}",
                    where=f"{self.folder}/{PLAN}",
                    hint="give every shard the same settings, take another --run-id, "
                    "or remove what was begun: mealkit batches DATASET clean --run-id ID",
                )
            return

    def done(self, mark: Mark) -> bool:
        """This shard is done; False: it was done before."""
        text = json.dumps(asdict(mark), indent=2, ensure_ascii=False).encode()
        return self.shelf.create(f"{self.folder}/{self._name(self.shard.index)}", text)

    def mark(self, index: int | None = None) -> Mark | None:
        """What a shard (this one) told; None: it is not done."""
        name = f"{self.folder}/{self._name(self.shard.index if index is None else index)}"
        text = self.shelf.read(name)
        if text is None:
            return None
        facts = _object(text, name)
        try:
            part = facts["part"] and Part(**facts["part"])
            return Mark(part, str(facts["schema"]), dict(facts["input"]), dict(facts.get("bad_rows") or {}))
        except (KeyError, TypeError, ValueError):
            raise _unreadable(name) from None

    def marks(self) -> list[Mark] | None:
        """What all shards told, in their order; None: one is missing."""
        if self.missing():  # one question instead of one a shard
            return None
        found = []
        for index in range(self.shard.count):
            mark = self.mark(index)
            if mark is None:
                return None
            found.append(mark)
        return found

    def missing(self) -> list[int]:
        """The shards that are not done."""
        names = {name.rpartition("/")[2] for name in self.shelf.names(self.folder)}
        return [index for index in range(self.shard.count) if self._name(index) not in names]

    def clear(self) -> None:
        """Remove the board: the plan last, so that who sees a plan may still see all of it."""
        names = self.shelf.names(self.folder)
        for name in sorted(names, key=lambda name: name.endswith(PLAN)):
            self.shelf.remove(name)

    @staticmethod
    def _name(index: int) -> str:
        return f"shard-{index:05}.json"


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _unreadable(where)
    return value


def _unreadable(where: str) -> StorageError:
    return StorageError(
        "what a shard wrote cannot be read",
        where=where,
        hint="remove what was begun: mealkit batches DATASET clean --run-id ID",
    )


def _brief(plan: Mapping[str, object], keys: list[str]) -> str:
    return ", ".join(f"{key} {str(plan.get(key))[:40]}" for key in keys)
