"""SPDX 2.3: a bill of materials as its JSON."""

from __future__ import annotations

import hashlib
from typing import Any

from .bill import Bill, Component
from .image import canonical_json

_UNKNOWN = "NOASSERTION"
_PURPOSE = {
    "base": "CONTAINER",
    "python": "APPLICATION",
    "debian": "LIBRARY",
    "mealkit": "LIBRARY",
    "recipe": "APPLICATION",
    "wheel": "LIBRARY",
}


def to_spdx(bill: Bill) -> bytes:
    """The document; the same bill always gives the same bytes."""
    root = {
        "SPDXID": "SPDXRef-image",
        "name": bill.name,
        "versionInfo": bill.version or bill.digest,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "checksums": [_checksum(bill.digest.removeprefix("sha256:"))],
        "comment": f"{bill.platform}; the base's packages are {'listed' if bill.complete else 'not looked into'}",
    }
    names = {one: f"SPDXRef-{one.kind}-{hashlib.sha256(one.purl.encode()).hexdigest()[:16]}" for one in bill.components}
    base = next((name for one, name in names.items() if one.kind == "base"), "SPDXRef-image")
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")]
    for one, name in names.items():
        if one.kind == "base":
            relations.append(("SPDXRef-image", "DESCENDANT_OF", name))
        else:
            relations.append((base if one.kind in ("debian", "python") else "SPDXRef-image", "CONTAINS", name))
    return canonical_json(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": f"{bill.name}-{bill.version}" if bill.version else bill.name,
            "documentNamespace": f"urn:mealkit:spdx:{bill.digest}",
            "creationInfo": {
                "created": bill.created or "1980-01-01T00:00:00Z",
                "creators": [f"Tool: mealkit-{bill.builder}"],
            },
            "packages": [root, *(_package(one, name) for one, name in names.items())],
            "relationships": [
                {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
                for one, kind, other in relations
            ],
        }
    )


def _package(one: Component, name: str) -> dict[str, Any]:
    from .licence import is_expression

    known = bool(one.licence) and is_expression(one.licence)
    value: dict[str, Any] = {
        "SPDXID": name,
        "name": one.name,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "primaryPackagePurpose": _PURPOSE[one.kind],
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": one.licence if known else _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": one.purl}
        ],
    }
    if one.version:
        value["versionInfo"] = one.version
    if one.sha256:
        value["checksums"] = [_checksum(one.sha256)]
    if one.licence and not known:
        value["licenseComments"] = one.licence
    if one.layer:
        value["comment"] = f"layer {one.layer}"
    return value


def _checksum(sha256: str) -> dict[str, str]:
    return {"algorithm": "SHA256", "checksumValue": sha256}
