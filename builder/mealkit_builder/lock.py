"""The lock: all requirements of a recipe, resolved once by uv into a ``pylock.toml`` (PEP 751)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mealkit._value import dataclass, replace
from mealkit.errors import LockError, MealkitError, StorageError, UnreachableError, storage_error
from mealkit.project import Project
from mealkit.redact import redact

from .note import Notes, noted_inputs, read_notes, with_notes
from .own import own_requirements
from .requirement import check_no_secret, relative_paths, requirements, source_inputs, without_credentials, write_input

LOCK_NAME = "pylock.toml"
_TIMEOUT = 300  # seconds; a cold resolution of a large set takes a few


@dataclass(frozen=True)
class Lock:
    """A lock file's text and where it is."""

    path: Path
    text: str

    @property
    def digest(self) -> str:
        """``sha256:HEX`` of the text."""
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def notes(self) -> Notes:
        """What it notes beside PEP 751."""
        return read_notes(self.text)


def lock_inputs(project: Project) -> str:
    """Names what a lock is resolved from: the recipe's requirements, ours, and the Python versions."""
    own = [without_credentials(text) for text in requirements(project)]
    inputs = [project.requires_python, sorted(own), own_requirements(), *source_inputs(project)]
    return "sha256:" + hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def read_lock(project: Project) -> Lock | None:
    """The project's lock; None when there is none, or when it was resolved from other requirements."""
    path = project.root / LOCK_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # missing, unreadable, or no UTF-8 text
        return None
    noted = noted_inputs(text)
    if noted is None or noted != lock_inputs(project):
        return None
    return Lock(path, text)


def make_lock(project: Project, environment: Mapping[str, str], *, upgrade: bool = False) -> Lock:
    """Resolve the recipe's requirements together with ours for all platforms, and write ``pylock.toml``.

    Pins of an older lock are kept where they still fit, unless ``upgrade``.

    Raises:
        LockError: no set of versions fits; the message is the resolver's.
        UnreachableError: the package index gave no answer.
        StorageError: the lock cannot be written; an older one is left as it was.
    """
    path = project.root / LOCK_NAME
    try:
        text = _resolve(project, path, environment, upgrade)
    except OSError as error:
        raise storage_error(error, "cannot write the lock file", path) from error
    text = relative_paths(without_credentials(text), project)
    check_no_secret(text, project)
    return write_notes(Lock(path, text), replace(_older_notes(path), inputs=lock_inputs(project)))


def write_notes(lock: Lock, notes: Notes) -> Lock:
    """Write a lock with these notes.

    Raises:
        StorageError: it cannot be written; an older one is left as it was.
    """
    made = Lock(lock.path, with_notes(lock.text, notes))
    temporary = lock.path.with_suffix(".toml.tmp")
    try:
        temporary.write_text(made.text, encoding="utf-8")
        temporary.replace(lock.path)
    except OSError as error:
        raise storage_error(error, "cannot write the lock file", lock.path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return made


def _older_notes(path: Path) -> Notes:
    """What an older lock notes of sources and sizes holds as long as the new one has them too; not so for folders."""
    try:
        notes = read_notes(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Notes()
    return replace(notes, built=tuple(one for one in notes.built if one.file))


def _resolve(project: Project, path: Path, environment: Mapping[str, str], upgrade: bool) -> str:
    """The text of a new lock, made in a folder of its own."""
    from .relock import is_settled, worth_a_try  # most builds have a lock that fits

    with tempfile.TemporaryDirectory(prefix="mealkit-lock-") as name:
        folder = Path(name)
        output = folder / LOCK_NAME
        old = path.read_text(encoding="utf-8") if path.is_file() and not upgrade and _is_lock(path) else None
        inputs = {project.name: requirements(project), "mealkit-runtime": own_requirements()}
        (folder / "mealkit-runtime.in").write_text("\n".join(own_requirements()) + "\n", encoding="utf-8")
        files = [write_input(project, folder), "mealkit-runtime.in"]
        if old is not None:
            output.write_text(old, encoding="utf-8")
            asked = [text for texts in inputs.values() for text in texts]
            if environment.get("UV_OFFLINE", "0") in ("", "0", "false") and worth_a_try(old, asked):
                with contextlib.suppress(MealkitError):
                    _run_uv(project, folder, files, output, {**environment, "UV_OFFLINE": "1"}, inputs)
                    if is_settled(old, new := output.read_text(encoding="utf-8"), asked):
                        return new
                output.write_text(old, encoding="utf-8")
        _run_uv(project, folder, files, output, environment, inputs)
        return output.read_text(encoding="utf-8")


def _is_lock(path: Path) -> bool:
    """Whether pins can be taken from a file; a damaged one is made anew."""
    from packaging.pylock import Pylock, PylockValidationError

    try:
        Pylock.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, PylockValidationError, RecursionError):
        return False
    return True


def _run_uv(
    project: Project,
    folder: Path,
    files: Sequence[str],
    output: Path,
    environment: Mapping[str, str],
    inputs: Mapping[str, Sequence[str]],
) -> None:
    command = [
        uv_program(), "pip", "compile", *(str(folder / file) for file in files), "--universal", "--no-header",
        "--no-annotate", "--quiet", "--format", "pylock.toml", "--python-version", lowest_python(project),
        "--output-file", str(output),
    ]  # fmt: skip
    try:
        # In the project's folder, where uv looks for its own settings: indexes, constraints, overrides.
        done = subprocess.run(
            command,
            cwd=project.root,
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"resolving the requirements took more than {_TIMEOUT} s",
            where=str(project.file),
            hint="try again; is the index slow?",
        ) from None
    if done.returncode != 0:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).strip().replace(str(folder) + "/", "")
        raise _refusal(project, said, inputs)


def _refusal(project: Project, said: str, inputs: Mapping[str, Sequence[str]]) -> MealkitError:
    """The error behind the resolver's words."""
    if re.search(r"error sending request|Failed to fetch|timed out|Connection refused|dns error", said):
        address = re.search(r"https?://(?:[^/@\s`]*@)?([^/\s`]+)", said)
        causes = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("hint:")]
        return UnreachableError(
            f"the package index gave no answer: {redact(causes[-1].removeprefix('cause: '))}",
            where=address[1] if address else str(project.file),
            hint="check the network, and the index that uv is set to (UV_INDEX_URL, uv.toml), then retry",
        )
    if "No space left on device" in said:
        return StorageError(
            "cannot resolve the requirements: the disk is full",
            where="the cache of uv, or the folder for temporary files",
            hint="free some space, or name folders on another disk (UV_CACHE_DIR, TMPDIR)",
        )
    conflict = "No solution found" in said
    problem = "do not fit together" if conflict else "cannot be resolved"
    return LockError(
        f"the requirements {problem}\n{redact(_sides(said, inputs))}",
        where=f"{project.file}: project.dependencies",
        hint="loosen one side; `mealkit lock --upgrade` forgets older pins" if conflict else "mend the requirement",
    )


def _sides(said: str, inputs: Mapping[str, Sequence[str]]) -> str:
    """The resolver's words, and who asked for each requirement that they name."""
    lines = [f"  {line.strip()}" for line in said.splitlines()]
    for title, texts in inputs.items():
        for text in texts:
            match = re.match(r"[A-Za-z0-9._-]+", text)
            if match and re.search(rf"(?<![\w.-]){re.escape(match[0])}(?![\w-])", said):
                lines.append(f"  {text!r} is asked for by {title}")
    return "\n".join(lines)


def lowest_python(project: Project) -> str:
    """The lowest minor version that the recipe and mealkit allow, such as ``3.11``."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        allowed = SpecifierSet(project.requires_python)
    except InvalidSpecifier:
        raise LockError(
            f"not a version specifier: {project.requires_python!r}",
            where=f"{project.file}: project.requires-python",
            hint='write it as ">=3.11"',
        ) from None
    for minor in range(11, 30):
        # The last patch release: ">=3.11.4" allows 3.11.
        if allowed.contains(f"3.{minor}.99"):
            return f"3.{minor}"
    raise LockError(
        f"no Python from 3.11 on is allowed by {project.requires_python!r}",
        where=f"{project.file}: project.requires-python",
        hint='mealkit runs on Python 3.11 and later: write ">=3.11"',
    )


def uv_program() -> str:
    """The path of the uv that is installed with the builder.

    Raises:
        LockError: there is none.
    """
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError:
        found = shutil.which("uv")
        if found:
            return found
        raise LockError("uv is not installed", hint="install it beside mealkit: pip install uv") from None
