"""What a hub would serve of trust: releases that one publisher vouches for, and answers to questions.

Real metadata under keys that are the same every time: a device's disk must come out the same in every process.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from simulator.core.clock import EPOCH_NS
from simulator.fakes.tuf_repository import TufRepository
from wire.adapters.keys import SigningKey
from wire.asks import MAX_PIECE_BYTES, AskMetadata, AskTime, MetadataPiece, SignedTime, TimeTold
from wire.codec import encode
from wire.dsse import TIME_TYPE, seal
from wire.release import Release


def _keys() -> Iterator[SigningKey]:
    """Never the same twice, and always in the same order."""
    number = 0
    while True:
        secret = hashlib.sha256(b"key %d" % number).digest()
        yield SigningKey(Ed25519PrivateKey.from_private_bytes(secret))
        number += 1


DIRECTOR = next(_keys())


@dataclass(frozen=True)
class Repository:
    """Files by name, as devices ask for them. `root` is the one that claims hold."""

    root: bytes
    files: dict[str, bytes] = field(hash=False)

    def piece(self, ask: AskMetadata) -> MetadataPiece:
        """The answer to a question for metadata."""
        data = self.files.get(ask.name)
        if data is None:
            return MetadataPiece(found=False)
        part = data[ask.offset : ask.offset + MAX_PIECE_BYTES]
        return MetadataPiece(found=True, total=len(data), offset=ask.offset, data=part)


def publish(releases: Iterable[Release], *, renewed: bool = False, now_ns: int = EPOCH_NS) -> Repository:
    """Everything signed for these releases. `renewed`: then a second root with another online key, and what follows."""
    keys = _keys()
    repository = TufRepository((next(keys).public_hex,), now_ns, lambda: next(keys))
    root = repository.root
    for release in releases:
        repository.publish(encode(release))
    if renewed:
        repository.online_key = next(keys)
        repository.rotate()
        repository.refresh()
    return Repository(root, repository.files)


def tell_time(ask: AskTime, device: str, now_ns: int) -> TimeTold:
    """The director's answer; metadata has to be asked for."""
    return _tell(ask.nonce, device, now_ns)


@lru_cache(maxsize=256)
def _tell(nonce: str, device: str, now_ns: int) -> TimeTold:
    told = SignedTime(device=device, nonce=nonce, now_ns=now_ns)
    return TimeTold(envelope=seal(encode(told), TIME_TYPE, DIRECTOR.signers()))
