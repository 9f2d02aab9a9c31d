"""What a hub would serve of trust: releases that one publisher vouches for under one root, and answers to questions.

The real publisher's book and real metadata, all of it made at once and the same every time.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from simulator.core.clock import EPOCH_NS
from simulator.publisher import SimulatedPublisher
from wire.adapters.keys import SigningKey
from wire.adapters.tuf_metadata import make_snapshot, make_timestamp
from wire.adapters.tuf_root import make_root, sign_root
from wire.asks import MAX_PIECE_BYTES, AskMetadata, AskTime, MetadataPiece, SignedTime, TimeTold
from wire.codec import encode
from wire.dsse import TIME_TYPE, seal
from wire.ports import SECOND
from wire.release import Release
from wire.trust import ROOT_LIFE_S, Listed, RootKeys

_NAMES = ("online", "director", "publisher", "root 1", "root 2", "root 3")
_LIFE_NS = ROOT_LIFE_S * SECOND
_VERSION = re.compile(rb'"version": ?([0-9]+)')


def _key(name: str) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


KEYS = {name: _key(name) for name in _NAMES}
DIRECTOR = KEYS["director"]


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
    """Everything signed for these releases. `renewed`: a second root with another online key, and what follows."""
    publisher = SimulatedPublisher(KEYS, KEYS["online"].public_hex, DIRECTOR.public_hex, lambda: now_ns)
    for release in releases:
        publisher.sign(release)
    documents, files = publisher.documents(), {"1.root.json": publisher.root}
    listed = {role: Listed(_version(data), len(data)) for role, data in documents.items()}
    files |= {f"{listed[role].version}.{role}.json": data for role, data in documents.items()}
    online = KEYS["online"]
    if renewed:
        online = _key("online, the second")
        files["2.root.json"] = _second_root(online, now_ns + _LIFE_NS)
    number = 2 if renewed else 1
    snapshot = make_snapshot(number, now_ns + _LIFE_NS, listed, online)
    timestamp = make_timestamp(number, now_ns + _LIFE_NS, snapshot, online)
    return Repository(publisher.root, {**files, f"{number}.snapshot.json": snapshot, "timestamp.json": timestamp})


def tell_time(ask: AskTime, device: str, now_ns: int) -> TimeTold:
    """The director's answer."""
    told = SignedTime(device=device, nonce=ask.nonce, now_ns=now_ns)
    return TimeTold(envelope=seal(encode(told), TIME_TYPE, DIRECTOR.signers()))


def _second_root(online: SigningKey, expires_ns: int) -> bytes:
    holders = [KEYS[f"root {number}"] for number in (1, 2, 3)]
    keys = RootKeys(
        root=tuple(key.public_hex for key in holders),
        threshold=2,
        targets=(KEYS["publisher"].public_hex,),
        online=(online.public_hex,),
        director=(DIRECTOR.public_hex,),
    )
    root = make_root(2, expires_ns, keys)
    return sign_root(sign_root(root, holders[0]), holders[1])


def _version(document: bytes) -> int:
    found = _VERSION.search(document)
    assert found is not None
    return int(found[1])
