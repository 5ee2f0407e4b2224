"""dpkg: the distribution's packages in a base, read from the status that dpkg, or a distroless image, keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import BinaryIO

from .bill import Debian
from .image import Image
from .store import Store
from .tar_reader import BadLayer, read_layer

_STATUS = "/var/lib/dpkg/status"
_STATUS_FOLDER = "/var/lib/dpkg/status.d/"
_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_LONGEST = 64 << 20  # bytes; a whole distribution's status has some ten million
_FACTS = 1  # the version of what is remembered


def base_packages(
    image: Image, digest: str, open_layer: Callable[[str], BinaryIO], store: Store
) -> tuple[Debian, ...] | None:
    """The packages in a base's layers; remembered by the base's digest, since every layer must be read once.

    Returns:
        None where the layers cannot be read or have no such status.
    """
    known = store.read_fact("dpkg", f"{_FACTS}-{digest}")
    if isinstance(known, dict):
        told = known["packages"]
        return None if told is None else tuple(Debian(**one) for one in told)
    found = _read_layers(image, open_layer)
    told = None if found is None else [asdict(one) for one in found]
    store.write_fact("dpkg", f"{_FACTS}-{digest}", {"packages": told})
    return found


def parse_status(text: str, release: str = "") -> tuple[Debian, ...]:
    """The installed packages of a dpkg status, sorted; ``release`` is the text of ``os-release``."""
    told = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', release, re.MULTILINE))
    found = set()
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Package|Version|Architecture|Status): *(.*)$", paragraph, re.MULTILINE))
        installed = fields.get("Status", "install ok installed").endswith(" installed")
        if installed and {"Package", "Version", "Architecture"} <= fields.keys():
            found.add((fields["Package"], fields["Version"], fields["Architecture"]))
    name, version = told.get("ID") or "debian", told.get("VERSION_ID") or ""
    return tuple(Debian(*one, distribution=name, release=version) for one in sorted(found))


def _read_layers(image: Image, open_layer: Callable[[str], BinaryIO]) -> tuple[Debian, ...] | None:
    files: dict[str, str] = {}
    for layer in image.layers:
        try:
            with open_layer(layer.digest) as file:
                for member in read_layer(file, layer):
                    path = "/" + "/".join(member.parts)
                    wanted = path in (_STATUS, *_RELEASE) or _is_status(path)
                    if wanted and member.info.isreg() and member.info.size <= _LONGEST and not member.removes:
                        files[path] = b"".join(member.blocks()).decode(errors="replace")
        except BadLayer:
            return None
    status = [text for path, text in sorted(files.items()) if path == _STATUS or _is_status(path)]
    release = next((files[path] for path in _RELEASE if path in files), "")
    return parse_status("\n\n".join(status), release) if status else None


def _is_status(path: str) -> bool:
    """Whether a file is one package's status in a distroless image."""
    return path.startswith(_STATUS_FOLDER) and not path.endswith(".md5sums")
