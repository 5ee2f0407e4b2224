"""The specification of a project, remembered as long as the files that it was read from are unchanged."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import mealkit
from mealkit._value import dataclass
from mealkit.project import Project
from mealkit.spec import LABEL

from .digest import digest_file
from .store import Store

SOURCE_LABEL = "io.mealkit.recipe.source"
"""Names what the label with the specification was read from: settings, and the imported files with their digest."""


@dataclass(frozen=True)
class Described:
    """A specification as canonical JSON, and the name of what it was read from, for :data:`SOURCE_LABEL`."""

    spec: str
    source: str


def describe_project(
    project: Project, store: Store, labels: Callable[[], Iterable[Mapping[str, str]]] = tuple
) -> Described:
    """The project's specification; importing pydantic only when something changed since it was last made.

    Args:
        project: The recipe.
        store: Where specifications are remembered.
        labels: The labels of earlier images, which may know what this machine does not; asked at most once.

    Raises:
        ProjectError: a settings module or class is missing, or imports more than mealkit and pydantic.
    """
    inputs = _inputs(project)
    key = f"{inputs}-{_pydantic()}"
    known = store.read_fact("specs", key)
    if isinstance(known, dict) and _unchanged(project, known["files"]):
        return Described(str(known["spec"]), _source(inputs, project, known["files"]))
    for told in labels():
        source = told.get(SOURCE_LABEL, "")
        names = source.split()[2:]
        if LABEL in told and names and _source(inputs, project, names) == source:
            files = {name: digest_file(project.source / name) for name in names}
            store.write_fact("specs", key, {"files": files, "spec": told[LABEL]})
            return Described(told[LABEL], source)
    from mealkit.describe import describe_with_sources

    spec, sources = describe_with_sources(project)
    files = {path.relative_to(project.source).as_posix(): digest_file(path) for path in sources}
    text = spec.to_json()
    store.write_fact("specs", key, {"files": files, "spec": text})
    return Described(text, _source(inputs, project, files))


def read_spec(project: Project, store: Store) -> str:
    """The specification alone; see :func:`describe_project`."""
    return describe_project(project, store).spec


def _source(inputs: str, project: Project, files: Iterable[str]) -> str:
    """The value of :data:`SOURCE_LABEL`; empty where files cannot be read or named in it."""
    state = hashlib.sha256()
    names = sorted(files)
    try:
        for name in names:
            # From afar come names too: only a recipe's own files are read.
            if name.split() != [name] or name.startswith("/") or ".." in name.split("/"):
                return ""
            state.update(f"{name}\0{digest_file(project.source / name)}\0".encode())
    except OSError:
        return ""
    return " ".join([hashlib.sha256(inputs.encode()).hexdigest()[:32], state.hexdigest()[:32], *names])


def _inputs(project: Project) -> str:
    """Names our own code, the project's settings and its modules' names: a new module could shadow an old one."""
    state = hashlib.sha256(project.file.read_bytes())
    for package in project.packages:
        for path in sorted((project.source / package).rglob("*.py")):
            state.update(path.relative_to(project.source).as_posix().encode() + b"\0")
    return f"{mealkit.__version__}-{_sdk_digest()}-{state.hexdigest()}"


def _sdk_digest() -> str:
    """Our own code makes the specification: a change of it must count."""
    folder = Path(mealkit.__file__).parent
    state = hashlib.sha256()
    for name in ("describe.py", "hyperparameters.py", "metrics.py", "project.py", "row.py", "spec.py"):
        state.update((folder / name).read_bytes())
    return state.hexdigest()[:16]


def _pydantic() -> str:
    """Pydantic's version counts on this machine; an image's label must not depend on it."""
    found = importlib.util.find_spec("pydantic")  # finds, and does not import
    if found is None or found.origin is None:
        return ""
    return hashlib.sha256(Path(found.origin).with_name("version.py").read_bytes()).hexdigest()[:16]


def _unchanged(project: Project, files: dict[str, str]) -> bool:
    try:
        return all(digest_file(project.source / name) == digest for name, digest in files.items())
    except OSError:
        return False
