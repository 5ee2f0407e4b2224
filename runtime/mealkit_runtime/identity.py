"""What a training is made of: unfinished work is gone on with by a run of the same identity only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

_SAID = {
    "recipe.version": "the recipe's version",
    "recipe.spec_digest": "the recipe's specification",
    "recipe.name": "the recipe",
    "image": "the image",
    "seed": "the seed",
    "warm_start": "the earlier model to start from",
    "data.input": "the content of the input dataset",
    "data.validation": "the content of the validation dataset",
}


def digest(value: object) -> str:
    """``sha256:HEX`` of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, in words, with both values."""
    told = []
    for key, before, after in _leaves(then, now, ""):
        if before == after or (key == "image" and None in (before, after)):
            continue  # outside of images nobody knows which one it would be
        place, _, name = key.partition(".")
        what = _SAID.get(key) or {
            "hyperparameters": f"the hyperparameter {name}",
            "data": f"the content of the dataset {name}",
        }.get(place, key)
        told.append(f"{what} ({_short(before)} then, {_short(after)} now)")
    return told


def _leaves(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys((*then, *now)):
        before, after = then.get(key), now.get(key)
        if not prefix and isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _leaves(before, after, f"{key}.")
        else:
            yield f"{prefix}{key}", before, after


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
