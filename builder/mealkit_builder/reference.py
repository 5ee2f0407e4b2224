"""References: how users name an image or a repository, and where that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mealkit._value import dataclass, replace
from mealkit.errors import UsageError

from .digest import is_digest

DOCKER_HUB = "docker.io"

# The grammar of the OCI distribution specification, "Pulling manifests".
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::[0-9]{{1,5}})?\Z")
_SUITE = re.compile(r"[a-z][a-z0-9-]{0,40}\Z")
_HUB_ALIASES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True)
class Reference:
    """A repository of a registry and, in it, a tag or a digest (or both; then the digest decides).

    Attributes:
        host: ``host[:port]``; Docker Hub is ``docker.io``.
        repository: The path in the registry, such as ``team/recipe``.
        tag: A name for an image, or empty.
        digest: ``sha256:HEX``, or empty.
    """

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """The repository without tag and digest: ``host/repository``."""
        return f"{self.host}/{self.repository}"

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    @property
    def api_host(self) -> str:
        """The host that answers: Docker Hub's differs from its name."""
        return "registry-1.docker.io" if self.host == DOCKER_HUB else self.host

    def at(self, digest: str) -> Reference:
        """This repository's image of a digest."""
        return replace(self, tag="", digest=digest)


@dataclass(frozen=True)
class LayoutLocation:
    """An OCI image layout folder, and in it a tag, a digest, or neither: ``oci:DIR[:TAG|@DIGEST]``."""

    folder: Path
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        # A folder whose name has a colon reads as one with a tag, unless a slash ends it.
        end = "/" if ":" in self.folder.name and not self.tag and not self.digest else ""
        return (
            f"oci:{self.folder}{end}"
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )

    @property
    def target(self) -> str:
        """What to look for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"


@dataclass(frozen=True)
class EngineLocation:
    """An image in the local container engine: ``docker:NAME``."""

    image: str

    def __str__(self) -> str:
        return f"docker:{self.image}"


@dataclass(frozen=True)
class HostLocation:
    """This machine itself, as a base: ``host``."""

    def __str__(self) -> str:
        return "host"


@dataclass(frozen=True)
class DebianLocation:
    """A base made of Debian's packages: ``deb:SUITE``."""

    suite: str

    def __str__(self) -> str:
        return f"deb:{self.suite}"


Location = Reference | LayoutLocation | EngineLocation | HostLocation | DebianLocation


def parse_reference(text: str) -> Reference:
    """``host[:port]/repository[:tag][@sha256:…]`` as a :class:`Reference`.

    A name without a host is one of Docker Hub, as for ``docker pull``: ``python:3.12-slim`` is
    ``docker.io/library/python:3.12-slim``.

    Raises:
        UsageError: it is not such a name; the message says which part is wrong.
    """
    if "://" in text:
        raise UsageError(
            f"{text!r} is a URL, not an image name",
            where=text,
            hint=f"write {text.split('://', 1)[1] or 'host/repository'} (http is used for this machine and for the "
            "hosts in MEALKIT_INSECURE_REGISTRIES)",
        )
    rest, _, digest = text.partition("@")
    if "@" in text and not is_digest(digest):
        raise UsageError(
            f"{digest!r} is not a digest", where=text, hint="a digest is sha256: and 64 lower-case hexadecimal figures"
        )
    rest, tag = _split_tag(rest)
    if tag is not None and not _TAG.match(tag):
        raise UsageError(
            f"{tag!r} is not a tag",
            where=text,
            hint="a tag has at most 128 letters, figures, '_', '.' and '-', and starts with no '.' or '-'",
        )
    host, slash, repository = rest.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, repository = DOCKER_HUB, rest
    if not _HOST.match(host):
        raise UsageError(f"{host!r} is not a host", where=text, hint="write host[:port]/repository[:tag]")
    host = host.lower()
    if host in _HUB_ALIASES:
        host = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if not _REPOSITORY.match(repository) or len(repository) > 255:
        raise UsageError(
            f"{repository!r} is not a repository",
            where=text,
            hint="a repository has lower-case letters and figures, single '.', '_' or '-' between them, and '/'",
        )
    return Reference(host, repository, tag or "", digest)


def parse_location(text: str) -> Location:
    """Tell apart ``oci:DIR[:TAG|@DIGEST]``, ``docker:NAME``, ``deb:SUITE``, ``host`` and a registry's reference.

    In ``oci:DIR:TAG`` the last colon splits, unless what follows could not be a tag.

    Raises:
        UsageError: it is none of them.
    """
    text = text.strip()
    if text == "host":
        return HostLocation()
    if text.startswith("docker:"):
        image = text.removeprefix("docker:")
        if not image or image.startswith("//"):
            raise UsageError(
                f"{text!r} names no image",
                where=text,
                hint="docker:NAME is an image in the local engine; a registry's is host/repository",
            )
        return EngineLocation(image)
    if text.startswith("oci:"):
        return _layout(text)
    if text.startswith("deb:"):
        suite = text.removeprefix("deb:")
        if not _SUITE.match(suite):
            raise UsageError(
                f"{suite!r} is not a suite of Debian",
                where=text,
                hint="write deb:SUITE, such as deb:bookworm; an image of a registry's is debian:bookworm",
            )
        return DebianLocation(suite)
    if not text:
        raise UsageError("an empty image name", hint="write host/repository[:tag], oci:DIR, docker:NAME or host")
    return parse_reference(text)


def _layout(text: str) -> LayoutLocation:
    rest = text.removeprefix("oci:")
    folder, at, digest = rest.rpartition("@")
    if at and is_digest(digest):
        rest, tag = folder, ""
    else:
        digest = ""
        folder, colon, tag = rest.rpartition(":")
        if colon and _TAG.match(tag):
            rest = folder
        else:
            tag = ""
    if not rest or rest.startswith("//") or "\0" in rest:
        raise UsageError(f"{text!r} names no folder", where=text, hint="write oci:DIR, oci:DIR:TAG or oci:DIR@sha256:…")
    return LayoutLocation(Path(rest), tag, digest)


def _split_tag(text: str) -> tuple[str, str | None]:
    """``(name, tag)``: a colon before the last slash belongs to a port."""
    head, slash, tail = text.rpartition("/")
    name, colon, tag = tail.partition(":")
    return (head + slash + name, tag) if colon else (text, None)


def uses_http(host: str, environment: Mapping[str, str]) -> bool:
    """Whether a registry is spoken to without TLS.

    It is for this machine's own addresses, and for the hosts (with or without a port) that
    ``MEALKIT_INSECURE_REGISTRIES`` lists, separated by commas.
    """
    bare = host.rsplit(":", 1)[0] if re.search(r":[0-9]+\Z", host) else host
    if bare in ("localhost", "[::1]") or re.fullmatch(r"127\.[0-9]+\.[0-9]+\.[0-9]+", bare):
        return True
    listed = {part.strip().lower() for part in environment.get("MEALKIT_INSECURE_REGISTRIES", "").split(",")}
    return host.lower() in listed or bare.lower() in listed
