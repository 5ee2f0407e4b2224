"""Benchmarks: mealkit beside docker on one machine, in one run, to one registry."""
