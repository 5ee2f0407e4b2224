"""Recall: what the last image tells a machine that knows nothing, and would need a quarter of a second to find out.

Each answer stands in a label beside the name of all that it is a function of. As with its layers, who may write to the
repository is believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from mealkit.project import Project

from . import layering
from .assembly import PACKAGES_LABEL
from .base import BasePython
from .ingredient import Ingredient, own_ingredient
from .interpreter import Interpreter
from .layer import Layer
from .lock import Lock
from .need import Need
from .pull import Pulled
from .store import Store
from .target import MissingBlobError
from .wheel import WheelFile

SELECTION_LABEL = "io.mealkit.selection"
"""Names the lock and all else that decides which wheels, and which layers of them, an image has."""

_KINDS = ("wheel", "wheels", "bytecode")


def selection_name(lock: Lock, selection: str, project: Project, interpreter: Interpreter | None) -> str:
    """32 hexadecimal digits that name an image's wheels and their layers; empty where files beside the lock decide.

    Args:
        lock: The resolved requirements.
        selection: What of the lock is taken; see :func:`.selection.selection_key`.
        project: Its names must not be those of wheels, and it may leave files out.
        interpreter: What compiles their bytecode.
    """
    if "path = " in lock.text:
        return ""
    from . import bytecode
    from .splice import compressor

    compiled = None if interpreter is None else (bytecode.LAYOUT, interpreter.tag, compressor())
    left_out = sorted((name, repr(patterns)) for name, patterns in project.image.leave_out.items())
    parts = [selection, project.name, sorted(project.packages), left_out, layering.LAYOUT, compiled]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def recalled_need(
    last: Pulled | None,
    name: str,
    python: BasePython,
    interpreter: Interpreter | None,
    recipe: Sequence[Ingredient],
    store: Store,
) -> Need | None:
    """What an image needs, with the wheels' layers of the last one, if that was made of what ``name`` names."""
    labels: Mapping[str, str] = {} if last is None else last.image.config.label_map
    if last is None or not name or labels.get(SELECTION_LABEL) != name:
        return None
    ingredients = (
        *(_ingredient(layer) for layer in last.image.layers if layer.kind in _KINDS and layer.key),
        own_ingredient(python.minor, python.executable, python.version or python.minor, interpreter, store),
        *recipe,
    )
    return Need((), ingredients, interpreter, tuple(labels.get(PACKAGES_LABEL, "").split()))


def _ingredient(layer: Layer) -> Ingredient:
    def make(fetched: Sequence[WheelFile]) -> NoReturn:
        raise MissingBlobError(
            "a layer is gone from the repository since its last image", where=layer.digest, hint="build again"
        )

    return Ingredient(layer.key, layer.title, (), make)
