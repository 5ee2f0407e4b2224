"""Questions to apt: which packages a set needs, where they are, and their bytes; nothing of the machine is changed.

apt works in a folder of its own, with an empty list of installed packages, for any architecture, as any user. Its
settings for the network (proxies, credentials, certificates) and its keys are the machine's; its preferences are not,
because the answer shall not depend on them. Signatures of the archives are checked by apt, as always.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from mealkit.errors import BaseImageError, MealkitError, StorageError, UnreachableError, storage_error

from .pin import Pin
from .source import AptSource, no_apt

_HELPER = "/usr/lib/apt/apt-helper"
_SECONDS = 600
_URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})\Z")
_NO_NETWORK = re.compile(
    r"Could not (?:resolve|connect)|Temporary failure|Connection (?:failed|timed out|refused)|Unable to connect|"
    r"Network is unreachable|\b50[0234] "
)  # fmt: skip

_NO_PACKAGE = re.compile(
    r"Unable to locate package (\S+)|Can't find a source to download version '[^']*' of '([^':]+)|"
    r"Package '?([^' ]+)'? has no installation candidate|Version '[^']*' for '([^']*)' was not found"
)

_NO_SUITE = re.compile(r"does not have a Release file|404 +Not Found|File not found|doesn't support architecture")

_INSTALLED = """\
Package: {name}
Status: install ok installed
Architecture: {architecture}
Multi-Arch: foreign
Version: 9999:1
Provides: {name}-2.0
Description: taken for installed
"""

_SETTINGS = """\
#clear APT::Architectures;
#clear APT::Update;
#clear APT::Default-Release;
#clear DPkg;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "0";
APT::Install-Suggests "0";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::Etc::sourcelist "{folder}/mealkit.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::lists "{folder}/state/lists";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "{folder}/cache/archives";
Dir::Log "{folder}";
quiet "2";
"""


@dataclass(frozen=True)
class Apt:
    """apt in a folder of its own, with the packages of one suite and architecture known.

    Attributes:
        folder: Where its settings and state are.
        sources: Where it looks.
        architecture: In Debian's words, such as ``arm64``.
        suite: What is asked about, for errors.
        environment: The process' environment.
    """

    folder: Path
    sources: tuple[AptSource, ...]
    architecture: str
    suite: str
    environment: Mapping[str, str]

    def closure(self, packages: Sequence[str]) -> tuple[Pin, ...]:
        """All that some packages need, themselves included, by apt's own resolution; nothing is recommended.

        Raises:
            BaseImageError: there is no such package, or they do not fit together.
        """
        return self._pins(["apt-get", "install", "--yes", "--print-uris", *packages])

    def alone(self, packages: Sequence[str]) -> tuple[Pin, ...]:
        """Some packages without what they need.

        Raises:
            BaseImageError: there is no such package.
        """
        return self._pins(["apt-get", "download", "--print-uris", *packages])

    def _pins(self, command: Sequence[str]) -> tuple[Pin, ...]:
        said = self._run(command)
        found = (match for line in said.splitlines() if (match := _URI_LINE.match(line)))
        return tuple(self._pin(match) for match in found)

    def _pin(self, match: re.Match[str]) -> Pin:
        name, version, _ = match["file"].removesuffix(".deb").split("_")
        uri = match["uri"]
        for source in self.sources:
            for place in source.uris:
                if uri.startswith(place.rstrip("/") + "/"):
                    path = unquote(uri[len(place.rstrip("/")) + 1 :])
                    return Pin(name, unquote(version), self.architecture, path, int(match["size"]), match["sha256"])
        raise BaseImageError("apt names a package outside of its sources", where=uri, hint="use a plain http(s) mirror")

    def _run(self, command: Sequence[str]) -> str:
        done = run_apt(self.folder, command, self.environment)
        if done.returncode != 0:
            raise _error(done.stderr, f"deb:{self.suite}", self.architecture)
        return done.stdout


@contextlib.contextmanager
def opened_apt(
    suite: str,
    architecture: str,
    sources: Sequence[AptSource],
    environment: Mapping[str, str],
    assumed: Sequence[str] = (),
) -> Iterator[Apt]:
    """A question time with fresh indexes of a suite; packages that are ``assumed`` count as installed.

    Raises:
        BaseImageError: apt is missing, the mirror has no such suite or architecture, or a signature is wrong.
        UnreachableError: the mirror gave no answer.
        StorageError: the disk is full.
    """
    with settings_folder(sources, architecture) as folder:
        installed = "\n".join(_INSTALLED.format(name=name, architecture=architecture) for name in assumed)
        (folder / "state/status").write_text(installed, encoding="utf-8")
        done = run_apt(folder, ["apt-get", "update"], environment)
        if done.returncode != 0:
            raise _error(done.stderr, f"deb:{suite}", architecture)
        yield Apt(folder, tuple(sources), architecture, suite, environment)


@contextlib.contextmanager
def settings_folder(sources: Sequence[AptSource], architecture: str) -> Iterator[Path]:
    """A folder with apt's settings and empty state."""
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mealkit-apt-")))
            for name in ("state/lists/partial", "cache/archives/partial"):
                (folder / name).mkdir(parents=True)
            (folder / "state/status").touch()
            (folder / "mealkit.sources").write_text("\n".join(source.text() for source in sources), encoding="utf-8")
            settings = _SETTINGS.format(architecture=architecture, folder=folder)
            (folder / "apt.conf").write_text(settings, encoding="utf-8")
        except OSError as error:
            raise storage_error(error, "cannot write apt's settings") from error
        yield folder


def run_apt(folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one of apt's programs with the settings in a folder.

    Raises:
        BaseImageError: there is no apt.
        UnreachableError: it takes too long.
    """
    path = f"{environment.get('PATH', os.defpath)}:/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        return subprocess.run(
            [command[0], "-c", str(folder / "apt.conf"), *command[1:]],
            cwd=folder,
            env={**environment, "LC_ALL": "C", "PATH": path, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise no_apt() from None
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"apt took more than {_SECONDS} s", where=command[0], hint="is the mirror slow? try again"
        ) from None


def download(
    pin: Pin, target: Path, folder: Path, sources: Sequence[AptSource], environment: Mapping[str, str]
) -> None:
    """Bring a package's bytes to ``target``, by apt's own ways; its sha256 is checked by apt.

    Raises:
        BaseImageError: no source has it any more, or it has other bytes there.
        UnreachableError: a mirror gave no answer.
    """
    # Debian's security archive has its own pool; asking it first for its own saves a request.
    ordered = sorted(sources, key=lambda source: pin.file.startswith("pool/updates/") != ("security" in source.suite))
    places = dict.fromkeys(place.rstrip("/") for source in ordered for place in source.uris)
    said = ""
    for place in places:
        uri = f"{place}/{quote(pin.file)}"
        done = run_apt(folder, [_HELPER, "download-file", uri, str(target), f"SHA256:{pin.sha256}"], environment)
        if done.returncode == 0 and target.is_file() and target.stat().st_size == pin.size:
            return
        target.unlink(missing_ok=True)
        said += done.stderr
    where = f"{pin.name} {pin.version} ({pin.architecture})"
    if _NO_NETWORK.search(said):
        raise UnreachableError(
            f"a package could not be downloaded: {_last(said)}",
            where=where,
            hint="check the network and apt's settings for it, then run the same command again",
        )
    if "No space left" in said:
        raise StorageError("cannot write a package: the disk is full", where=str(target), hint="free some space")
    if "Hash Sum mismatch" in said or "unexpected size" in said:
        raise BaseImageError(
            "a pinned package has other bytes in the mirror than when it was pinned",
            where=where,
            hint="is the mirror sound? pin again (mealkit lock --upgrade) only if you trust it",
        )
    raise BaseImageError(
        "a pinned package is no longer in the mirror, which keeps only the newest version of each",
        where=where,
        hint="pin the versions of today with `mealkit lock --upgrade`, or use a mirror that keeps old ones",
    )


def _last(said: str) -> str:
    """The line of apt's words that tells most."""
    lines = [line.strip() for line in said.splitlines() if re.match(r"\s*(?:[EW]:|Err)", line)]
    telling = [line for line in lines if "index files failed" not in line] or lines
    return re.sub(r"^[EW]: ", "", telling[-1]) if telling else said.strip()[-200:] or "it says nothing"


def _error(said: str, where: str, architecture: str) -> MealkitError:
    """The error behind apt's words."""
    if "No space left" in said:
        return StorageError("apt cannot write: the disk is full", where=where, hint="free some space")
    if re.search(r"not signed|NO_PUBKEY|signatures? (?:couldn't|could not|were invalid)|EXPKEYSIG", said):
        return BaseImageError(
            f"apt does not trust the archive: {_last(said)}",
            where=where,
            hint="install the keys of that suite: the newest debian-archive-keyring has them",
        )
    missing = _NO_PACKAGE.search(said)
    if missing:
        name = next(group for group in missing.groups() if group)
        return BaseImageError(
            f"there is no package {name} for {architecture} in the suite",
            where=where,
            hint="correct [tool.mealkit.image] apt; Debian may have it in another suite, or not for this architecture",
        )
    if _NO_SUITE.search(said):
        return BaseImageError(
            f"the mirror that apt is set up with has no such suite for {architecture}",
            where=where,
            hint="name a suite of Debian that it has, such as deb:bookworm or deb:trixie",
        )
    if _NO_NETWORK.search(said) or re.search(r"[Ff]ailed to (?:fetch|download)", said):
        return UnreachableError(
            f"the mirror gave no answer: {_last(said)}",
            where=where,
            hint="check the network and apt's settings for it (apt-get update), then run the same command again",
        )
    return BaseImageError(f"apt cannot resolve the packages: {_last(said)}", where=where, hint="mend what it tells")
