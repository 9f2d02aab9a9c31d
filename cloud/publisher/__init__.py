"""The publisher: a process of its own with keys that the hub never sees. It signs what its policy or a person approves.

It trusts nothing the hub says beyond what it can check against the release itself, and imports nothing of the hub.
"""
