"""The model directory: an artifact and its ``model.json``, written whole and verified before anything is deserialised.

.. code-block:: text

    MODEL/
      artifact/…        what the recipe's trainer saved
      model.json        what it is: recipe, image, hyperparameters, metrics, columns, data, sha256 and size of each file
      .mealkit-next/…   both of a model that takes this one's place just now

The model's digest is the sha256 of ``model.json``; a folder without it is no model.

A model is made in a staging folder, forced to the disk, and becomes the model by one rename of that folder: to the
model directory, or, where that is there (a mount point, or an earlier model), to ``.mealkit-next`` in it. Who finds
that reads the new model from there. Its parts are then moved into place: first the artifact, which is read there as
soon as it is not in ``.mealkit-next`` any more, last ``model.json``. A run that is killed meanwhile leaves a model that
is whole, the old or the new one, and the next run that writes finishes what it began.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mealkit.errors import ModelError, RecipeError, SettingsError, storage_error

from .files import STAGING, sync, sync_tree
from .staging import leave_stage, stage_folder, tidy_stage
from .stop import Stopper

ARTIFACT = "artifact"
MODEL_FILE = "model.json"
NEXT = ".mealkit-next"
FORMAT = 1

_OURS = (STAGING, NEXT)
"""Begin the names of what is no part of a model."""


@dataclass(frozen=True)
class StoredModel:
    """A model directory whose files were verified.

    Attributes:
        directory: Where it is.
        digest: ``sha256:HEX`` of ``model.json``.
        facts: The content of ``model.json``.
        artifact: The folder that the trainer reads.
    """

    directory: Path
    digest: str
    facts: Mapping[str, Any]
    artifact: Path

    @property
    def artifact_digest(self) -> str:
        """``sha256:HEX`` of the artifact's files alone: of two trainings it tells whether they gave the same model."""
        return artifact_digest(self.facts["files"])

    def to_json(self) -> dict[str, str]:
        """Directory and digests, for results."""
        return {"directory": str(self.directory), "digest": self.digest, "artifact": self.artifact_digest}


def check_target(directory: Path, *, overwrite: bool) -> None:
    """Refuse a model directory that holds something else, before any work is done.

    Raises:
        SettingsError: it is not empty, and no model that may be replaced.
        StorageError: it cannot be read.
    """
    try:
        names = {path.name for path in directory.iterdir()} if directory.exists() else set()
    except NotADirectoryError:
        raise SettingsError("the model directory is a file", where=str(directory), hint="name a folder") from None
    except OSError as error:
        raise storage_error(error, "reading the model directory") from None
    names = {name for name in names if not name.startswith(_OURS)}
    others = sorted(names - {MODEL_FILE, ARTIFACT})
    if not names or (MODEL_FILE in names and not others and overwrite):
        return
    if MODEL_FILE in names and not others:
        raise SettingsError(
            "the model directory has a model already",
            where=str(directory),
            hint="name another folder, or give --overwrite to replace it",
        )
    raise SettingsError(
        f"the model directory is not empty: it has {(others or sorted(names))[0]}",
        where=str(directory),
        hint="name an empty or new folder",
    )


@contextlib.contextmanager
def staged(directory: Path, stopper: Stopper) -> Iterator[Path]:
    """A folder to build a model in, with an empty ``artifact``; it is gone after the block unless it was placed.

    It stands beside the model directory, or inside it where the directory is a mount point or its parent is read-only.

    Raises:
        StorageError: neither can be written.
    """
    # An existing folder may be a mount point, and is what the user gave us: write inside.
    parent = directory if directory.exists() else directory.parent
    with contextlib.ExitStack() as resources:
        try:
            folder = stage_folder(parent, directory.absolute().name, stopper, resources)
            resources.callback(_leave, folder, stopper)
            (folder / ARTIFACT).mkdir()
        except OSError as error:
            raise storage_error(error, "making the model directory", directory) from None
        yield folder


def _leave(folder: Path, stopper: Stopper) -> None:
    with stopper.cleaning():
        leave_stage(folder)


def files_of(folder: Path) -> dict[str, dict[str, object]]:
    """Size and sha256 of each file of an artifact, by its path from the model directory.

    Raises:
        RecipeError: the trainer wrote a link or special file, or nothing.
    """
    files: dict[str, dict[str, object]] = {}
    for path in sorted((folder / ARTIFACT).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise RecipeError(
                f"the trainer saved {name}, which is no regular file", where=name, hint="save plain files and folders"
            )
        files[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    if not files:
        raise RecipeError("the trainer saved no file", where="Trainer.save", hint="write the model into the directory")
    return files


def artifact_digest(files: Mapping[str, Any]) -> str:
    """``sha256:HEX`` of names and contents of an artifact's files, as :func:`files_of` lists them."""
    lines = "".join(f"{facts['sha256']}  {name}\n" for name, facts in sorted(files.items()))
    return _digest(lines.encode())


def place(folder: Path, directory: Path, facts: Mapping[str, Any], stopper: Stopper) -> StoredModel:
    """Write ``model.json`` into a staged folder and make it the model directory; a model there is replaced.

    Raises:
        StorageError: the disk is full or failed.
    """
    text = json.dumps({"format": FORMAT, **facts}, indent=2, ensure_ascii=False, default=str) + "\n"
    try:
        (folder / MODEL_FILE).write_text(text, encoding="utf-8")
        sync_tree(folder)
        with stopper.shielded():
            if directory.exists():
                _settle(directory)
                folder.rename(directory / NEXT)
                sync(directory)
                _settle(directory)
            else:
                folder.rename(directory)
                sync(directory.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise SettingsError(
                "another run put a model there meanwhile", where=str(directory), hint="name another folder"
            ) from None
        raise storage_error(error, "writing the model", directory) from error
    return StoredModel(directory, _digest(text.encode()), json.loads(text), directory / ARTIFACT)


def of_run(directory: Path, run_id: str, recipe: str, stopper: Stopper) -> StoredModel | None:
    """The model that a run of this id placed before, whole; what it was killed at is finished first.

    Raises:
        StorageError: the disk failed.
    """
    try:
        with stopper.shielded():
            _settle(directory)
        facts = json.loads((directory / MODEL_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise storage_error(error, "reading the model directory") from None
    if not isinstance(facts, dict) or facts.get("run_id") != run_id:
        return None
    for folder in (directory, directory.parent):
        tidy_stage(folder)
    try:
        return open_model(directory, recipe)
    except ModelError:
        return None


def _settle(directory: Path) -> None:
    """Move the model in :data:`NEXT`, if there is one, into the place of the one before; see the module."""
    following = directory / NEXT
    if not following.is_dir():
        return
    if (following / ARTIFACT).is_dir():
        (directory / MODEL_FILE).unlink(missing_ok=True)
        if (directory / ARTIFACT).exists():
            shutil.rmtree(directory / ARTIFACT)
        (following / ARTIFACT).rename(directory / ARTIFACT)
        sync(directory)
    if (following / MODEL_FILE).is_file():
        (following / MODEL_FILE).replace(directory / MODEL_FILE)
        sync(directory)
    following.rmdir()


def open_model(directory: Path, recipe: str) -> StoredModel:
    """Verify a model directory: every listed file is there and unchanged, and nothing else is.

    Args:
        directory: The model directory.
        recipe: The name of the recipe that must have made it.

    Raises:
        ModelError: it is no model, was changed, or is another recipe's.
    """
    place = directory / NEXT if (directory / NEXT / MODEL_FILE).is_file() else directory
    artifact = place / ARTIFACT if (place / ARTIFACT).is_dir() else directory / ARTIFACT
    file = place / MODEL_FILE
    try:
        raw = file.read_bytes()
        facts = json.loads(raw)
    except FileNotFoundError:
        what = (
            "there is no model directory" if not directory.exists() else "the folder is no model: it has no model.json"
        )
        raise ModelError(what, where=str(directory), hint="train first, or mend --model") from None
    except OSError as error:
        raise ModelError(
            f"cannot read model.json: {(error.strerror or str(error)).lower()}",
            where=str(file),
            hint="let this user read the model",
        ) from None
    except ValueError:
        raise ModelError("model.json is not JSON", where=str(file), hint=_HINT) from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else None
        raise ModelError(
            f"the model is of format {found!r}; this mealkit reads format {FORMAT}",
            where=str(file),
            hint="use the version of mealkit that wrote it, or train again",
        )
    files, made_by = facts.get("files"), facts.get("recipe")
    if not isinstance(files, dict) or not isinstance(made_by, dict):
        raise ModelError("model.json lacks the recipe or the files", where=str(file), hint=_HINT)
    if made_by.get("name") != recipe:
        raise ModelError(
            f"the model is of the recipe {made_by.get('name')!r}, not of {recipe!r}",
            where=str(directory),
            hint="name a model that this recipe trained",
        )
    _verify(place, artifact, files)
    return StoredModel(directory, _digest(raw), facts, artifact)


_HINT = "the model was changed or damaged after it was written: copy it again, or train again"


def _verify(place: Path, artifact: Path, files: Mapping[str, Any]) -> None:
    def wrong(path: Path, name: str, what: str) -> ModelError:
        return ModelError(f"the model was tampered with: {name} {what}", where=str(path), hint=_HINT)

    for path in sorted({*place.rglob("*"), *artifact.rglob("*")}):
        name = path.relative_to(place if path.is_relative_to(place) else artifact.parent).as_posix()
        if path.is_symlink():
            raise wrong(path, name, "is a symbolic link")
        if path.is_dir() or name == MODEL_FILE:
            continue
        if name not in files and not name.startswith(_OURS):
            raise wrong(path, name, "is not listed in model.json")
    for name, facts in sorted(files.items()):
        parts = name.split("/")
        if parts[0] != ARTIFACT or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            raise wrong(place / name, name, "is outside the artifact folder")
        path = artifact.joinpath(*parts[1:])
        if not path.is_file():
            raise wrong(path, name, "is missing")
        try:
            same = path.stat().st_size == facts["size"] and _sha256(path) == facts["sha256"]
        except (TypeError, KeyError):
            same = False
        except OSError as error:
            raise ModelError(
                f"cannot read {name}: {(error.strerror or str(error)).lower()}",
                where=str(path),
                hint="let this user read the model",
            ) from None
        if not same:
            raise wrong(path, name, "is not the file that was written")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
