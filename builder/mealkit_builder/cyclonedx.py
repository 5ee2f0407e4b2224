"""CycloneDX 1.6: a bill of materials as its JSON, and back."""

from __future__ import annotations

import uuid
from typing import Any, cast, get_args

from .bill import Bill, Component, Kind
from .dsse import Malformed, load_object
from .image import canonical_json

SPEC = "1.6"
_LAYER, _KIND, _PLATFORM = "io.mealkit:layer", "io.mealkit:kind", "io.mealkit:platform"
_COMPLETE = "io.mealkit:base-packages"
_TYPES = {
    "base": "container",
    "python": "platform",
    "debian": "library",
    "mealkit": "library",
    "recipe": "application",
    "wheel": "library",
}


def to_cyclonedx(bill: Bill) -> bytes:
    """The document; the same bill always gives the same bytes."""
    root = f"image:{bill.digest}"
    components = [_component(one) for one in bill.components]
    references = [str(one["bom-ref"]) for one in components]
    metadata: dict[str, Any] = {
        "tools": {"components": [{"type": "application", "name": "mealkit", "version": bill.builder}]},
        "component": {
            "type": "container",
            "bom-ref": root,
            "name": bill.name,
            "version": bill.version,
            "hashes": [{"alg": "SHA-256", "content": bill.digest.removeprefix("sha256:")}],
            "properties": [
                {"name": _PLATFORM, "value": bill.platform},
                {"name": _COMPLETE, "value": "listed" if bill.complete else "not looked into"},
            ],
        },
    }
    if bill.created:
        metadata["timestamp"] = bill.created
    return canonical_json(
        {
            "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": SPEC,
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, root)}",
            "version": 1,
            "metadata": metadata,
            "components": components,
            "dependencies": [{"ref": root, "dependsOn": references}],
        }
    )


def from_cyclonedx(data: bytes) -> Bill:
    """The bill that :func:`to_cyclonedx` wrote.

    Raises:
        Malformed: it is no CycloneDX, or somebody else's.
    """
    document = load_object(data, "SBOM")
    try:
        metadata = document["metadata"]
        root = metadata["component"]
        told = _properties(root)
        return Bill(
            name=root["name"],
            version=root["version"],
            digest="sha256:" + root["hashes"][0]["content"],
            platform=told[_PLATFORM],
            created=metadata.get("timestamp") or "",
            builder=metadata["tools"]["components"][0]["version"],
            components=tuple(_read(one) for one in document["components"]),
            complete=told[_COMPLETE] == "listed",
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise Malformed("the SBOM was not made by mealkit") from error


def _component(one: Component) -> dict[str, Any]:
    properties = [(_KIND, one.kind), (_LAYER, one.layer)]
    value: dict[str, Any] = {
        "type": _TYPES[one.kind],
        "bom-ref": f"{one.kind}:{one.purl}",
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
        "properties": [{"name": name, "value": text} for name, text in properties if text],
    }
    if one.sha256:
        value["hashes"] = [{"alg": "SHA-256", "content": one.sha256}]
    if one.licence:
        from .licence import is_expression

        name = {"license": {"name": one.licence}}
        value["licenses"] = [{"expression": one.licence} if is_expression(one.licence) else name]
    return value


def _read(value: dict[str, Any]) -> Component:
    told = _properties(value)
    if told[_KIND] not in get_args(Kind):
        raise KeyError(_KIND)
    licences = value.get("licenses") or [{}]
    return Component(
        kind=cast("Kind", told[_KIND]),
        name=value["name"],
        version=value["version"],
        purl=value["purl"],
        sha256=value["hashes"][0]["content"] if value.get("hashes") else "",
        licence=licences[0].get("expression") or licences[0].get("license", {}).get("name") or "",
        layer=told.get(_LAYER, ""),
    )


def _properties(value: dict[str, Any]) -> dict[str, str]:
    return {str(one["name"]): str(one["value"]) for one in value.get("properties", ())}
