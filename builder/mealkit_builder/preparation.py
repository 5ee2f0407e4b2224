"""The preparation: finds out what an image needs – lock, base, interpreter, wheels, ingredients – and makes no layer.

But for the recipe's own: nearly every build needs that anew, and it is made while the registry is asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mealkit._value import replace
from mealkit.errors import BaseImageError, LockError, MealkitError, ProjectError

from .assembly import BASE_PYTHON_LABEL, assemble
from .base import Base, BasePython, CachedSource, read_python, resolve_base, write_python
from .describing import SOURCE_LABEL, Described, describe_project
from .guess import Guess
from .image import Image
from .ingredient import Ingredient, recipe_ingredients
from .interpreter import Interpreter, remembered_interpreter
from .layer import Layer
from .lock import LOCK_NAME, Lock, make_lock, read_lock
from .need import Need, compiler_for, gather
from .order import Order
from .platform import Platform
from .pull import Pulled, pull_image
from .recall import SELECTION_LABEL, recalled_need, selection_name
from .reference import DebianLocation, parse_location
from .registry import Repository
from .requirement import source_folders
from .revision import Revision, read_revision
from .selection import select_wheels, selection_key
from .wheel import WheelFile

if TYPE_CHECKING:
    from .debian.pin import Pins

_Begun = tuple[tuple[Ingredient, ...], list[Future[None]]]


class Preparation:
    """What a build finds out. :meth:`begin` comes first, then, one platform after the other, the rest.

    Args:
        order: What is to be built.

    Attributes:
        trust: Whether others than this machine are believed.
        described: The recipe's specification.
        lock: What the wheels are selected from.
        revision: The source's commit, once it is known.
        named: The digest that the last tag names now, where the image that it names was read.
    """

    described: Described
    lock: Lock
    revision: Future[Revision]

    def __init__(self, order: Order) -> None:
        self.order = order
        self.trust = order.request.use_cache
        self.named = ""
        self._lock_is_new = False
        self._guesses: dict[Platform, Guess] = {}
        self._ahead: dict[tuple[str, Interpreter | None], _Begun] = {}

    def begin(self, executor: ThreadPoolExecutor) -> None:
        """Ask the network and git, in threads of ``executor``, beside the work that needs neither.

        Raises:
            LockError: there is no lock that fits, and none is to be made.
            MealkitError: the specification cannot be read, or what goes into the lock cannot be found.
        """
        order = self.order
        self._executor = executor
        self._last = {platform: executor.submit(self._pull, platform) for platform in order.platforms}
        # Where nobody knows it, it is made when those threads have ended: making it guards imports.
        self.described = describe_project(order.project, order.store, lambda: _labels(self._last.values()))
        self.lock = self._lock()
        self._pins = self._debian_pins()
        # After the lock: one that is made just now is a change of the source for this build, as for the next.
        self._ask_revision()
        self._ahead.clear()
        for platform in order.platforms:
            self._guess(platform)

    def last(self, platform: Platform) -> Pulled | None:
        """The image that the first tag names now: all its layers are in the repository."""
        return self._last[platform].result()

    def base(self, platform: Platform) -> Base:
        """What the image stands on."""
        order = self.order
        base = resolve_base(
            order.request.base_pin or order.base_name,
            platform,
            order.project.image,
            order.store,
            order.environment,
            lambda key: _recall(key, self.last(platform)),
            self._pins,
        )
        self._guesses[platform].note(base.python, order.store)
        return base

    def need(self, base: Base) -> Need:
        """What the image needs above its base; the recipe's own layers are made meanwhile."""
        order, spec = self.order, self.described.spec
        interpreter = self._interpreter(base.python)
        minor = base.python.minor
        recipe, ahead = self._ahead.get((minor, interpreter)) or self._begun(
            minor, interpreter, self._told(base.platform)
        )
        if base.debian is not None:
            base.debian.reporter = order.reporter
        need = self._recalled(base, interpreter, recipe)
        if need is None:
            wheels = self._wheels(base)
            need = gather(
                order.project, spec, base.python, interpreter, wheels, order.store, recipe, base.debian,
                anew=not order.request.use_cache or order.request.verify_cache,
            )  # fmt: skip
        self.last(base.platform)  # what it raises comes first
        for made in ahead:
            made.result()
        if order.request.compression == "splice":
            return need
        from .compression import recompressed

        return replace(need, ingredients=recompressed(need.ingredients, order.request.compression, order.store))

    def assemble(self, base: Base, need: Need, layers: Sequence[Layer]) -> Image:
        """The image of its layers above the base."""
        return assemble(
            base.image,
            layers,
            self.order.project,
            self.described.spec,
            self.revision.result(),
            base_name=self.order.base_name,
            base_digest=base.digest,
            bytecode=need.interpreter is not None,
            base_python=write_python(base),
            packages=need.packages,
            recall={SOURCE_LABEL: self.described.source, **self._recall_labels(base, need)},
        )

    def _pull(self, platform: Platform) -> Pulled | None:
        order = self.order
        if not order.request.use_cache or order.request.engine == "docker":
            return None
        # Its config is here when this machine made it: one request less to wait for.
        target = order.target
        source = CachedSource(target, order.store) if isinstance(target, Repository) else target
        for tag in reversed(order.tags):
            try:
                found = pull_image(source, tag, platform)
            except BaseImageError:
                continue  # what the tag names has no image for this platform, or was not made by a builder
            if found is not None:
                self.named = found.digest if tag == order.tags[-1] else ""
                return found
        return None

    def _lock(self) -> Lock:
        order = self.order
        lock = read_lock(order.project)
        if lock is not None:
            return lock
        if order.request.locked:
            raise LockError(
                "the lock is missing or does not fit pyproject.toml",
                where=str(order.project.root / LOCK_NAME),
                hint="run `mealkit lock`",
            )
        order.reporter.stage("locking")
        self._lock_is_new = True
        return make_lock(order.project, order.environment)

    def _debian_pins(self) -> Pins | None:
        """The packages of a base ``deb:``; None for any other."""
        order = self.order
        location = parse_location(order.base_name)
        if not isinstance(location, DebianLocation):
            return None
        from .debian.base import find_pins

        return find_pins(
            location.suite,
            order.platforms,
            order.project.image.apt,
            order.project.root,
            order.environment,
            locked=order.request.locked,
            report=order.reporter.stage,
        )

    def _ask_revision(self) -> None:
        project = self.order.project
        folders = source_folders(project)
        self.revision = self._executor.submit(read_revision, project.root, self.order.environment, folders)

    def _interpreter(self, python: BasePython) -> Interpreter | None:
        if not self.order.request.bytecode:
            return None
        return compiler_for(python, self.order.environment, self.order.store, self.order.reporter)

    def _guess(self, platform: Platform) -> None:
        """Begin with the recipe's layers for the Python that the base had last time, while the base is asked for."""
        order = self.order
        guess = self._guesses[platform] = Guess(order.request.base_pin or order.base_name, platform, order.store)
        python, interpreter = guess.python, None
        if python is None or python.version is None or not order.request.use_cache:
            return
        if order.request.bytecode:
            interpreter = remembered_interpreter(python.minor, order.environment, python.version, order.store)
            if interpreter is None:
                return
        key = (python.minor, interpreter)
        with contextlib.suppress(MealkitError):  # what is wrong is told when the base is known
            self._ahead[key] = self._ahead.get(key) or self._begun(*key)

    def _begun(self, minor: str, interpreter: Interpreter | None, there: frozenset[str] = frozenset()) -> _Begun:
        """The recipe's own ingredients, and the making of those that are not ``there``."""
        order = self.order
        recipe = recipe_ingredients(order.project, self.described.spec, minor, interpreter, order.store, there)
        return recipe, [self._executor.submit(self._make_ahead, one) for one in recipe if one.key not in there]

    def _told(self, platform: Platform) -> frozenset[str]:
        """Keys of the layers that the last image has, where it is read already: these are not made ahead."""
        asked = self._last[platform]
        last = asked.result() if self.trust and asked.done() and asked.exception() is None else None
        return frozenset() if last is None else frozenset(layer.key for layer in last.image.layers)

    def _make_ahead(self, recipe: Ingredient) -> None:
        """Make a layer that nearly every build needs anew, while the registry is asked what it has.

        Its bytecode is compiled by a process of its own, so this costs no time; unless the registry has the layer and
        this machine does not, which few builds meet.
        """
        if self.order.request.use_cache:
            self.order.store.layer(recipe.key, lambda: recipe.make(()))

    def _recalled(self, base: Base, interpreter: Interpreter | None, recipe: Sequence[Ingredient]) -> Need | None:
        """What the image needs as the last one tells it, where this machine never selected the wheels.

        What is attached to an image lists its wheels, and a verified cache makes them: these need the wheels.
        """
        order, key = self.order, self._selection(base)
        if (
            order.attests
            or order.request.sign_key is not None
            or order.request.verify_cache
            or order.request.compression != "splice"
            or base.debian is not None
            or not self.trust
            or order.store.read_fact("selections", key) is not None
        ):
            return None
        name = selection_name(self.lock, key, order.project, interpreter)
        return recalled_need(self.last(base.platform), name, base.python, interpreter, recipe, order.store)

    def _wheels(self, base: Base) -> tuple[WheelFile, ...]:
        """The wheels of one image; those that must be built are built, or named by what the lock notes of them."""
        order, python = self.order, base.python
        wheels = select_wheels(self.lock, python.minor, base.platform, python.libc, python.libc_version, order.store)
        if any(wheel.origin is not None or not wheel.size for wheel in wheels):
            from .finishing import Target, finish  # most recipes have nothing to finish

            image = Target(python.minor, base.platform, python.libc, python.libc_version)
            before = self.lock
            wheels, self.lock = finish(
                wheels, before, order.project, image, order.environment, order.store,
                locked=order.request.locked, new=self._lock_is_new,
            )  # fmt: skip
            if self.lock is not before:
                self._ask_revision()
        leave_out = order.project.image.leave_out
        for name in leave_out:
            if f'name = "{name}"' not in self.lock.text:
                raise ProjectError(
                    f"files of {name} are to be left out, but no requirement brings it",
                    where=f"{order.project.file}: tool.mealkit.image.leave-out.{name}",
                    hint="remove the line, or name the distribution as pylock.toml does",
                )
        return tuple(
            replace(wheel, left_out=leave_out[wheel.name]) if wheel.name in leave_out else wheel for wheel in wheels
        )

    def _selection(self, base: Base) -> str:
        python = base.python
        return selection_key(self.lock, python.minor, base.platform, python.libc, python.libc_version)

    def _recall_labels(self, base: Base, need: Need) -> dict[str, str]:
        """What tells the next build that this image's layers are those that it needs, unless it would pack others."""
        compression = self.order.request.compression
        if compression != "splice":
            from .compression import LABEL

            return {LABEL: compression}
        return {SELECTION_LABEL: selection_name(self.lock, self._selection(base), self.order.project, need.interpreter)}


def _labels(last: Iterable[Future[Pulled | None]]) -> list[dict[str, str]]:
    """The labels of the last images."""
    return [found.image.config.label_map for found in (asked.result() for asked in last) if found is not None]


def _recall(key: str, last: Pulled | None) -> BasePython | None:
    """What the last image tells of the Python in its base."""
    label = last.image.config.label_map.get(BASE_PYTHON_LABEL) if last is not None else None
    return None if label is None else read_python(label, key)
