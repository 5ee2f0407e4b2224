"""Runs a recipe: train, evaluate, score, describe."""
