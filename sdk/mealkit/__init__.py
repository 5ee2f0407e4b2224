"""The SDK for recipe authors."""
