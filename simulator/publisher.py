"""The publisher of a simulated fleet, and the root behind it: the real book on a shelf in memory, under seeded keys."""

import hashlib
from collections.abc import Callable, Mapping

from cloud.publisher.book import ROOT, Book
from wire.adapters.keys import SigningKey
from wire.adapters.tuf_root import make_root, sign_root
from wire.codec import encode
from wire.ports import SECOND
from wire.release import Release
from wire.trust import ROOT_LIFE_S, RootKeys, Target, target_path


class MemoryShelf:
    """The `cloud.publisher.ports.Shelf`."""

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}

    def read(self, role: str) -> bytes | None:
        """The newest document of a role."""
        return self._documents.get(role)

    def write(self, role: str, document: bytes) -> None:
        """Keep it."""
        self._documents[role] = document


class SimulatedPublisher:
    """Signs whatever it is shown. `keys`: "publisher" and "root 1" to "root 3"; `online`, `director`: the hub's."""

    def __init__(self, keys: Mapping[str, SigningKey], online: str, director: str, now: Callable[[], int]) -> None:
        self.root = found_root(keys, online, director, now())
        shelf = MemoryShelf()
        shelf.write(ROOT, self.root)
        self._book = Book(shelf, lambda: [keys["publisher"]], now)
        self._book.renew()

    def documents(self) -> Mapping[str, bytes]:
        """Targets and all bins."""
        return self._book.documents()

    def sign(self, release: Release) -> Mapping[str, bytes]:
        """The bin that lists this release, too."""
        payload = encode(release)
        target = Target(len(payload), hashlib.sha256(payload).hexdigest(), release.counter)
        return self._book.enter(target_path(release.model, release.version), target)


def found_root(keys: Mapping[str, SigningKey], online: str, director: str, now_ns: int) -> bytes:
    """Root version 1: three root keys, of which two have signed."""
    holders = [keys[f"root {number}"] for number in (1, 2, 3)]
    named = RootKeys(
        root=tuple(key.public_hex for key in holders),
        threshold=2,
        targets=(keys["publisher"].public_hex,),
        online=(online,),
        director=(director,),
    )
    root = make_root(1, now_ns + ROOT_LIFE_S * SECOND, named)
    return sign_root(sign_root(root, holders[0]), holders[1])
