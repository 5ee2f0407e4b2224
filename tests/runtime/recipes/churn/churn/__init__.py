"""A recipe for tests: customers' events, a look-up table, and ways to misbehave."""
