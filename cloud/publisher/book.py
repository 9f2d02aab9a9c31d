"""The publisher's own targets and bins: the truth about what it has signed, kept before anything leaves.

It signs only under a root that it has followed link by link since the first one it met, and only with the key that the
newest root names. Versions go on by one; they begin anew only on command, after a root has replaced the key.
"""

from collections.abc import Callable, Mapping
from typing import Final

from cloud.publisher.core import Signed
from cloud.publisher.ports import Hub, Shelf
from wire.adapters.key_ring import Ring, newest_named
from wire.adapters.keys import SigningKey
from wire.adapters.tuf_metadata import bins_key, check_bin, check_targets, make_bin, make_targets, read_bin
from wire.adapters.tuf_root import check_root, keys_of, standing_of_root
from wire.errors import WireError
from wire.ports import SECOND
from wire.trust import TARGETS_LIFE_S, Target, bin_of, bin_roles, half_over

ROOT: Final = "root"
TARGETS: Final = "targets"


class NotNamedError(Exception):
    """The root of this fleet does not name a key of this publisher; the message says what to do."""


class ForeignRootError(Exception):
    """The hub shows a root that does not follow from the one this publisher knows."""


class Book:
    """What was signed, and signing. `now` gives nanoseconds since 1970."""

    def __init__(self, shelf: Shelf, ring: Ring, now: Callable[[], int]) -> None:
        self._shelf = shelf
        self._ring = ring
        self._now = now

    def follow(self, hub: Hub, newest: int) -> None:
        """Learn of every root up to version `newest`. Raises ForeignRootError, NotNamedError."""
        held = self._shelf.read(ROOT)
        known = newest - 1 if held is None else standing_of_root(held).version
        if newest < known:
            raise ForeignRootError(f"the hub shows root version {newest}, this publisher has seen version {known}")
        for number in range(known + 1, newest + 1):
            held = self._adopt(hub.file(f"{number}.root.json"), held, number)
        self._key()

    def last(self, model: str) -> Signed | None:
        """The release of `model` with the highest counter that was ever signed."""
        newest: Signed | None = None
        for role in bin_roles():
            for path, target in self._targets(role).items():
                name, _, version = path.removesuffix(".json").rpartition("/")
                if name == model and (newest is None or target.counter > newest.counter):
                    newest = Signed(version=int(version), counter=target.counter, payload_sha256=target.sha256)
        return newest

    def lists(self, path: str, target: Target) -> bool:
        """Was exactly this signed already?"""
        return self._targets(bin_of(path)).get(path) == target

    def enter(self, path: str, target: Target) -> Mapping[str, bytes]:
        """The bin that lists this release, by role: signed and kept now, unless it was before."""
        role = bin_of(path)
        if not self.lists(path, target):
            self._sign(role, self.version(role) + 1, {**self._targets(role), path: target})
        document = self._shelf.read(role)
        assert document is not None
        return {role: document}

    def renew(self, *, restart: bool = False) -> bool:
        """Sign again what is missing, half over, or not by the present key; with `restart` everything, from 1 on.

        Was there anything to sign?
        """
        signed = False
        for role in (TARGETS, *bin_roles()):
            if restart or not self._good(role):
                self._sign(role, 1 if restart else self.version(role) + 1, self._targets(role))
                signed = True
        return signed

    def signs(self, role: str) -> bool:
        """Is this a role of the publisher's?"""
        return role == TARGETS or role in bin_roles()

    def documents(self) -> Mapping[str, bytes]:
        """Everything signed, by role: targets first."""
        found = ((role, self._shelf.read(role)) for role in (TARGETS, *bin_roles()))
        return {role: document for role, document in found if document is not None}

    def version(self, role: str) -> int:
        """Version of what was signed last for a role; 0 = nothing yet."""
        document = self._shelf.read(role)
        return 0 if document is None else read_bin(document, role).standing.version

    def believes(self, role: str, document: bytes) -> bool:
        """Does a document, which the hub shows, hold under the root and the targets of this book?"""
        targets, root = self._shelf.read(TARGETS), self._root()
        try:
            check_targets(document, root) if role == TARGETS else check_bin(document, role, targets or b"")
        except WireError:
            return False
        return True

    def _adopt(self, root: bytes | None, held: bytes | None, number: int) -> bytes:
        if root is None:
            raise ForeignRootError(f"the hub has no root version {number}")
        try:
            check_root(root, held)
        except WireError as error:
            raise ForeignRootError(f"the hub shows a root that cannot be believed: {error}") from error
        self._shelf.write(ROOT, root)
        return root

    def _root(self) -> bytes:
        root = self._shelf.read(ROOT)
        assert root is not None, "follow comes first"
        return root

    def _key(self) -> SigningKey:
        named, held = keys_of(self._root()).targets, self._ring()
        key = newest_named(held, named)
        if key is None:
            theirs, ours = ", ".join(named), ", ".join(one.public_hex for one in held)
            raise NotNamedError(
                f"the root names the targets key {theirs}, this publisher holds {ours}: "
                "have the root rotated (`fleetloop keys rotate`), or use the right key directory"
            )
        return key

    def _good(self, role: str) -> bool:
        document = self._shelf.read(role)
        if document is None or not self.believes(role, document):
            return False
        if role == TARGETS and bins_key(document) != self._key().public_hex:
            return False  # the root names an old and a new key: the new one takes over
        return not half_over(read_bin(document, role).standing.expires_ns, TARGETS_LIFE_S, self._now())

    def _targets(self, role: str) -> Mapping[str, Target]:
        document = self._shelf.read(role) if role != TARGETS else None
        return {} if document is None else read_bin(document, role).targets

    def _sign(self, role: str, version: int, targets: Mapping[str, Target]) -> None:
        expires_ns = self._now() + TARGETS_LIFE_S * SECOND
        if role == TARGETS:
            document = make_targets(version, expires_ns, self._key())
        else:
            document = make_bin(version, expires_ns, targets, self._key())
        self._shelf.write(role, document)
