"""Runs a recipe: train, evaluate, score, describe; the same code in an image and on a laptop."""

from __future__ import annotations

__version__ = "0.1.0"

RECIPE_FILE = "/opt/mealkit/recipe.json"
"""Where an image holds its recipe's specification; ``MEALKIT_RECIPE`` names another file."""

__all__ = ["RECIPE_FILE", "__version__"]
