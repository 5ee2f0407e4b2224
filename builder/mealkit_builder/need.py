"""What an image needs above its base: its wheels and ingredients, by name; nothing is fetched or made to know it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mealkit._value import dataclass, replace
from mealkit.project import Project

from .base import BasePython
from .component import check_names
from .ingredient import Ingredient, own_ingredient, recipe_ingredients, wheel_ingredients
from .interpreter import Interpreter, find_interpreter, remembered_interpreter
from .progress import Reporter
from .store import Store
from .wheel import WheelFile

if TYPE_CHECKING:
    from .debian.base import DebianSource


@dataclass(frozen=True)
class Need:
    """What an image for one platform is made of.

    Attributes:
        wheels: The wheels of the lock that fit.
        ingredients: The layers to be, in their order.
        interpreter: What compiles the bytecode; None: there is none.
        packages: The wheels as ``name==version``.
    """

    wheels: tuple[WheelFile, ...]
    ingredients: tuple[Ingredient, ...]
    interpreter: Interpreter | None
    packages: tuple[str, ...] = ()


def gather(
    project: Project,
    spec: str,
    python: BasePython,
    interpreter: Interpreter | None,
    wheels: Sequence[WheelFile],
    store: Store,
    recipe: Sequence[Ingredient] | None = None,
    under: DebianSource | None = None,
    *,
    anew: bool = False,
) -> Need:
    """What the recipe's image on a base with this Python needs.

    Args:
        project: The recipe.
        spec: Its specification.
        python: The base's.
        interpreter: What compiles bytecode.
        wheels: What the lock selects.
        store: Where layers are made.
        recipe: The recipe's own ingredients, where they were named before.
        under: What makes the layers of a base of Debian's packages.
        anew: Make all of it, whatever the store keeps for parts of layers.

    Raises:
        MealkitError: a name is taken, or a file of the recipe cannot be packed.
    """
    check_names(project, [wheel.name for wheel in wheels])
    ingredients = (
        *(under.ingredients(interpreter, store) if under is not None else ()),
        *wheel_ingredients(wheels, python.minor, interpreter, store, anew=anew),
        own_ingredient(python.minor, python.executable, python.version or python.minor, interpreter, store),
        *(recipe if recipe is not None else recipe_ingredients(project, spec, python.minor, interpreter, store)),
    )
    packages = tuple(f"{wheel.name}=={wheel.version}" for wheel in wheels)
    return Need(tuple(wheels), ingredients, interpreter, packages)


def compiler_for(
    python: BasePython, environment: Mapping[str, str], store: Store, reporter: Reporter
) -> Interpreter | None:
    """What compiles an image's bytecode; None with a note where this machine has none of its version."""
    found = (
        find_interpreter(python.minor, environment)
        if python.version is None
        else remembered_interpreter(python.minor, environment, python.version, store)
    )
    if found is None:
        reporter.note(
            f"no Python {python.minor} on this machine: the image goes without bytecode and starts slower "
            f"(uv python install {python.minor})"
        )
    return found


def check_wheels(wheels: Sequence[WheelFile], minor: str, store: Store, *, together: bool = False) -> None:
    """Once for each set of wheels: no two may bring different files to one place.

    Args:
        wheels: What the image gets.
        minor: Its Python.
        store: Where wheels are, and where it is remembered.
        together: Whether all their layers are in one image, whose build has checked them.

    Raises:
        WheelError: two of them do.
    """
    parts = sorted(map(repr, ((wheel.sha256, wheel.left_out) for wheel in wheels)))
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if store.read_fact("compatible", key) is not None:
        return
    if all(store.has_blob(wheel.sha256) for wheel in wheels):
        from .layering import check_conflicts

        check_conflicts((replace(wheel, path=store.blob_path(wheel.sha256)) for wheel in wheels), minor)
    elif together:
        return
    else:
        from .absent import check_with_absent

        check_with_absent(wheels, minor, store)
    store.write_fact("compatible", key, True)
