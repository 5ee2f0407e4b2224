"""From a project to its specification: imports the light ``settings`` modules and nothing heavier."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from . import __version__
from .errors import ProjectError
from .metrics import directions
from .project import Project
from .recipe import load_class
from .spec import MODES, RecipeSpec

_LIGHT = frozenset(
    {"mealkit", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
)


class _HeavyImportError(ImportError):
    """A settings module wants what a builder does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"settings may not import {name!r}", name=name)


class _Guard(MetaPathFinder):
    """Refuses every top-level import but the standard library, mealkit, pydantic and the recipe's own packages."""

    def __init__(self, own: Sequence[str]) -> None:
        self.allowed = _LIGHT | set(own) | set(sys.stdlib_module_names)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        # _sysconfigdata_… is the standard library's too, though it stands in no list: zoneinfo needs it.
        if name.partition(".")[0] not in self.allowed and not name.startswith("_sysconfigdata_"):
            raise _HeavyImportError(name)
        return None


@contextmanager
def importable(project: Project) -> Iterator[None]:
    """The recipe's packages can be imported inside the block; they come from its folder, not from elsewhere."""
    source = str(project.source)
    _forget(project)
    sys.path.insert(0, source)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(source)


def _forget(project: Project) -> None:
    """Drop modules of these names that were imported before: another recipe may have had the same."""
    for name in _own_modules(project):
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is None or not Path(origin).is_relative_to(project.source):
            del sys.modules[name]


@contextmanager
def _guarded(project: Project) -> Iterator[None]:
    guard = _Guard(project.packages)
    # A heavy module that is loaded already would pass unseen: the answer must not depend on who asks.
    hidden = {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] not in guard.allowed | {"__main__"}
    }
    own = {name: sys.modules[name] for name in _own_modules(project)}
    for name in (*hidden, *own):
        del sys.modules[name]
    sys.meta_path.insert(0, guard)
    # From source: bytecode beside it counts as fresh by time and size alone, and an edit can keep both.
    before = sys.pycache_prefix, sys.dont_write_bytecode
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
    try:
        yield
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode = before
        sys.meta_path.remove(guard)
        for name in _own_modules(project):
            del sys.modules[name]
        sys.modules.update(hidden | own)


def describe_project(project: Project) -> RecipeSpec:
    """The specification of a project, by importing its settings (hyperparameters and row schemas) only.

    Raises:
        ProjectError: a settings module or class is missing, or imports more than mealkit and pydantic.
    """
    return describe_with_sources(project)[0]


def describe_with_sources(project: Project) -> tuple[RecipeSpec, tuple[Path, ...]]:
    """:func:`describe_project`, and the recipe's files that were read for it: with them unchanged, so is it."""
    from .hyperparameters import Hyperparameters
    from .row import Row, json_schema

    parts = project.components
    with importable(project), _guarded(project):

        def schema(reference: str | None, base: type, role: str) -> dict[str, object] | None:
            return None if reference is None else json_schema(_light_class(project, reference, base, role))

        hyperparameters = schema(parts.get("hyperparameters"), Hyperparameters, "hyperparameters")
        input_row = schema(parts.get("input"), Row, "input")
        output_row = schema(parts.get("output"), Row, "output")
        further = {name: schema(ref, Row, f"inputs.{name}") for name, ref in sorted(project.inputs.items())}
        files = {getattr(sys.modules[name], "__file__", None) for name in _own_modules(project)}
    metrics = {**directions(project.kind, project.target), **project.metrics}
    spec = RecipeSpec(
        name=project.name,
        version=project.version,
        kind=project.kind,
        summary=project.summary,
        target=project.target,
        keys=project.keys,
        components=dict(sorted(parts.items())),
        inputs=dict(sorted(project.inputs.items())),
        hyperparameters=hyperparameters if hyperparameters is not None else json_schema(Hyperparameters),
        input=input_row,
        output=output_row,
        input_schemas=further,
        metrics=metrics,  # type: ignore[arg-type]  # read_project checked the directions
        objective=project.objective,
        resources=project.resources,
        modes=MODES,
        requires_python=project.requires_python,
        mealkit=__version__,
        time=project.time,
    )
    return spec, tuple(sorted(Path(file) for file in files if file))


def _own_modules(project: Project) -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in project.packages]


def _light_class(project: Project, reference: str, base: type, role: str) -> type:
    try:
        return load_class(reference, base, role)
    except Exception as error:
        heavy = error.__cause__ if isinstance(error.__cause__, _HeavyImportError) else None
        if heavy is None:
            raise
        raise ProjectError(
            f"{reference.partition(':')[0]!r} imports {heavy.name!r}, "
            "but a builder must read it without the recipe's libraries",
            where=f"{project.file}: tool.mealkit.{role}",
            hint=f"move what needs {heavy.name!r} to another module (and out of the package's __init__.py); "
            "settings may import mealkit, pydantic and the standard library",
        ) from None
