"""Mode ``describe``: the recipe's specification as text, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mealkit.spec import RecipeSpec


def describe(spec: RecipeSpec) -> str:
    """What the recipe is, takes and gives."""
    lines = [f"{spec.name} {spec.version}  ({spec.kind})"]
    if spec.summary:
        lines.append(spec.summary)
    lines += ["", f"modes     {', '.join(spec.modes)}"]
    if spec.target:
        lines.append(f"target    {spec.target}")
    if spec.keys:
        lines.append(f"keys      {', '.join(spec.keys)}")
    if spec.time:
        lines.append(f"time      {spec.time}")
    if spec.metrics:
        lines.append("metrics   " + ", ".join(f"{name} ({way})" for name, way in spec.metrics.items()))
    if spec.resources:
        lines.append("wants     " + ", ".join(f"{name} {value}" for name, value in spec.resources.items()))
    lines += _section("hyperparameters", spec.hyperparameters, defaults=True)
    lines += _section("input columns", spec.input)
    for name, schema in spec.input_schemas.items():
        lines += _section(f"input {name!r} columns", schema)
    lines += _section("output columns", spec.output)
    lines += ["", f"made with mealkit {spec.mealkit}; spec {spec.digest[:19]}"]
    return "\n".join(lines)


def _section(title: str, schema: Mapping[str, Any] | None, *, defaults: bool = False) -> list[str]:
    properties = (schema or {}).get("properties", {})
    if not properties:
        return []
    width = max(map(len, properties))
    lines = ["", f"{title}:"]
    for name, facts in properties.items():
        text = f"  {name:<{width}}  {_type(facts, schema or {})}"
        if defaults and "default" in facts:
            text += f", default {facts['default']!r}"
        lines.append(text + (f"  – {facts['description']}" if "description" in facts else ""))
    return lines


_LIMITS = (
    ("minimum", "≥"),
    ("exclusiveMinimum", ">"),
    ("maximum", "≤"),
    ("exclusiveMaximum", "<"),
    ("pattern", "matches"),
    ("minLength", "length ≥"),
    ("maxLength", "length ≤"),
)


def _type(facts: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "$ref" in facts:
        facts = root.get("$defs", {}).get(facts["$ref"].rpartition("/")[2], {})
    if "anyOf" in facts:
        return " or ".join("missing" if one.get("type") == "null" else _type(one, root) for one in facts["anyOf"])
    if "enum" in facts:
        return "one of " + ", ".join(map(str, facts["enum"]))
    if "const" in facts:
        return f"always {facts['const']}"
    name = str(facts.get("format") or facts.get("type", "any"))
    limits = [f"{sign} {facts[key]}" for key, sign in _LIMITS if key in facts]
    return ", ".join([name, *limits])
