"""The publisher of a simulated fleet, and the root behind it: the real book on a shelf in memory, under seeded keys."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from cloud.publisher.book import ROOT, Book
from wire.adapters.keys import SigningKey
from wire.adapters.tuf_root import make_root, sign_root, standing_of_root
from wire.codec import encode
from wire.ports import SECOND
from wire.release import Release
from wire.trust import ROOT_LIFE_S, RootKeys, Target, target_path

NOTHING_SIGNED: Mapping[str, bytes] = MappingProxyType({})


class MemoryShelf:
    """The `cloud.publisher.ports.Shelf`."""

    def __init__(self, documents: Mapping[str, bytes] = NOTHING_SIGNED) -> None:
        self._documents = dict(documents)

    @property
    def documents(self) -> Mapping[str, bytes]:
        """The newest of every role."""
        return dict(self._documents)

    def read(self, role: str) -> bytes | None:
        """The newest document of a role."""
        return self._documents.get(role)

    def write(self, role: str, document: bytes) -> None:
        """Keep it."""
        self._documents[role] = document


class SimulatedPublisher:
    """Signs whatever it is shown. `keys`: "publisher" and "root 1" to "root 3"; `online`, `director`: the hub's.

    `signed`: what the `signed` of an earlier life of it was.
    """

    def __init__(
        self,
        keys: Mapping[str, SigningKey],
        online: str,
        director: str,
        now: Callable[[], int],
        signed: Mapping[str, bytes] = NOTHING_SIGNED,
    ) -> None:
        self._keys = dict(keys)
        self._now = now
        self._shelf = MemoryShelf(signed)
        self.root = signed[ROOT] if signed else found_root(keys, online, director, now())
        self._shelf.write(ROOT, self.root)
        self._book = Book(self._shelf, lambda: [self._keys["publisher"]], now)
        self._book.renew()

    @property
    def signed(self) -> Mapping[str, bytes]:
        """The newest document of every role, the root among them."""
        return self._shelf.documents

    def rotate(self, keys: Mapping[str, SigningKey], online: str, director: str) -> bytes:
        """The next root, which names these keys; two holders of the root before it and two of its own sign it."""
        version = standing_of_root(self.root).version + 1
        root = make_root(version, self._now() + ROOT_LIFE_S * SECOND, named(keys, online, director))
        holders = {
            holder[name].public_hex: holder[name] for holder in (self._keys, keys) for name in ("root 1", "root 2")
        }
        for holder in holders.values():
            root = sign_root(root, holder)
        self._keys = dict(keys)
        self.root = root
        self._shelf.write(ROOT, root)
        return root

    def renewed(self) -> Mapping[str, bytes]:
        """Everything, signed again where it was due."""
        self._book.renew()
        return self._book.documents()

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
    root = make_root(1, now_ns + ROOT_LIFE_S * SECOND, named(keys, online, director))
    return sign_root(sign_root(root, keys["root 1"]), keys["root 2"])


def named(keys: Mapping[str, SigningKey], online: str, director: str) -> RootKeys:
    """Who holds what: three root keys, of which two have to sign."""
    return RootKeys(
        root=tuple(keys[f"root {number}"].public_hex for number in (1, 2, 3)),
        threshold=2,
        targets=(keys["publisher"].public_hex,),
        online=(online,),
        director=(director,),
    )
