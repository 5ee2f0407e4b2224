"""The sample recipe's own layers, to the byte, on every machine and Python.

A change of these digests means that every image of everybody changes: write it down in docs/decisions, and raise the
number in the layers' keys (``ingredient._tree``).
"""

from __future__ import annotations

from pathlib import Path

from mealkit.project import read_project
from mealkit_builder.ingredient import recipe_ingredients
from mealkit_builder.store import Store

SAMPLE = Path(__file__).parents[2] / "sample_recipe"

GOLDEN = {
    "propensity/data.py": (
        "sha256:afd0a818435a7d5902b9acc77dbfb1f355faf12428b88ab7faa8efa09bbf8b95",
        "sha256:9e388610f42f5a545e17819eb7ed114808a443e5bcd26addf7ccf8a557b72b4a",
    ),
    "propensity/model.py": (
        "sha256:c459f81d1c89d35e73b97bbd46279ee7ffe8b557e0b096accdd1706c4a65eafe",
        "sha256:d1d1ca5f7933876e051f84c84fe45c2f792c4f765292196c1f5240838deb2db9",
    ),
    "propensity/settings.py": (
        "sha256:86744df2eee56ce732c656776aa3e57328be17e3ab1b83f18681873efbbc01c8",
        "sha256:6b5196668c98505f31ca34dcacd0ab80ab34abb2f3775a201fa21e6130091e58",
    ),
    "propensity/simulate.py": (
        "sha256:10471da2fb4b338d38240b97b51e5ac2b816be6ea973ac770528f51643ae3895",
        "sha256:95f1b728848255f6578b26d0488097525bd704db7df6a12dea68df49a7cf9e3c",
    ),
    "purchase-propensity 1.2.0": (
        "sha256:9e80f09e094e9596e4f3f45e1a632aacac8e8ceaa251b6fe0df860603988742d",
        "sha256:b32dee5c6e15932aaa780502c54f51d16a7ca18945a6d299520e9994e399daa5",
    ),
}


def test_the_samples_layers_are_golden(tmp_path: Path) -> None:
    """Without bytecode, which one exact interpreter decides over; ``tests/road`` has that too."""
    store = Store(tmp_path)
    layers = [one.make(()) for one in recipe_ingredients(read_project(SAMPLE), "{}", "3.12", None, store)]
    assert {layer.title: (layer.digest, layer.diff_id) for layer in layers} == GOLDEN
