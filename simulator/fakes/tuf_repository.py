"""A small TUF repository in memory, for whoever tries those that read or serve one: real keys, metadata, any expiry.

`files` holds what a hub would serve: `timestamp.json`, and `N.role.json` for everything else. Nothing is ever removed,
so an earlier state can be replayed with `dict(repository.files)`.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire.adapters.keys import SigningKey
from wire.adapters.tuf_metadata import make_bin, make_snapshot, make_targets, make_timestamp
from wire.adapters.tuf_root import make_root, sign_root
from wire.codec import MAX_RELEASE_BYTES, decode
from wire.ports import SECOND
from wire.release import Release
from wire.trust import (
    ROOT_LIFE_S,
    SNAPSHOT_LIFE_S,
    TARGETS_LIFE_S,
    TIMESTAMP_LIFE_S,
    Listed,
    RootKeys,
    Target,
    bin_of,
    bin_roles,
    target_path,
)


def new_key() -> SigningKey:
    """A fresh ed25519 key."""
    return SigningKey(Ed25519PrivateKey.generate())


class TufRepository:
    """Root 2-of-3, one targets key, one online key. Every key can be replaced before `rotate`."""

    def __init__(self, director_keys: Iterable[str], now_ns: int, make_key: Callable[[], SigningKey] = new_key) -> None:
        self.now_ns = now_ns
        """By this time the lives of new documents are counted; move it as you like."""
        self.root_keys = [make_key(), make_key(), make_key()]
        self.targets_key, self.online_key = make_key(), make_key()
        self.director_keys = tuple(director_keys)
        self.files: dict[str, bytes] = {}
        self.versions = {"root": 0, "targets": 0, "snapshot": 0, "timestamp": 0}
        self.bins: dict[str, dict[str, Target]] = {name: {} for name in bin_roles()}
        self._listed: dict[str, Listed] = {}
        self.rotate()
        self.sign_targets()
        self.refresh()

    @property
    def root(self) -> bytes:
        """The newest root."""
        return self.files[f"{self.versions['root']}.root.json"]

    def fork(self) -> "TufRepository":
        """A repository that goes its own way from here."""
        one = copy.copy(self)
        one.root_keys = list(self.root_keys)
        one.files, one.versions, one._listed = dict(self.files), dict(self.versions), dict(self._listed)
        one.bins = {name: dict(targets) for name, targets in self.bins.items()}
        return one

    def rotate(self, signers: Iterable[SigningKey] = ()) -> bytes:
        """A next root with the keys as they now are, signed by the root keys and whoever else is given."""
        keys = RootKeys(
            root=tuple(key.public_hex for key in self.root_keys),
            threshold=2,
            targets=(self.targets_key.public_hex,),
            online=(self.online_key.public_hex,),
            director=self.director_keys,
        )
        root = make_root(self.versions["root"] + 1, self._expiry(ROOT_LIFE_S), keys)
        for key in (*self.root_keys, *signers):
            root = sign_root(root, key)
        return self._put("root", root)

    def sign_targets(self) -> None:
        """Targets and all bins anew."""
        self._put("targets", make_targets(self.versions["targets"] + 1, self._expiry(TARGETS_LIFE_S), self.targets_key))
        for name in self.bins:
            self.sign_bin(name)

    def sign_bin(self, name: str) -> None:
        """One bin anew, with whatever stands in `bins`."""
        version = self.versions.get(name, 0) + 1
        self._put(name, make_bin(version, self._expiry(TARGETS_LIFE_S), self.bins[name], self.targets_key))

    def amend(self, role: str, data: bytes) -> None:
        """The newest version of `role` reads like this, and snapshot and timestamp say so."""
        version = self.versions[role]
        self.files[f"{version}.{role}.json"] = data
        self._listed[role] = Listed(version, len(data))
        self.refresh()

    def refresh(self, life_s: int = TIMESTAMP_LIFE_S) -> None:
        """A new snapshot and a new timestamp, the latter for `life_s` seconds."""
        version, expiry = self.versions["snapshot"] + 1, self._expiry(SNAPSHOT_LIFE_S)
        snapshot = self._put("snapshot", make_snapshot(version, expiry, self._listed, self.online_key))
        self._put(
            "timestamp",
            make_timestamp(self.versions["timestamp"] + 1, self._expiry(life_s), snapshot, self.online_key),
        )

    def publish(self, release: bytes) -> str:
        """Add this release document as a target; returns its path."""
        document = decode(release, Release, limit=MAX_RELEASE_BYTES)
        path = target_path(document.model, document.version)
        self.add(path, release, document.counter)
        return path

    def add(self, path: str, data: bytes, counter: int) -> None:
        """Add any bytes as the target `path`."""
        self.bins[bin_of(path)][path] = Target(len(data), hashlib.sha256(data).hexdigest(), counter)
        self.sign_bin(bin_of(path))
        self.refresh()

    def _expiry(self, life_s: int) -> int:
        return self.now_ns + life_s * SECOND

    def _put(self, role: str, data: bytes) -> bytes:
        self.versions[role] = self.versions.get(role, 0) + 1
        version = self.versions[role]
        self.files["timestamp.json" if role == "timestamp" else f"{version}.{role}.json"] = data
        if role.startswith("bin-") or role == "targets":
            self._listed[role] = Listed(version, len(data))
        return data
