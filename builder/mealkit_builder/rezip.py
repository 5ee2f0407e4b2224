"""A built wheel written once more, by a fixed rule, so that the same files make the same archive everywhere.

========== =====================================================================================
field      value
========== =====================================================================================
order      by name as bytes; the ``.dist-info`` folder last, RECORD at its end
content    stored, not deflated: no version of zlib has a say
time       1980-01-01T00:00:00
mode       0644, or 0755 for what may be executed
left out   folders, bytecode, the backend's RECORD and signatures of it
WHEEL      its ``Generator`` is mealkit: the backend's version says nothing about the files
RECORD     made anew, sorted
========== =====================================================================================
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from pathlib import Path

_NOT_KEPT = ("RECORD", "RECORD.jws", "RECORD.p7s")
_TIME = (1980, 1, 1, 0, 0, 0)


def canonical_wheel(path: Path) -> bytes:
    """The wheel at ``path`` as this module's rule has it.

    Raises:
        ValueError: it is no wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            files = {info.filename: archive.read(info) for info in infos}
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error
    executable = {info.filename for info in infos if (info.external_attr >> 16) & 0o111}
    folders = {name.partition("/")[0] for name in files if name.partition("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise ValueError(f"it has {len(folders)} .dist-info folders instead of one")
    folder = folders.pop()
    kept = {
        name: _generator(data) if name == f"{folder}/WHEEL" else data
        for name, data in files.items()
        if name not in {f"{folder}/{one}" for one in _NOT_KEPT} and "__pycache__" not in name.split("/")
    }
    ordered = sorted(kept, key=lambda name: (name.startswith(f"{folder}/"), name.encode()))
    record = io.StringIO(newline="")
    rows = csv.writer(record, lineterminator="\n")
    rows.writerows((name, _hash(kept[name]), len(kept[name])) for name in ordered)
    rows.writerow((f"{folder}/RECORD", "", ""))
    kept[f"{folder}/RECORD"] = record.getvalue().encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in (*ordered, f"{folder}/RECORD"):
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system = 3
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(info, kept[name])
    return made.getvalue()


def _generator(data: bytes) -> bytes:
    return re.sub(rb"(?mi)^Generator:[^\r\n]*", b"Generator: mealkit", data)


def _hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
