"""The trace of a run as one digest: two runs that differ anywhere in what happened, when or in which order differ here.

Only integers, text and wire bytes go in: floats of numeric libraries would tie the digest to a machine.
"""

import hashlib
from collections.abc import Callable
from typing import Final

TOGETHER: Final = 500
"""Events that are folded in at once: hashing each by itself costs several times as much."""


class Trace:
    """Folds every event into a SHA-256. `watch`, if set, sees each one: that is how the first difference is found."""

    def __init__(self) -> None:
        self.count = 0
        self.watch: Callable[[str], None] | None = None
        self._hash = hashlib.sha256()
        self._lines: list[str] = []
        self._payloads: list[bytes] = []

    def note(self, at_ns: int, kind: str, who: str, what: str = "", payload: bytes = b"") -> None:
        """One event: when, what kind, of which program, about what (a topic, a path), and its bytes."""
        self.count += 1
        line = f"{at_ns} {kind} {who} {what} {len(payload)}\n"
        self._lines.append(line)
        if payload:
            self._payloads.append(payload)
        if len(self._lines) == TOGETHER:
            self._fold_into(self._hash)
            self._lines.clear()
            self._payloads.clear()
        if self.watch is not None:
            self.watch(line + hashlib.sha256(payload).hexdigest()[:12])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything noted so far."""
        so_far = self._hash.copy()
        self._fold_into(so_far)
        return so_far.hexdigest()

    def _fold_into(self, digest: "hashlib._Hash") -> None:
        """The lines first, which say how long each of the payloads is."""
        digest.update("".join(self._lines).encode())
        digest.update(b"".join(self._payloads))
