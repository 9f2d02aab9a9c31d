"""Contents that many devices hold, once: equal bytes become one object, and what is hashed is hashed once.

What was ever shared is held as long as the process lives: a run distributes a handful of versions.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

WORTH_SHARING_BYTES = 1024
_MARK_BYTES = 16


class Pool:
    """One for all devices of a process."""

    def __init__(self) -> None:
        self.held_bytes = 0
        """Of different contents."""
        self.hashed = 0
        """Files that were really hashed."""
        self.remembered = 0
        """Digests that were known from another device."""
        self._alike: defaultdict[tuple[int, bytes, bytes], list[bytes]] = defaultdict(list)
        self._shared: set[int] = set()
        self._digests: dict[tuple[int | bytes, ...], str] = {}
        self._together: dict[tuple[int, ...], tuple[bytes, ...]] = {}

    def share(self, data: bytes) -> bytes:
        """The one object with this content. Short contents stay as they are: they are the device's own."""
        return self.share_part(data, 0, len(data))

    def share_part(self, data: bytes, start: int, end: int) -> bytes:
        """The one object with the content `data[start:end]`, which is not copied to find it."""
        if end - start < WORTH_SHARING_BYTES:
            return data[start:end]
        alike = self._alike[end - start, data[start : start + _MARK_BYTES], data[end - _MARK_BYTES : end]]
        for known in alike:
            if known is data or data.startswith(known, start):
                return known
        part = data[start:end]
        alike.append(part)
        self._shared.add(id(part))
        self.held_bytes += len(part)
        return part

    def together(self, parts: Sequence[bytes]) -> tuple[bytes, ...]:
        """These parts, as the one tuple of them where all are shared and there are several."""
        key = tuple(id(part) for part in parts)
        if len(key) < 2 or not self._shared.issuperset(key):
            return tuple(parts)
        return self._together.setdefault(key, tuple(parts))

    def digest(self, parts: Sequence[bytes]) -> str:
        """SHA-256 (hex) of all parts in order; where parts are shared it is computed once."""
        key = tuple(id(part) if id(part) in self._shared else part for part in parts)
        if key in self._digests:
            self.remembered += 1
            return self._digests[key]
        self.hashed += 1
        found = hashlib.sha256()
        for part in parts:
            found.update(part)
        if not self._shared.isdisjoint(key):  # the ids of shared parts are nobody else's for ever
            self._digests[key] = found.hexdigest()
        return found.hexdigest()
