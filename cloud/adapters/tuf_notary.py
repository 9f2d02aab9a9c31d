"""The notary on python-tuf, with the hub's own keys as whatever function lists them."""

from collections.abc import Mapping
from functools import lru_cache

from wire.adapters import tuf_metadata, tuf_root
from wire.adapters.key_ring import Ring, newest_named
from wire.adapters.keys import SigningKey
from wire.dsse import seal
from wire.errors import SignatureError
from wire.trust import Listed, RootKeys, Standing

ONLINE, DIRECTOR = "online", "director"
_remembered = lru_cache(maxsize=64)
"""Checks are functions of signed bytes, and the same documents are looked at every minute."""


class TufNotary:
    """Implements `cloud.ports.Notary`."""

    keys_of = staticmethod(_remembered(tuf_root.keys_of))
    check_root = staticmethod(tuf_root.check_root)
    check_targets = staticmethod(_remembered(tuf_metadata.check_targets))
    check_bin = staticmethod(_remembered(tuf_metadata.check_bin))
    read_bin = staticmethod(tuf_metadata.read_bin)
    check_snapshot = staticmethod(_remembered(tuf_metadata.check_snapshot))
    check_timestamp = staticmethod(_remembered(tuf_metadata.check_timestamp))

    def __init__(self, online: Ring, director: Ring) -> None:
        self._online = online
        self._ring = director
        self._director = director()[-1]

    @property
    def online_keys(self) -> tuple[str, ...]:
        """Public keys that it holds for snapshot and timestamp."""
        return tuple(key.public_hex for key in self._online())

    @property
    def director_keys(self) -> tuple[str, ...]:
        """Public keys that it holds for assignments."""
        return tuple(key.public_hex for key in self._ring())

    @property
    def director(self) -> str:
        """The one that signs now."""
        return self._director.public_hex

    def follow(self, keys: RootKeys) -> bool:
        """Take the director key that the root names last; keep the present one if none is held."""
        found = newest_named(self._ring(), keys.director) or self._director
        changed = found.public_hex != self._director.public_hex
        self._director = found
        return changed

    def seal(self, payload: bytes, payload_type: str) -> bytes:
        """The director's envelope."""
        return seal(payload, payload_type, self._director.signers())

    def make_snapshot(self, keys: RootKeys, standing: Standing, listed: Mapping[str, Listed]) -> bytes:
        """Signed online. Raises SignatureError without a key that the root names."""
        return tuf_metadata.make_snapshot(standing.version, standing.expires_ns, listed, self._signer(keys))

    def make_timestamp(self, keys: RootKeys, standing: Standing, snapshot: bytes) -> bytes:
        """Signed online. Raises SignatureError without a key that the root names."""
        return tuf_metadata.make_timestamp(standing.version, standing.expires_ns, snapshot, self._signer(keys))

    def _signer(self, keys: RootKeys) -> SigningKey:
        found = newest_named(self._online(), keys.online)
        if found is None:
            raise SignatureError("the hub holds none of the online keys that the root names")
        return found
