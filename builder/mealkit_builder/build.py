"""The build: a project in, an image in a repository or layout folder out, and its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import mealkit
from mealkit._value import replace
from mealkit.errors import BaseImageError, LockError, MealkitError, ProjectError, UsageError
from mealkit.project import Project, read_project

from .assembly import BASE_PYTHON_LABEL, assemble
from .base import Base, BasePython, CachedSource, read_python, resolve_base, write_python
from .cache_tag import is_shared
from .describing import SOURCE_LABEL, Described, describe_project
from .digest import digest_bytes
from .image import Image, config_bytes
from .ingredient import Ingredient, recipe_ingredients
from .interpreter import Interpreter
from .kitchen import Tally, cook
from .layer import Layer
from .layout import Layout
from .location import open_cache, open_location
from .lock import LOCK_NAME, Lock, make_lock, read_lock
from .need import Need, check_wheels, compiler_for, gather
from .place import Places
from .platform import Platform, host_platform, parse_platform
from .progress import Reporter, Silent
from .pull import Pulled, pull_image
from .push import PushReport, push_image
from .recall import SELECTION_LABEL, recalled_need, selection_name
from .record import ImageRecord, history_file
from .reference import DebianLocation, LayoutLocation, Reference, parse_location
from .registry import Repository
from .request import BuildRequest, tags_of
from .requirement import source_folders
from .revision import Revision, read_revision
from .selection import select_wheels, selection_key
from .store import Store, default_store_root
from .target import MissingBlobError
from .tier import Tiers
from .wheel import WheelFile

if TYPE_CHECKING:
    from .debian.pin import Pins
    from .dry_run import Plan

__all__ = ["BuildRequest", "build", "plan_build"]


def build(request: BuildRequest, reporter: Reporter | None = None) -> ImageRecord:
    """Build the image, bring it to its target, and return its record, which is also kept in ``.mealkit``.

    Raises:
        MealkitError: whatever is wrong; nothing is tagged then.
    """
    one = _open(request, reporter or Silent())
    try:
        return one.run()
    finally:
        one.target.close()


def plan_build(request: BuildRequest, reporter: Reporter | None = None) -> Plan:
    """What :func:`build` would do; nothing is written but to the cache of this machine.

    Raises:
        LockError: there is no lock that fits: a dry run makes none.
        UsageError: the image is to be built by the engine ``docker``.
        MealkitError: whatever would stop the build before it makes or moves layers.
    """
    one = _open(replace(request, locked=True), reporter or Silent())
    try:
        return one.plan()
    finally:
        one.tiers.close()
        one.target.close()


def _open(request: BuildRequest, reporter: Reporter) -> _Build:
    started = time.perf_counter()
    project = read_project(request.project)
    to = request.to or f"oci:{project.root / '.mealkit' / 'images'}"
    target, location = open_location(to, request.environment, push=True)
    if location.digest:
        raise UsageError(f"cannot push to a digest: {to}", where=to, hint="name a repository, with a tag or without")
    return _Build(request, reporter, project, target, location, tags_of(request, project, location), started)


class _Build:
    """One build, while it runs."""

    def __init__(
        self,
        request: BuildRequest,
        reporter: Reporter,
        project: Project,
        target: Repository | Layout,
        location: Reference | LayoutLocation,
        tags: tuple[str, ...],
        started: float,
    ) -> None:
        self.request = request
        self.reporter = reporter
        self.project = project
        self.target = target
        self.location = location
        self.tags = tags
        self.started = started
        self.store = Store(default_store_root(dict(request.environment)))
        self.tally = Tally(told=reporter.layer)
        self.trust = request.use_cache
        self.selected: dict[Platform, tuple[WheelFile, ...]] = {}
        self.identity = ""
        if request.sign_key is not None:
            from .attestation import signing_identity

            self.identity = signing_identity(location, project)  # before anything is built, for it may be refused
        shared, has_tags = open_cache(project.image.cache, location, request.environment, reporter)
        self.tiers = Tiers(target, self.store, shared=shared, tags=has_tags)
        self.named = ""
        self.lock: Lock
        self.lock_is_new = False
        self.revision: Future[Revision]

    def run(self) -> ImageRecord:
        """Build; once more, believing nobody, where something that was known has gone in between."""
        began = time.time()
        try:
            try:
                return self._run()
            except (MealkitError, OSError) as error:
                if not (isinstance(error, MissingBlobError) and self.trust) and not self.store.pruned_since(began):
                    raise
            self.reporter.note("something that was known is gone from the registry or the cache: once more, without it")
            self.trust, self.tally = False, Tally(told=self.reporter.layer)
            return self._run()
        finally:
            self.tiers.close()

    def _run(self) -> ImageRecord:
        platforms = self._platforms()
        base_name = self.request.base or self.project.image.base
        self._check_engine(platforms, base_name)
        with ThreadPoolExecutor(4, "mealkit-ask") as executor:
            # What the network and git answer is waited for beside the work that needs neither.
            previous = {platform: executor.submit(self._previous, platform) for platform in platforms}
            # Where nobody knows it, it is made when those threads have ended: making it guards imports.
            spec = describe_project(self.project, self.store, lambda: _labels(previous.values()))
            self.lock = self._lock()
            pins = self._pins(base_name, platforms)
            # After the lock: one that is made just now is a change of the source for this build, as for the next.
            self._ask_revision(executor)
            bases: dict[Platform, Base] = {}
            images: list[Image] = []
            known: set[str] = set()
            self.sent: dict[str, Layer] = {}
            for platform in platforms:
                base = self._base(base_name, platform, previous[platform], pins)
                bases[platform] = base
                images.append(self._image(base, base_name, spec, previous[platform], known, executor))
        try:
            report = self._bring(images, list(bases.values()), known)
            if self.request.attest or self.project.image.attest or self.request.sign_key is not None:
                self._attest(report, images, bases, base_name, spec.spec)
        finally:
            for base in bases.values():
                base.close()
        if isinstance(self.location, Reference):
            brought = (layer.digest for image in images for layer in image.layers if layer.kind != "recipe")
            Places(self.store).note(self.location, brought)
        return self._record(report, images, bases, base_name, spec.spec, self.revision.result())

    def _check_engine(self, platforms: Sequence[Platform], base_name: str) -> None:
        if self.request.engine == "docker" or self.project.image.apt or self.project.image.dockerfile:
            from .engine_build import check_engine_settings

            check_engine_settings(self.project, self.request.engine, len(platforms), base_name)
        if self.request.engine == "docker" and self.request.compression != "splice":
            raise UsageError("the Docker engine compresses layers itself", where="--compression", hint="leave it out")

    def _ask_revision(self, executor: Executor) -> None:
        folders = source_folders(self.project)
        self.revision = executor.submit(read_revision, self.project.root, self.request.environment, folders)

    def _bring(self, images: Sequence[Image], bases: Sequence[Base], known: set[str]) -> PushReport:
        """The images to the target, by our own engine or by Docker's."""
        if self.request.engine == "docker":
            from .engine_build import build_in_engine

            self.reporter.stage("building with the engine")
            return build_in_engine(
                images[0], bases[0], self.project, self.target, self.location, self.tags, self.store,
                self.request.environment, self.reporter, self.request.secrets,
            )  # fmt: skip
        self.reporter.stage("pushing")
        with ThreadPoolExecutor(1, "mealkit-tell") as beside:
            told = self._tell(images, beside)
            report = push_image(
                images[0] if len(images) == 1 else images,
                self.target,
                lambda digest: self._open(digest, bases),
                tags=self.tags,
                known=frozenset(known),
                mount_from=self._mounts(images, bases, known),
                reporter=self.reporter,
                named=self.named if self.trust else "",
            )
            self.tally.settle(report.moved)
            if isinstance(self.target, Repository):
                for image in images:
                    config = config_bytes(image)
                    self.store.add_blob(digest_bytes(config), config)
            why = told.result() if told is not None else None
        if why is not None and self.project.image.cache:
            self.reporter.note(f"the cache tags were not written: {why}")
        return report

    def _attest(
        self,
        report: PushReport,
        images: Sequence[Image],
        bases: Mapping[Platform, Base],
        base_name: str,
        spec: str,
    ) -> None:
        """Attach to the image what was asked for."""
        from .attestation import Made, attest_build

        self.reporter.stage("attaching")
        wanted = self.request.attest or self.project.image.attest
        with ThreadPoolExecutor(1, "mealkit-ask") as executor:
            for platform in bases if wanted else ():  # what the last image told needs no wheels, but an SBOM lists them
                if platform not in self.selected:
                    self.selected[platform] = self._wheels(bases[platform], executor)
        made = Made(
            self.project, report, tuple(images), bases, self.selected, base_name, self.request.engine,
            self.lock.digest, digest_bytes(spec.encode()), self.revision.result(),
        )  # fmt: skip
        attest_build(
            made, self.target, self.store, self.request.environment,
            attest=wanted,
            key=self.request.sign_key, identity=self.identity,
        )  # fmt: skip

    def _tell(self, images: Sequence[Image], beside: ThreadPoolExecutor) -> Future[str | None] | None:
        """Write cache tags beside the image's own documents: the layers above the bases are all there now."""
        layers = [[layer for layer in image.layers if is_shared(layer.key)] for image in images]
        # Made without the cache, they are told anew, whatever was told before.
        new = {
            layer.key for each in layers for layer in each if layer.key in self.tally.new or not self.request.use_cache
        }
        return beside.submit(self.tiers.tell, layers, new) if new or self.tiers.untold else None

    def _mounts(self, images: Sequence[Image], bases: Sequence[Base], known: set[str]) -> dict[str, str]:
        """For layers that are not known here: another repository of the same registry that has them."""
        layers = (layer for image in images for layer in image.layers if layer.kind != "recipe")
        if not isinstance(self.location, Reference) or all(layer.digest in known for layer in layers):
            return {}
        mounts = Places(self.store).others(self.location)
        return mounts | {digest: repo for base in bases for digest, repo in base.mounts(self.location).items()}

    def _platforms(self) -> tuple[Platform, ...]:
        named = self.request.platforms or self.project.image.platforms
        return tuple(dict.fromkeys(parse_platform(text) for text in named)) or (host_platform(),)

    def _lock(self) -> Lock:
        lock = read_lock(self.project)
        if lock is not None:
            return lock
        if self.request.locked:
            raise LockError(
                "the lock is missing or does not fit pyproject.toml",
                where=str(self.project.root / LOCK_NAME),
                hint="run `mealkit lock`",
            )
        self.reporter.stage("locking")
        self.lock_is_new = True
        return make_lock(self.project, self.request.environment)

    def _pins(self, base_name: str, platforms: Sequence[Platform]) -> Pins | None:
        """The packages of a base ``deb:``; None for any other."""
        location = parse_location(base_name)
        if not isinstance(location, DebianLocation):
            return None
        from .debian.base import find_pins

        return find_pins(
            location.suite,
            platforms,
            self.project.image.apt,
            self.project.root,
            self.request.environment,
            locked=self.request.locked,
            report=self.reporter.stage,
        )

    def _previous(self, platform: Platform) -> Pulled | None:
        """The image that the first tag names now: all its layers are in the repository."""
        if not self.request.use_cache or self.request.engine == "docker":
            return None
        # Its config is here when this machine made it: one request less to wait for.
        source = CachedSource(self.target, self.store) if isinstance(self.target, Repository) else self.target
        for tag in reversed(self.tags):
            try:
                found = pull_image(source, tag, platform)
            except BaseImageError:
                continue  # what the tag names has no image for this platform, or was not made by a builder
            if found is not None:
                self.named = found.digest if tag == self.tags[-1] else ""
                return found
        return None

    def _image(
        self,
        base: Base,
        base_name: str,
        described: Described,
        previous: Future[Pulled | None],
        known: set[str],
        executor: ThreadPoolExecutor,
    ) -> Image:
        need = self._need(base, described, previous, executor)
        self.selected[base.platform] = need.wheels
        last = previous.result()
        there: dict[str, Layer] = {}
        if last is not None and self.trust:
            there = {layer.key: layer for layer in last.image.layers if layer.key}
            known |= last.known
        there |= self.sent
        if self.request.verify_cache and self.trust:
            again = partial(
                gather, self.project, described.spec, base.python, need.interpreter, need.wheels, under=base.debian
            )
            self._check_cache(need, lambda store: again(store).ingredients, there)
        self.reporter.stage("making layers")
        target = self.target if self.request.engine == "oci" else None
        use_cache = self.request.use_cache
        look = partial(self.tiers.look, trust=self.trust) if use_cache and target is not None else None
        layers = cook(
            need.ingredients, there, target, self.store, self.reporter, self.tally, use_cache=use_cache, look=look
        )
        if target is not None:
            self.sent |= {layer.key: layer for layer in layers if layer not in self.tally.left}
        if need.wheels:
            self._check_wheels(need, base, last)
        known |= {layer.digest for layer in layers if layer not in self.tally.left}
        return self._assemble(base, base_name, described, need, layers)

    def _check_wheels(self, need: Need, base: Base, last: Pulled | None) -> None:
        images = [*self.tiers.together, *([{layer.key for layer in last.image.layers}] if last is not None else [])]
        wanted = {one.key for one in need.ingredients if one.wheels}
        together = any(wanted <= keys for keys in images)
        check_wheels(need.wheels, base.python.minor, self.store, together=together)

    def _need(
        self, base: Base, described: Described, previous: Future[Pulled | None], executor: ThreadPoolExecutor
    ) -> Need:
        """What the image needs; the recipe's own layers are made meanwhile."""
        interpreter = self._interpreter(base.python)
        recipe = recipe_ingredients(self.project, described.spec, base.python.minor, interpreter, self.store)
        ahead = [executor.submit(self._make_ahead, one) for one in recipe]
        if base.debian is not None:
            base.debian.reporter = self.reporter
        need = self._recalled(base, interpreter, recipe, previous)
        if need is None:
            wheels = self._wheels(base, executor)
            need = gather(
                self.project, described.spec, base.python, interpreter, wheels, self.store, recipe, base.debian
            )
        previous.result()  # what it raises comes first
        for made in ahead:
            made.result()
        if self.request.compression == "splice":
            return need
        from .compression import recompressed

        return replace(need, ingredients=recompressed(need.ingredients, self.request.compression, self.store))

    def _assemble(self, base: Base, base_name: str, described: Described, need: Need, layers: Sequence[Layer]) -> Image:
        return assemble(
            base.image,
            layers,
            self.project,
            described.spec,
            self.revision.result(),
            base_name=base_name,
            base_digest=base.digest,
            bytecode=need.interpreter is not None,
            base_python=write_python(base),
            packages=need.packages,
            recall={SOURCE_LABEL: described.source, **self._recall_labels(base, need)},
        )

    def _selection(self, base: Base) -> str:
        python = base.python
        return selection_key(self.lock, python.minor, base.platform, python.libc, python.libc_version)

    def _recalled(
        self,
        base: Base,
        interpreter: Interpreter | None,
        recipe: Sequence[Ingredient],
        previous: Future[Pulled | None],
    ) -> Need | None:
        """What the image needs as the last one tells it, where this machine never selected the wheels.

        What is attached to an image lists its wheels, and a verified cache makes them: these need the wheels.
        """
        key, request = self._selection(base), self.request
        wheels_needed = request.attest or self.project.image.attest or request.sign_key or request.verify_cache
        if (
            wheels_needed
            or request.compression != "splice"
            or base.debian is not None
            or not self.trust
            or self.store.read_fact("selections", key) is not None
        ):
            return None
        name = selection_name(self.lock, key, self.project, interpreter)
        return recalled_need(previous.result(), name, base.python, interpreter, recipe, self.store)

    def plan(self) -> Plan:
        """What :meth:`run` would do."""
        from .dry_run import Plan, plan_image

        platforms = self._platforms()
        base_name = self.request.base or self.project.image.base
        self._check_engine(platforms, base_name)
        if self.request.engine == "docker":
            raise UsageError(
                "a dry run needs the engine oci: what docker would do, only docker knows",
                where=str(self.project.file),
                hint="leave --dry-run out",
            )
        downloads: dict[str, int] = {}
        images = []
        with ThreadPoolExecutor(4, "mealkit-ask") as executor:
            previous = {platform: executor.submit(self._previous, platform) for platform in platforms}
            described = describe_project(self.project, self.store, lambda: _labels(previous.values()))
            self.lock = self._lock()
            pins = self._pins(base_name, platforms)
            self._ask_revision(executor)
            for platform in platforms:
                base = self._base(base_name, platform, previous[platform], pins)
                try:
                    need = self._need(base, described, previous[platform], executor)
                    planned, missing = plan_image(
                        base, base_name, need, previous[platform].result(), self.tiers, self.store,
                        partial(self._assemble, base, base_name, described, need), use_cache=self.request.use_cache,
                    )  # fmt: skip
                finally:
                    base.close()
                images.append(planned)
                downloads |= missing
        return Plan(self.target.name, self.tags, tuple(images), downloads)

    def _base(self, base_name: str, platform: Platform, previous: Future[Pulled | None], pins: Pins | None) -> Base:
        return resolve_base(
            self.request.base_pin or base_name,
            platform,
            self.project.image,
            self.store,
            self.request.environment,
            lambda key: _recall(key, previous.result()),
            pins,
        )

    def _recall_labels(self, base: Base, need: Need) -> dict[str, str]:
        """What tells the next build that this image's layers are those that it needs, unless it would pack others."""
        if self.request.compression != "splice":
            from .compression import LABEL

            return {LABEL: self.request.compression}
        return {SELECTION_LABEL: selection_name(self.lock, self._selection(base), self.project, need.interpreter)}

    def _wheels(self, base: Base, executor: Executor) -> tuple[WheelFile, ...]:
        """The wheels of one image; those that must be built are built, or named by what the lock notes of them."""
        python = base.python
        wheels = select_wheels(self.lock, python.minor, base.platform, python.libc, python.libc_version, self.store)
        if any(wheel.origin is not None or not wheel.size for wheel in wheels):
            from .finishing import Target, finish  # most recipes have nothing to finish

            image = Target(python.minor, base.platform, python.libc, python.libc_version)
            before = self.lock
            wheels, self.lock = finish(
                wheels, before, self.project, image, self.request.environment, self.store,
                locked=self.request.locked, new=self.lock_is_new,
            )  # fmt: skip
            if self.lock is not before:
                self._ask_revision(executor)
        leave_out = self.project.image.leave_out
        for name in leave_out:
            if f'name = "{name}"' not in self.lock.text:
                raise ProjectError(
                    f"files of {name} are to be left out, but no requirement brings it",
                    where=f"{self.project.file}: tool.mealkit.image.leave-out.{name}",
                    hint="remove the line, or name the distribution as pylock.toml does",
                )
        return tuple(
            replace(wheel, left_out=leave_out[wheel.name]) if wheel.name in leave_out else wheel for wheel in wheels
        )

    def _make_ahead(self, recipe: Ingredient) -> None:
        """Make a layer that nearly every build needs anew, while the registry is asked what it has.

        Its bytecode is compiled by a process of its own, so this costs no time; unless the registry has the layer and
        this machine does not, which few builds meet.
        """
        if self.request.use_cache:
            self.store.layer(recipe.key, lambda: recipe.make(()))

    def _interpreter(self, python: BasePython) -> Interpreter | None:
        if not self.request.bytecode:
            return None
        return compiler_for(python, self.request.environment, self.store, self.reporter)

    def _check_cache(
        self, need: Need, gather_in: Callable[[Store], Sequence[Ingredient]], there: Mapping[str, Layer]
    ) -> None:
        """Make anew what anybody says to know, and compare, before it is used."""
        from .cache_check import check_claims, claims_of

        self.reporter.stage("checking the cache")
        claims = claims_of(need.ingredients, there, self.tiers.told(need.ingredients), self.store)
        count = check_claims(claims, gather_in, self.store, self.target.open_blob, self.reporter)
        self.reporter.note(f"{count} known layers were made anew and compared: the same bytes")

    def _open(self, digest: str, bases: Sequence[Base]) -> BinaryIO:
        """The bytes of a layer: in the store if we made it, else where the base is."""
        if self.store.has_blob(digest):
            return self.store.blob_path(digest).open("rb")
        for base in bases:
            if any(layer.digest == digest for layer in base.image.layers):
                return base.open_layer(digest)
        raise MissingBlobError(
            "a layer is gone from the repository since its last image",
            where=self.target.url(digest),
            hint="build again; the registry may be removing old blobs",
        )

    def _record(
        self,
        report: PushReport,
        images: list[Image],
        bases: Mapping[Platform, Base],
        base_name: str,
        spec: str,
        revision: Revision,
    ) -> ImageRecord:
        ways = self.tally.ways
        record = ImageRecord(
            url=report.url,
            tags=report.tags,
            platforms={str(platform): digest for platform, digest in report.platforms},
            name=self.project.name,
            version=self.project.version,
            spec_digest=digest_bytes(spec.encode()),
            base=base_name,
            base_digest={str(platform): base.digest for platform, base in bases.items()},
            lock_digest=self.lock.digest,
            revision=revision.commit,
            dirty=revision.dirty,
            size=sum(image.size for image in images),
            layers={**ways},
            bytes_uploaded=self.tally.sent + report.uploaded.size,
            wheels_downloaded=self.tally.downloaded,
            bytecode=all(dict(image.config.labels).get("io.mealkit.bytecode") == "true" for image in images),
            builder=mealkit.__version__,
        )
        record = replace(record, seconds=round(time.perf_counter() - self.started, 3))
        if self.request.keep_record:
            record.append_to(history_file(self.project.root))
        return record


def _labels(previous: Iterable[Future[Pulled | None]]) -> list[dict[str, str]]:
    """The labels of the last images."""
    return [last.image.config.label_map for last in (asked.result() for asked in previous) if last is not None]


def _recall(key: str, last: Pulled | None) -> BasePython | None:
    """What the last image tells of the Python in its base."""
    label = last.image.config.label_map.get(BASE_PYTHON_LABEL) if last is not None else None
    return None if label is None else read_python(label, key)
