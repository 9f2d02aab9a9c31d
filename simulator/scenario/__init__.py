"""Scenarios: a fleet, what its operator does, what goes wrong, and how it has to end. `document` is a file's shape."""

MODEL = "simulated"
SLOT = "main"
