"""The trace of a run as one digest: two runs that differ anywhere in what happened, when or in which order differ here.

Only integers, text and wire bytes go in: floats of numeric libraries would tie the digest to a machine.
"""

import hashlib
from collections.abc import Callable


class Trace:
    """Folds every event into a SHA-256. `watch`, if set, sees each one: that is how the first difference is found."""

    def __init__(self) -> None:
        self.count = 0
        self.watch: Callable[[str], None] | None = None
        self._hash = hashlib.sha256()

    def note(self, at_ns: int, kind: str, who: str, what: str = "", payload: bytes = b"") -> None:
        """One event: when, what kind, of which program, about what (a topic, a path), and its bytes."""
        self.count += 1
        line = f"{at_ns} {kind} {who} {what} {len(payload)}\n"
        self._hash.update(line.encode())
        self._hash.update(payload)
        if self.watch is not None:
            self.watch(line + hashlib.sha256(payload).hexdigest()[:12])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything noted so far."""
        return self._hash.hexdigest()
