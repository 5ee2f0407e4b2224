"""The check of a recipe: everything that can be found out without data, told all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mealkit.errors import MealkitError, ProjectError
from mealkit.project import Project, read_project

from .lock import read_lock
from .source import recipe_files


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``error`` None: it is good."""

    what: str
    detail: str
    error: MealkitError | None = None


def check_recipe(root: Path) -> Iterator[Finding]:
    """Look at the project's settings, its files, its specification, its classes, and its lock, in this order."""
    try:
        project = read_project(root)
    except MealkitError as error:
        yield Finding("project", "", error)
        return
    yield Finding("project", f"{project.name} {project.version}, {project.kind}")
    yield _try("files", lambda: f"{len(recipe_files(project))} to pack")
    yield _try("specification", lambda: _specification(project))
    for role, reference in project.components.items():
        yield _try(role, lambda role=role, reference=reference: _component(project, role, reference))  # type: ignore[misc]
    yield _try("image", lambda: f"base {project.image.base}, repository {project.image.repository or 'not set'}")
    lock = read_lock(project)
    yield Finding("lock", lock.digest[:19] if lock else "none that fits; the build will make it")


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except MealkitError as error:
        return Finding(what, "", error)


def _specification(project: Project) -> str:
    from mealkit.describe import describe_project

    spec = describe_project(project)
    fields = spec.hyperparameters.get("properties", {})
    undefaulted = spec.hyperparameters.get("required", [])
    if undefaulted:
        raise ProjectError(
            f"the hyperparameter {undefaulted[0]!r} has no default",
            where=f"{project.file}: tool.mealkit.hyperparameters",
            hint="give every hyperparameter a default; platforms must be able to run the recipe as it is",
        )
    for side, schema in (("input", spec.input), ("output", spec.output)):
        lost = [key for key in spec.keys if schema is not None and key not in schema.get("properties", {})]
        if lost:
            raise ProjectError(
                f"the key {lost[0]!r} is no column of the {side} schema",
                where=f"{project.file}: tool.mealkit.keys",
                hint=f"add it to {project.components[side]}",
            )
    if spec.objective is not None and spec.objective not in spec.metrics:
        raise ProjectError(
            f"the objective {spec.objective!r} is no metric of the recipe",
            where=f"{project.file}: tool.mealkit.objective",
            hint=f"its metrics: {', '.join(spec.metrics) or 'none; declare yours under [tool.mealkit.metrics]'}",
        )
    return f"{len(fields)} hyperparameters, {len(spec.metrics)} metrics"


def _component(project: Project, role: str, reference: str) -> str:
    import mealkit
    from mealkit.describe import importable
    from mealkit.recipe import author_code, load_class

    bases: dict[str, Any] = {
        "hyperparameters": mealkit.Hyperparameters,
        "input": mealkit.Row,
        "output": mealkit.Row,
        "loader": mealkit.DataLoader,
        "trainer": mealkit.Trainer,
        "evaluator": mealkit.Evaluator,
        "scorer": mealkit.Scorer,
        "saver": mealkit.DataSaver,
    }
    with importable(project):
        cls = load_class(reference, bases[role], role)
        if role in ("loader", "trainer", "evaluator", "scorer", "saver"):
            with author_code(f"{reference}()"):
                cls()
        if role == "hyperparameters":
            from mealkit.space import dimensions

            dimensions(cls)  # a marker for trials that does not fit its field is told here, and not by the first search
    return reference
