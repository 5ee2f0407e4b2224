"""The specification of a project, remembered as long as the files that it was read from are unchanged."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import mealkit
from mealkit.project import Project
from mealkit.spec import RecipeSpec

from .digest import digest_file
from .store import Store


def read_spec(project: Project, store: Store) -> str:
    """The canonical JSON of the project's specification; importing pydantic only when something changed.

    Raises:
        ProjectError: a settings module or class is missing, or imports more than mealkit and pydantic.
    """
    key = _key(project)
    known = store.read_fact("specs", key)
    if isinstance(known, dict) and _unchanged(project, known["files"]):
        return str(known["spec"])
    from mealkit.describe import describe_with_sources

    spec, sources = describe_with_sources(project)
    files = {path.relative_to(project.source).as_posix(): digest_file(path) for path in sources}
    text = spec.to_json()
    store.write_fact("specs", key, {"files": files, "spec": text})
    return text


def _key(project: Project) -> str:
    """Names the project's settings and its modules' names: a new module could shadow an old one."""
    state = hashlib.sha256(project.file.read_bytes())
    for package in project.packages:
        for path in sorted((project.source / package).rglob("*.py")):
            state.update(path.relative_to(project.source).as_posix().encode() + b"\0")
    return f"{mealkit.__version__}-{_sdk_digest()}-{state.hexdigest()}"


def _sdk_digest() -> str:
    """Our own code and pydantic's version make the specification: a change of either must count."""
    folder = Path(mealkit.__file__).parent
    state = hashlib.sha256()
    for name in ("describe.py", "hyperparameters.py", "metrics.py", "project.py", "row.py", "spec.py"):
        state.update((folder / name).read_bytes())
    pydantic = importlib.util.find_spec("pydantic")  # finds, and does not import
    if pydantic is not None and pydantic.origin is not None:
        state.update(Path(pydantic.origin).with_name("version.py").read_bytes())
    return state.hexdigest()[:16]


def _unchanged(project: Project, files: dict[str, str]) -> bool:
    try:
        return all(digest_file(project.source / name) == digest for name, digest in files.items())
    except OSError:
        return False


def parse_spec(text: str) -> RecipeSpec:
    """The specification behind the text; costs the import of pydantic."""
    return RecipeSpec.from_json(text)
