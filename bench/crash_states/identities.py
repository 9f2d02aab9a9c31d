"""Keys and certificates without cryptography, the same every time, and who the hub has given them to.

A key is a word, a request names the word, a certificate is for the word and lasts for a while.
"""

import hashlib
from collections.abc import Callable

from edge_agent.core.identity import Identity
from edge_agent.core.lifetime import Lifetime
from edge_agent.ports import KeyRequest
from simulator.core.clock import EPOCH_NS
from simulator.core.rng import Rng
from wire.ports import SECOND, LoginRefusedError

FIRST = Lifetime(EPOCH_NS - 1_000_000 * SECOND, EPOCH_NS + 100_000 * SECOND)
"""Of a certificate that is given for a claim: more than two thirds are over."""
RENEWED = Lifetime(EPOCH_NS - SECOND, EPOCH_NS + 10_000_000 * SECOND)


class LightKeys:
    """The `edge_agent.ports.Keys`."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def make(self, name: str) -> KeyRequest:
        """A new key."""
        word = self._rng.bytes(16).hex()
        return KeyRequest(key=f"key {word}", csr=f"request {word}")

    def proof(self, key: str, message: bytes) -> bytes:
        """A digest of both."""
        return hashlib.sha256(key.encode() + message).digest()

    def fit(self, certificate: str, key: str) -> bool:
        """Do both have the same word?"""
        return certificate.split()[1:2] == key.split()[1:2] != []

    def lifetime(self, certificate: str) -> Lifetime:
        """As it says."""
        _, _, begins, ends = certificate.split()
        return Lifetime(int(begins), int(ends))


def certify(csr: str, lifetime: Lifetime) -> str:
    """The certificate for a request."""
    return f"certificate {csr.split()[1]} {lifetime.begins_ns} {lifetime.ends_ns}"


def secret_of(identity: Identity) -> str:
    """What the hub knows of the secret that an identity logs in with."""
    return identity.csr or hashlib.sha256(identity.password.encode()).hexdigest()


class LightAccess:
    """The `edge_agent.ports.Access` of a broker that takes whoever the hub has admitted."""

    trouble = ""
    refused = False

    def __init__(self, admitted: Callable[[str], bool]) -> None:
        self._admitted = admitted

    async def change(self, identity: Identity) -> None:
        """Log in anew. Raises LoginRefusedError."""
        if not self._admitted(secret_of(identity)):
            raise LoginRefusedError("nobody has admitted this login")
