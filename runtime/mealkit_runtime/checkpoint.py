"""The checkpoint folder: states of a training, each written whole or not at all, and verified before it is used.

.. code-block:: text

    CHECKPOINTS/
      checkpoint-000007/
        state/…            what the recipe wrote
        random.json        the state of the global random generators
        checkpoint.json    step, identity, metrics so far, sha256 and size of each file
      checkpoint-000008/ …

A checkpoint is made in a staging folder beside the others, forced to the disk, and renamed. The number only orders
them: a resumed run may save a step that an earlier one saved too. The last :data:`KEPT` stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mealkit.checkpoint import Checkpoint
from mealkit.errors import MealkitError, RecipeError, SettingsError, storage_error
from mealkit.history import History

from .files import STAGING, sync, sync_tree
from .identity import differences, digest

if TYPE_CHECKING:
    from .run import Run

KEPT = 3
FORMAT = 1
FILE = "checkpoint.json"
STATE = "state"
RANDOM = "random.json"

_NAME = re.compile(r"checkpoint-(\d{6,})\Z")


class CheckpointFolder:
    """Saves a run's checkpoints in a folder, and finds the latest sound one there; a :class:`mealkit.Checkpoints`.

    Attributes:
        saved: How many were saved.
        resumed: What of the one that the run goes on from is worth recording; None: it began anew.
        asked: Whether the recipe asked for the latest.
    """

    def __init__(self, run: Run, folder: Path, identity: Mapping[str, Any], history: History) -> None:
        self.saved = 0
        self.resumed: dict[str, Any] | None = None
        self.asked = False
        self._run = run
        self._folder = folder
        self._identity = identity
        self._history = history
        self._found: tuple[Path, dict[str, Any]] | None = None

    def begin(self, *, resume: bool, quiet: bool = False) -> None:
        """Look for the checkpoint to go on from; remove what a killed run left unfinished.

        Args:
            resume: Whether to go on; if not, checkpoints that are there are told of, and will be replaced.
            quiet: Begin anew without a word where there is none of this identity.

        Raises:
            SettingsError: the latest is of other hyperparameters, data or recipe.
            StorageError: the folder cannot be read.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.glob(f"{STAGING}*"):
                shutil.rmtree(path, ignore_errors=True)
            there = self._numbers()
        except OSError as error:
            raise storage_error(error, "reading the checkpoint folder", self._folder) from None
        if not resume:
            if there and not quiet:
                self._run.warn(
                    "the checkpoint folder has checkpoints of an earlier run; training begins anew and replaces them",
                    "give --resume to go on from the latest",
                )
            return
        for number in reversed(there):
            path = self._path(number)
            try:
                facts = _verified(path)
            except _Damaged as error:
                self._run.warn(f"the checkpoint {path.name} is passed over: {error}", "the one before it is tried")
                continue
            different = differences(facts["identity"], self._identity)
            if different and quiet:
                return
            if different:
                raise SettingsError(
                    f"the latest checkpoint is of another training; different: {', '.join(different)}",
                    where=str(path),
                    hint="give what it was trained with, or another --checkpoint-dir, or begin anew without --resume",
                )
            self._found = (path, facts)
            return
        if not quiet:
            self._run.reporter.log("info", f"there is no checkpoint in {self._folder} to go on from: begins anew")

    def latest(self) -> Checkpoint | None:
        """See :meth:`mealkit.Checkpoints.latest`."""
        self.asked = True
        if self._found is None:
            return None
        path, facts = self._found
        self._history.restore(facts["history"])
        _restore_random(json.loads((path / RANDOM).read_text(encoding="utf-8")))
        self.resumed = {"step": facts["step"], "run_id": facts["run_id"], "digest": facts["digest"]}
        self._run.reporter.log("info", f"goes on after step {facts['step']}, from {path}")
        return Checkpoint(facts["step"], path / STATE)

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """See :meth:`mealkit.Checkpoints.save`.

        Raises:
            RecipeError: ``write`` wrote nothing, or something else than files.
            StorageError: the disk is full or failed.
        """
        from .run import disk_error

        doing = "saving a checkpoint"
        try:
            staging = Path(tempfile.mkdtemp(prefix=f"{STAGING}-", dir=self._folder))
        except OSError as error:
            raise storage_error(error, doing, self._folder) from error
        with self._run.stopper.staging(staging):
            try:
                (staging / STATE).mkdir()
                write(staging / STATE)
                self._complete(staging, step)
            except OSError as error:
                raise storage_error(error, doing, self._folder) from error
            except MealkitError as error:
                raise disk_error(error, doing, self._folder) from error.__cause__
            finally:
                with self._run.stopper.shielded():
                    shutil.rmtree(staging, ignore_errors=True)
        self.saved += 1

    def _complete(self, staging: Path, step: int) -> None:
        """Add what is ours to what the recipe wrote, and make it visible."""
        (staging / RANDOM).write_text(json.dumps(_random()), encoding="utf-8")
        facts = {
            "format": FORMAT,
            "step": step,
            "run_id": self._run.config.run_id,
            "created": self._run.clock(),
            "identity": self._identity,
            "hyperparameters_digest": digest(self._identity["hyperparameters"]),
            "history": self._history.state(),
            "files": _files(staging),
        }
        (staging / FILE).write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")
        sync_tree(staging)
        with self._run.stopper.shielded():
            numbers = self._numbers()
            staging.rename(self._path(numbers[-1] + 1 if numbers else 1))
            sync(self._folder)
            for number in numbers[: -(KEPT - 1)]:
                self._remove(self._path(number))

    def _remove(self, path: Path) -> None:
        """Renamed first: a run that is killed meanwhile leaves an orphan, and no damaged checkpoint."""
        gone = self._folder / f"{STAGING}-{path.name}"
        with contextlib.suppress(OSError):
            path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _numbers(self) -> list[int]:
        found = (_NAME.match(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def _path(self, number: int) -> Path:
        return self._folder / f"checkpoint-{number:06d}"


class _Damaged(Exception):
    """A checkpoint is not what was written."""


def _files(folder: Path) -> dict[str, dict[str, object]]:
    files: dict[str, dict[str, object]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RecipeError(f"the checkpoint has {name}, which is no regular file", hint="write plain files")
        if path.is_file():
            files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    if not any(name.startswith(f"{STATE}/") for name in files):
        raise RecipeError("no file was written for the checkpoint", hint="write the state into the given folder")
    return files


def _verified(path: Path) -> dict[str, Any]:
    try:
        raw = (path / FILE).read_bytes()
        facts: dict[str, Any] = json.loads(raw)
        if facts["format"] != FORMAT:
            raise _Damaged(f"it is of format {facts['format']!r}")
        files: Mapping[str, Any] = facts["files"]
        if set(_files(path)) != {*files, FILE}:
            raise _Damaged("files are missing, or were added")
        for name, told in files.items():
            if (path / name).stat().st_size != told["size"] or _sha256(path / name) != told["sha256"]:
                raise _Damaged(f"{name} is not the file that was written")
        _ = facts["step"] + 0, facts["run_id"], facts["identity"]["seed"], facts["history"]["series"]
    except OSError as error:
        raise _Damaged((error.strerror or str(error)).lower()) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecipeError) as error:
        raise _Damaged(f"{FILE} is damaged: {error}") from None
    return {**facts, "digest": "sha256:" + hashlib.sha256(raw).hexdigest()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _random() -> dict[str, Any]:
    """The state of the global generators, as JSON values."""
    import random

    found: dict[str, Any] = {"python": random.getstate()}
    if "numpy" in sys.modules:
        import numpy as np

        name, keys, *rest = np.random.get_state()
        found["numpy"] = [name, [int(key) for key in keys], *rest]
    return found


def _restore_random(found: Mapping[str, Any]) -> None:
    import random

    def state(value: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)

    random.setstate(state(found["python"]))
    if "numpy" in found:
        import numpy as np

        name, keys, *rest = found["numpy"]
        np.random.set_state((name, np.array(keys, dtype="uint32"), *rest))
