"""The machine's apt sources, read as apt reads them, and changed for another suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mealkit.errors import BaseImageError
from mealkit_builder.debian.source import OVERRIDE, AptSource, apt_sources, derive

STANZAS = """\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Architectures: amd64

Types: deb
Enabled: no
URIs: http://off.example/
Suites: bookworm
Components: main

Types: deb
URIs: http://other.example/tool
Suites: nodistro
Components: main
"""

LINES = """\
deb http://mirror.example/debian stable main # the mirror
deb [arch=amd64,i386 signed-by=/k.gpg trusted=yes] http://mirror.example/security stable/updates main
deb-src http://mirror.example/debian stable main
# deb http://off.example stable main
deb http://flat.example ./
"""


def machine(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """An environment in which apt's configuration is that of a machine with these files of sources."""
    parts = folder / "parts"
    parts.mkdir()
    for name, text in files.items():
        (parts / name).write_text(text)
    config = folder / "apt.conf"
    config.write_text(f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "{parts}";\n')
    return {"PATH": os.environ["PATH"], "APT_CONFIG": str(config)}


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_stanzas(tmp_path: Path, suite: str) -> None:
    environment = machine(tmp_path, {"debian.sources": STANZAS, "old.list.disabled": "deb http://x bookworm main"})
    found = apt_sources(suite, environment)
    assert [(one.uris, one.suite) for one in found] == [
        (("http://mirror.example/debian",), suite),
        (("http://mirror.example/debian",), f"{suite}-updates"),
        (("http://mirror.example/security",), f"{suite}-security"),
    ]
    assert found[0].components == ("main", "contrib")
    assert "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc" in found[0].text()
    assert found[2].options == ()  # the architecture is the image's


def test_lines(tmp_path: Path) -> None:
    environment = machine(tmp_path, {})
    (tmp_path / "sources.list").write_text(LINES)
    found = apt_sources("trixie", environment)
    assert [(one.uris[0], one.suite) for one in found] == [
        ("http://mirror.example/debian", "trixie"),
        ("http://mirror.example/security", "trixie-security"),
    ]
    assert found[1].options == (("signed-by", "/k.gpg"), ("trusted", "yes"))


def test_the_asked_suite_itself_wins() -> None:
    both = [AptSource(("a",), "bookworm", ("main",)), AptSource(("b",), "trixie", ("main",))]
    assert [one.uris for one in derive("trixie", both)] == [("b",)]
    assert [one.uris for one in derive("forky", both)] == [("a",), ("b",)]
    updates = [AptSource(("a",), "bookworm", ("main",)), AptSource(("a",), "bookworm-updates", ("main",))]
    assert [one.suite for one in derive("sid", updates)] == ["sid"]


def test_no_debian(tmp_path: Path) -> None:
    environment = machine(tmp_path, {"noble.sources": STANZAS.replace("bookworm", "noble")})
    with pytest.raises(BaseImageError, match="not set up with a source of Debian") as caught:
        apt_sources("bookworm", environment)
    assert OVERRIDE in str(caught.value.hint)


def test_no_apt(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="needs apt") as caught:
        apt_sources("bookworm", {"PATH": str(tmp_path)})
    assert "host" in str(caught.value.hint)


def test_named_file(tmp_path: Path) -> None:
    file = tmp_path / "own.sources"
    file.write_text(STANZAS)
    found = apt_sources("anything", {OVERRIDE: str(file), "PATH": ""})
    assert [one.suite for one in found][-1] == "nodistro"
    for text, said in (("", "names no archive"), ("no field\n", "damaged")):
        file.write_text(text)
        with pytest.raises(BaseImageError, match=said):
            apt_sources("anything", {OVERRIDE: str(file)})
    with pytest.raises(BaseImageError, match="cannot be read"):
        apt_sources("anything", {OVERRIDE: str(tmp_path / "none.sources")})
