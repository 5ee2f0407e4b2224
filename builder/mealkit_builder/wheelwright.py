"""The wheelwright: makes a wheel from sources, in isolation, once, and so that it can be made again.

uv runs the project's own build backend in an environment of its own that holds just the build requirements, which are
pinned first and noted in the lock. What comes out is written once more by :mod:`.rezip`, so the digest depends on the
files alone. Sources that give the same files give the same wheel; a compiler may not, and then the recorded wheel has
to be kept (``[tool.mealkit.image] wheels``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mealkit.errors import BuildError, LockError, MealkitError, SecretFoundError, UnreachableError, storage_error
from mealkit.redact import redact

from .digest import digest_bytes
from .interpreter import Interpreter, find_interpreter, inspect_interpreter
from .lock import uv_program
from .note import Built
from .origin import Origin
from .revision import EPOCH
from .rezip import canonical_wheel
from .secret import secret_in
from .source_tree import bring_sources, fingerprint
from .store import Store
from .wheel import WheelFile

_RULE = 1
"""The version of what a built wheel depends on besides sources and build requirements; raise it when that changes."""

_TIMEOUT = 1800  # seconds; compiled code may take long
_DEFAULT_REQUIRES = ("setuptools>=40.8.0",)  # PEP 518, where there is no [build-system]


@dataclass(frozen=True)
class Wheelwright:
    """What building wheels needs.

    Attributes:
        root: The recipe's folder, where uv finds the settings of its indexes.
        environment: The process' environment.
        store: Where wheels are kept.
        kept: The folder beside the recipe that built wheels are kept in too, if any.
    """

    root: Path
    environment: Mapping[str, str]
    store: Store
    kept: Path | None = None

    def build(
        self, name: str, version: str, origin: Origin, minor: str, requires: Sequence[str] | None = None
    ) -> Built:
        """The wheel of these sources; the one that was built before, when nothing has changed since.

        Args:
            name: The distribution's name, as the lock writes it.
            version: Its version; empty where the sources say it.
            origin: The sources.
            minor: The Python to build with, such as ``3.12``; where there is none this Python is taken.
            requires: Pins of the build requirements; None: those of today.

        Raises:
            BuildError: the build fails, or gives another distribution.
            SecretFoundError: a folder's wheel holds a private key or a file for credentials.
            UnreachableError: a host gave no answer.
        """
        fixed = origin.fixed if origin.kind != "folder" else fingerprint(Path(origin.address))
        pins = None if requires is None else list(requires)
        known = [_RULE, name, origin.kind, fixed, origin.subdirectory, minor, pins]
        key = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        fact = self.store.read_fact("built", key)
        if isinstance(fact, dict):
            built = Built(**{**fact, "requires": tuple(fact["requires"])})
            if self.store.has_blob(built.sha256):
                return built
        try:
            with tempfile.TemporaryDirectory(prefix="mealkit-build-") as folder:
                built = self._build(name, version, origin, self._interpreter(minor), requires, Path(folder))
        except OSError as error:
            raise storage_error(error, f"cannot build the wheel of {name}") from error
        self.store.write_fact("built", key, asdict(built))
        return built

    def find(self, wheel: WheelFile, minor: str, requires: Sequence[str]) -> Path:
        """The file of a wheel that the lock records: from the folder of kept ones, or built again.

        Raises:
            BuildError: what is built here is another file.
        """
        if self.kept is not None:
            with contextlib.suppress(OSError):
                data = (self.kept / wheel.filename).read_bytes()
                if hashlib.sha256(data).hexdigest() == wheel.sha256:
                    return self.store.add_blob(wheel.sha256, data)
        assert wheel.origin is not None
        built = self.build(wheel.name, wheel.version, wheel.origin, minor, requires)
        if built.sha256 != wheel.sha256:
            raise BuildError(
                f"the wheel of {wheel.name} {wheel.version} that is built here is not the one that the lock records",
                where=f"{wheel.filename}: {built.sha256} instead of {wheel.sha256}",
                hint='another compiler? Keep the recorded wheel: set [tool.mealkit.image] wheels = "wheels" where it '
                "was built, lock there again, and commit that folder",
            )
        return self.store.blob_path(wheel.sha256)

    def keep(self, built: Built) -> None:
        """Put a recorded wheel into the folder of kept ones, if there is one."""
        if self.kept is None or not built.file:
            return
        target = self.kept / built.file
        data = self.store.blob_path(built.sha256).read_bytes()
        try:
            if not target.is_file() or target.read_bytes() != data:
                self.kept.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        except OSError as error:
            raise storage_error(error, "cannot keep a built wheel", target) from error

    def _interpreter(self, minor: str) -> Interpreter:
        found = find_interpreter(minor, self.environment) or inspect_interpreter(Path(sys.executable))
        if found is None:
            raise BuildError(f"no Python {minor} to build with", hint=f"uv python install {minor}")
        return found

    def _build(
        self, name: str, version: str, origin: Origin, python: Interpreter, requires: Sequence[str] | None, folder: Path
    ) -> Built:
        project = bring_sources(name, origin, folder, self.environment, self.store)
        if requires is None:
            requires = self._pins(name, project, python)
        (folder / "pins.txt").write_text("".join(f"{pin}\n" for pin in requires), encoding="utf-8")
        out = folder / "out"
        self._uv(
            name, "build", "--wheel", "--no-create-gitignore", "--no-sources", "--python", str(python.path),
            "--build-constraints", str(folder / "pins.txt"), "--out-dir", str(out), str(project), folder=folder,
        )  # fmt: skip
        (made,) = out.glob("*.whl")
        try:
            data = canonical_wheel(made)
        except ValueError as error:
            raise BuildError(f"the wheel that {name} builds is broken: {error}", where=made.name) from None
        _check_name(name, version, made.name, origin)
        if origin.kind == "folder":
            _check_secrets(data, origin)
        sha256 = digest_bytes(data).removeprefix("sha256:")
        self.store.add_blob(sha256, data)
        pure = made.name.endswith("-none-any.whl")
        libc = "" if pure else "-".join(platform.libc_ver()).removesuffix("-") or "musl"
        return Built(name, origin.name, python.minor, tuple(requires), made.name, sha256, len(data), libc)

    def _pins(self, name: str, project: Path, python: Interpreter) -> tuple[str, ...]:
        """The versions of the build requirements that are the newest today."""
        try:
            text = (project / "pyproject.toml").read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        try:
            table = tomllib.loads(text).get("build-system", {"requires": _DEFAULT_REQUIRES})
        except ValueError as error:
            raise BuildError(f"the pyproject.toml of {name} is damaged: {error}", where=str(name)) from None
        wanted = [str(one) for one in table.get("requires", ())]
        if not wanted:
            return ()
        said = self._uv(
            name, "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--python", str(python.path),
            "--no-sources", given="\n".join(wanted) + "\n", folder=project,
        )  # fmt: skip
        lines = [line.partition(" ;")[0].strip() for line in said.splitlines()]
        return tuple(sorted(line for line in lines if re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*==", line)))

    def _uv(self, name: str, *arguments: str, folder: Path, given: str | None = None) -> str:
        """Run uv in the recipe's folder; what it prints."""
        try:
            done = subprocess.run(
                [uv_program(), *arguments, "--color", "never"],
                cwd=self.root,
                env=_environment(self.environment, folder),
                input=given,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=False,
                umask=0o022,
            )
        except subprocess.TimeoutExpired:
            raise BuildError(
                f"building {name} took more than {_TIMEOUT} s", hint="does its build wait for you?"
            ) from None
        if done.returncode:
            raise _failed(name, done.stdout + done.stderr, folder)
        return done.stdout


def _environment(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What a build sees: fixed where a backend or a compiler would write it into its files."""
    fixed = {"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    prefix = f"-ffile-prefix-map={folder}=."
    flags = {name: f"{environment.get(name, '')} {prefix}".strip() for name in ("CFLAGS", "CXXFLAGS")}
    return {**environment, **fixed, **flags}


def _failed(name: str, said: str, folder: Path) -> MealkitError:
    lines = [line.rstrip() for line in redact(said).replace(f"{folder}/", "").splitlines() if line.strip()]
    text = "\n".join(f"  {line}" for line in lines[-20:])
    if re.search(r"error sending request|Connection refused|dns error|timed out", said):
        return UnreachableError(
            f"the package index gave no answer while {name} was to be built\n{text}",
            hint="check the network, and the index that uv is set to (UV_INDEX_URL, uv.toml), then retry",
        )
    return BuildError(
        f"the wheel of {name} cannot be built from its sources\n{text}",
        hint=f"does it need a compiler or headers? A version of {name} that has wheels, or a wheel named by its file, "
        "needs neither",
    )


def _check_name(name: str, version: str, filename: str, origin: Origin) -> None:
    from packaging.utils import canonicalize_name, parse_wheel_filename
    from packaging.version import Version

    found, found_version, _, _ = parse_wheel_filename(filename)
    if found != canonicalize_name(name) or (version and found_version != Version(version)):
        raise LockError(
            f"the sources of {name} {version} build {found} {found_version}".replace("  ", " "),
            where=redact(origin.address),
            hint="lock again: mealkit lock",
        )


def _check_secrets(data: bytes, origin: Origin) -> None:
    """A folder is the author's own code, and gets the same look as the recipe's."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if secret_in(name, archive.read(name)):
                raise SecretFoundError(
                    f"a secret would be packed with a required folder: {name}",
                    where=os.path.join(origin.address, name),  # noqa: PTH118 - a place to look at, no path to open
                    hint="move it out of the package, or add it to .gitignore",
                )
