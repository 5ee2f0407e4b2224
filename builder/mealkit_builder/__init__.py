"""Builds OCI images of recipes and offers the ``mealkit`` command."""
