"""Crash states: everything that a power cut may leave of the agent's disk, and whether the agent recovers from it.

`recording` notes what the real services do to the disk, `simulator.core.power` says what a cut at each of those moments
may leave, `life` starts the real services on it, `promises` judges, `explore` does it for one of the `scenarios`.
`bugs` are ways to get it wrong that must be found.
"""
