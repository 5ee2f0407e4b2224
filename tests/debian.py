"""A tiny Debian for tests: packages of a few bytes in an archive on this disk, that apt itself resolves and fetches."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Content = bytes | str | tuple[str, str] | None
"""A file's bytes; a symbolic link's target; ``("hard", path)``; None: a folder."""


def tar(entries: Mapping[str, Content], modes: Mapping[str, int] | None = None) -> bytes:
    """A tar archive as dpkg-deb makes it: GNU format, names with ``./``, folders before what is in them."""
    modes = modes or {}
    names = {"."} | set(entries)
    for name in entries:
        parts = name.split("/")[:-1]
        names |= {"/".join(parts[: end + 1]) for end in range(len(parts))}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(names, key=lambda name: (name != ".", isinstance(entries.get(name), tuple), name)):
            content = entries.get(name)
            info = tarfile.TarInfo("./" if name == "." else f"./{name}")
            info.mode = modes.get(name, 0o755 if content is None else 0o644)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, content, 0o777
            elif isinstance(content, tuple):
                info.type, info.linkname = tarfile.LNKTYPE, f"./{content[1]}"
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return raw.getvalue()


def ar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """An ar archive."""
    made = b"!<arch>\n"
    for name, data in members:
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return made


def control_text(name: str, version: str, architecture: str, **fields: str) -> str:
    """The control file of a package."""
    lines = {"Package": name, "Version": version, "Architecture": architecture, "Maintainer": "Ada <ada@example.com>"}
    lines |= {key.replace("_", "-"): value for key, value in fields.items()}
    return "".join(f"{key}: {value}\n" for key, value in lines.items()) + "Description: a package for tests\n of ours\n"


def deb(control: str, data: bytes, *, compress: str = "xz", md5sums: str = "") -> bytes:
    """A package of a control text and a tar archive."""
    packs = {"xz": lzma.compress, "gz": lambda raw: gzip.compress(raw, mtime=0), "": lambda raw: raw}
    ending = f".{compress}" if compress else ""
    inner = tar({"control": control.encode(), **({"md5sums": md5sums.encode()} if md5sums else {})})
    pack = packs[compress]
    return ar([("debian-binary", b"2.0\n"), (f"control.tar{ending}", pack(inner)), (f"data.tar{ending}", pack(data))])


def package(
    name: str,
    files: Mapping[str, Content],
    *,
    version: str = "1.0",
    architecture: str = "amd64",
    modes: Mapping[str, int] | None = None,
    compress: str = "xz",
    **fields: str,
) -> bytes:
    """A package with files, their checksums and further control fields (``Pre_Depends`` for ``Pre-Depends``)."""
    sums = "".join(
        f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {path}\n"
        for path, data in sorted(files.items())
        if isinstance(data, bytes)
    )
    text = control_text(name, version, architecture, **fields)
    return deb(text, tar(files, modes), compress=compress, md5sums=sums)


LIBC = b"\x7fELF GNU C Library (tests) stable release version 2.40.\n"

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


def essential(architecture: str, python: str = "3.11.9-1") -> dict[str, bytes]:
    """The packages that a base is made of, as small as they can be."""
    minor = python.rpartition(".")[0]
    host = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf",
            "s390x": "s390x-linux-gnu", "ppc64el": "powerpc64le-linux-gnu"}[architecture]  # fmt: skip

    def one(name: str, files: Mapping[str, Content], **fields: str) -> bytes:
        return package(name, files, architecture=architecture, **fields)

    return {
        "base-files": package(
            "base-files", {"etc/debian_version": b"99\n", "tmp": None, "root": None, "bin": None, "var/local": None,
                           "usr/share/doc/base-files/copyright": b"free\n",
                           "usr/share/doc/base-files/README": b"read\n",
                           "usr/share/base-files/nsswitch.conf": b"hosts: files dns\n"},
            architecture=architecture, modes={"tmp": 0o1777, "root": 0o700, "var/local": 0o2775}, Depends="awk",
        ),
        "base-passwd": one("base-passwd", {"usr/share/base-passwd/passwd.master": b"root:*:0:0:root:/root:/bin/sh\n",
                                           "usr/share/base-passwd/group.master": b"root:*:0:\n"}),
        "ca-certificates": package(
            "ca-certificates", {"usr/share/ca-certificates/mozilla/B.crt": CERTIFICATE,
                                "usr/share/ca-certificates/mozilla/A.crt": CERTIFICATE + b"\n"},
            architecture="all", Depends="openssl, debconf",
        ),
        "coreutils": package(
            "coreutils", {"bin/cat": b"cat", "bin/su": b"su", "usr/share/man/man1/cat.1.gz": b"manual"},
            architecture=architecture, modes={"bin/cat": 0o755, "bin/su": 0o4755}, Pre_Depends="libc6, dpkg",
        ),
        "dash": package("dash", {"bin/dash": b"dash", "bin/sh": "dash"}, architecture=architecture,
                        modes={"bin/dash": 0o755}, Depends="debianutils"),
        "libc-bin": one("libc-bin", {"usr/lib/locale/C.utf8/LC_CTYPE": b"ctype"}, Depends="libc6"),
        "libc6": one("libc6", {f"lib/{host}/libc.so.6": LIBC, "lib64/ld.so": f"/lib/{host}/libc.so.6"},
                     version="2.40-3", Multi_Arch="same"),
        "libgomp1": one("libgomp1", {f"usr/lib/{host}/libgomp.so.1": b"gomp"}, Depends="libc6"),
        "libstdc++6": one("libstdc++6", {f"usr/lib/{host}/libstdc++.so.6": b"c++"}, Depends="libc6"),
        "libpython3-stdlib": one("libpython3-stdlib", {"usr/share/doc/libpython3-stdlib/copyright": b"free\n"},
                                 Depends=f"libpython{minor}-stdlib"),
        f"libpython{minor}-stdlib": package(
            f"libpython{minor}-stdlib",
            {f"usr/lib/python{minor}/os.py": b"linesep = '\\n'\n", f"usr/lib/python{minor}/json/tool.py": b"x = 1\n",
             f"usr/lib/python{minor}/_sysconfigdata__{host}.py": f"HOST = {host!r}\n".encode()},
            architecture=architecture, version=python, Depends="libc6",
        ),
        f"python{minor}-minimal": package(
            f"python{minor}-minimal", {f"usr/bin/python{minor}": b"python",
                                       f"usr/bin/perl{minor}": ("hard", f"usr/bin/python{minor}")},
            architecture=architecture, version=python, modes={f"usr/bin/python{minor}": 0o755}, Depends="libc6",
        ),
        "python3-minimal": package("python3-minimal", {"usr/bin/python3": f"python{minor}"},
                                   architecture=architecture, version=python, Depends="dpkg"),
        "netbase": package("netbase", {"etc/services": b"http 80/tcp\n"}, architecture="all"),
        "tzdata": package("tzdata", {"usr/share/zoneinfo/Etc/UTC": b"TZif", "usr/share/zoneinfo/right/UTC": b"TZif"},
                          architecture="all", Depends="debconf (>= 0.5) | debconf-2.0"),
    }  # fmt: skip


@dataclass
class MiniDebian:
    """An archive on this disk, and the file of apt sources that names it.

    Attributes:
        folder: Where it is.
        suite: Its one suite.
        packages: By architecture and name.
    """

    folder: Path
    suite: str = "mini"
    packages: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def sources(self) -> Path:
        """The file that ``MEALKIT_APT_SOURCES`` names."""
        return self.folder / "mini.sources"

    def publish(self) -> None:
        """Write the pool, the indexes and the sources; what was there before is gone."""
        top = self.folder / "archive"
        release = []
        for old in top.glob("pool/*.deb"):
            old.unlink()
        (top / "pool").mkdir(parents=True, exist_ok=True)
        for architecture, packages in self.packages.items():
            stanzas = []
            for name, data in packages.items():
                control = control_of(data)
                version, own = control["Version"], control["Architecture"]
                path = f"pool/{name}_{version.replace(':', '%3a')}_{own}.deb"
                (top / path).write_bytes(data)
                lines = "".join(f"{key}: {value}\n" for key, value in control.items())
                stanzas.append(
                    f"{lines}Filename: {path}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
                )
            index = "\n".join(stanzas).encode()
            relative = f"main/binary-{architecture}/Packages"
            file = top / "dists" / self.suite / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(index)
            release.append(f" {hashlib.sha256(index).hexdigest()} {len(index)} {relative}")
        head = {"Origin": "Tests", "Suite": self.suite, "Codename": self.suite, "Components": "main",
                "Architectures": " ".join(self.packages), "Date": "Thu, 01 Jan 2026 00:00:00 UTC"}  # fmt: skip
        lines = [*(f"{key}: {value}" for key, value in head.items()), "SHA256:", *release]
        (top / "dists" / self.suite / "Release").write_text("\n".join(lines) + "\n")
        self.sources.write_text(f"Types: deb\nURIs: file:{top}\nSuites: {self.suite}\nComponents: main\nTrusted: yes\n")


def control_of(data: bytes) -> dict[str, str]:
    """The control fields of a package made here, for an index."""
    start = data.index(b"control.tar") + 60
    size = int(data[start - 12 : start - 2])
    ending = data[start - 60 : start - 44].decode().strip().rpartition(".tar")[2]
    raw = data[start : start + size]
    plain = {".xz": lzma.decompress, ".gz": gzip.decompress, "": lambda raw: raw}[ending](raw)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        file = archive.extractfile("./control")
        assert file is not None
        text = file.read().decode()
    return dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(" "))


def mini_debian(folder: Path, architectures: Sequence[str] = ("amd64",)) -> MiniDebian:
    """An archive with the packages of a base."""
    made = MiniDebian(folder, packages={name: essential(name) for name in architectures})
    made.publish()
    return made
