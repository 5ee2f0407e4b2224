"""Sources: which archives apt is set up with on this machine, and the same archives' entries for another suite."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mealkit.errors import BaseImageError

from .control import Stanza, parse_stanzas

OVERRIDE = "MEALKIT_APT_SOURCES"
"""An environment variable: a file of apt sources to take instead of the machine's own."""

_NAMES = frozenset({
    "stable", "oldstable", "oldoldstable", "testing", "unstable", "sid", "buster", "bullseye", "bookworm", "trixie",
    "forky", "duke",
})  # fmt: skip
_ROLLING = frozenset({"unstable", "sid"})
_SUFFIXES = ("", "-updates", "-security", "/updates")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)")
_SECONDS = 30


@dataclass(frozen=True)
class AptSource:
    """One entry of apt's sources.

    Attributes:
        uris: Where the archive is.
        suite: Such as ``bookworm-security``; a flat archive's ends in a slash.
        components: Such as ``main``.
        options: Further fields of the entry, such as ``signed-by``, in their order.
    """

    uris: tuple[str, ...]
    suite: str
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """The entry as a stanza of a ``.sources`` file."""
        lines = ["Types: deb", f"URIs: {' '.join(self.uris)}", f"Suites: {self.suite}"]
        if self.components:
            lines.append(f"Components: {' '.join(self.components)}")
        lines += [f"{name.title()}: {value}" for name, value in self.options]
        return "\n".join(lines) + "\n"


def apt_sources(suite: str, environment: Mapping[str, str]) -> tuple[AptSource, ...]:
    """The sources to ask for a suite of Debian.

    Those of the machine that are Debian's, with the asked suite in the place of theirs: a machine that runs bookworm
    and takes it from some mirror takes trixie from the same. ``MEALKIT_APT_SOURCES`` names a file to take as it is.

    Raises:
        BaseImageError: the machine has no apt, or no source of Debian's packages.
    """
    named = environment.get(OVERRIDE)
    if named:
        found = tuple(_read_file(Path(named), one_line=not named.endswith(".sources")))
        if not found:
            raise BaseImageError(
                "the file of apt sources names no archive",
                where=named,
                hint=f"write it as sources.list(5) tells, or unset {OVERRIDE}",
            )
        return found
    derived = derive(suite, _machine_sources(environment))
    if not derived:
        raise BaseImageError(
            "apt is not set up with a source of Debian's packages on this machine",
            where="deb:" + suite,
            hint=f"build on Debian, or name a file with sources of Debian's: {OVERRIDE}=FILE",
        )
    return derived


def derive(suite: str, sources: Iterable[AptSource]) -> tuple[AptSource, ...]:
    """The entries for a suite: those that are for it already, else those for another of Debian's, changed."""
    debians = [(one, *split) for one in sources if (split := _split(one.suite)) and "main" in one.components]
    exact = [(one, suffix) for one, base, suffix in debians if base == suite]
    found: dict[tuple[tuple[str, ...], str], AptSource] = {}
    for one, suffix in exact or [(one, suffix) for one, _, suffix in debians]:
        if suffix and suite in _ROLLING:
            continue  # they have neither updates nor a security archive of their own
        changed = replace(one, suite=suite + ("-security" if suffix == "/updates" else suffix))
        found.setdefault((changed.uris, changed.suite), changed)
    return tuple(found.values())


def _split(suite: str) -> tuple[str, str] | None:
    """``(name, suffix)`` of a suite of Debian's; None for any other, such as backports."""
    for suffix in _SUFFIXES[1:]:
        if suite.endswith(suffix) and suite.removesuffix(suffix) in _NAMES:
            return suite.removesuffix(suffix), suffix
    return (suite, "") if suite in _NAMES else None


def _machine_sources(environment: Mapping[str, str]) -> Iterator[AptSource]:
    """What apt itself would read: it is asked where its files are."""
    command = ["apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, env=dict(environment), check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise no_apt() from error
    values = dict(part.split("=", 1) for part in shlex.split(done.stdout))
    main = Path(values.get("LIST", "/etc/apt/sources.list"))
    if main.is_file():
        yield from _read_file(main, one_line=True)
    folder = Path(values.get("PARTS", "/etc/apt/sources.list.d"))
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in (".list", ".sources"):
            yield from _read_file(path, one_line=path.suffix == ".list")


def no_apt() -> BaseImageError:
    """The error of a machine without apt."""
    return BaseImageError(
        "a base deb:… needs apt, which is not on this machine",
        where="apt-get",
        hint="build on Debian, or use another base: a registry's, oci:DIR, docker:NAME or host",
    )


def _read_file(path: Path, *, one_line: bool) -> Iterator[AptSource]:
    try:
        text = path.read_text(encoding="utf-8")
        yield from _one_lines(text) if one_line else _stanzas(parse_stanzas(text))
    except OSError as error:
        raise BaseImageError(
            f"a file of apt's sources cannot be read: {error.strerror}", where=str(path), hint="mend its rights"
        ) from error
    except ValueError as error:
        raise BaseImageError(f"a file of apt's sources is damaged: {error}", where=str(path), hint="mend it") from error


def _stanzas(stanzas: Sequence[Stanza]) -> Iterator[AptSource]:
    named = ("types", "uris", "suites", "components", "architectures", "enabled")
    for stanza in stanzas:
        if stanza.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        if "deb" not in stanza.get("types", "").split() or "uris" not in stanza:
            continue
        options = tuple((name, value) for name, value in stanza.items() if name not in named)
        for suite in stanza.get("suites", "").split():
            yield AptSource(tuple(stanza["uris"].split()), suite, tuple(stanza.get("components", "").split()), options)


def _one_lines(text: str) -> Iterator[AptSource]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match is None:
            continue
        options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
        # The architecture is the image's, not the machine's.
        kept = tuple((name, value.replace(",", " ")) for name, value in options.items() if name not in ("arch", "lang"))
        yield AptSource((match["uri"],), match["suite"], tuple(match["components"].split()), kept)
