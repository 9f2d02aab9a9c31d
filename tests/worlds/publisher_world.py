"""A hub's signing desk in memory, for tests of the publisher: it keeps what it is handed and judges little."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from cloud.publisher.ports import HubRefusalError, HubTrust, HubUnreachableError, Shown
from cloud.publisher.request import SigningRequest
from simulator.fakes.tuf_repository import new_key
from simulator.publisher import found_root
from tests.samples.release_builders import MODEL, gate_report
from wire.adapters.keys import SigningKey
from wire.adapters.tuf_metadata import read_bin
from wire.adapters.tuf_root import keys_of, make_root, sign_root
from wire.codec import encode
from wire.release import Release
from wire.trust import Target, bin_of

NOW = 1_800_000_000_000_000_000
ROLES = ("director", "online", "publisher", "root 1", "root 2", "root 3")


class FakeHub:
    """The hub's side of signing. With `down` it takes nothing."""

    def __init__(self, *waiting: SigningRequest, rooted: bool = True) -> None:
        self.keys: dict[str, SigningKey] = {name: new_key() for name in ROLES}
        self.waiting = list(waiting)
        self.files: dict[str, dict[int, bytes]] = {}
        self.signed: list[str] = []
        self.refusals: list[str] = []
        self.deliveries = 0
        self.down = False
        if rooted:
            hub = (self.keys["online"].public_hex, self.keys["director"].public_hex)
            self.put("root", 1, found_root(self.keys, *hub, NOW))

    def put(self, role: str, version: int, data: bytes) -> None:
        """Show this document."""
        self.files.setdefault(role, {})[version] = data

    def rotate(self, *signers: str, **changes: tuple[str, ...]) -> None:
        """Show a next root with other keys, signed by these of `keys`."""
        version = max(self.files["root"])
        named = replace(keys_of(self.files["root"][version]), **changes)
        root = make_root(version + 1, NOW * 2, named)
        for name in signers or ("root 1", "root 2"):
            root = sign_root(root, self.keys[name])
        self.put("root", version + 1, root)

    def newest(self, role: str) -> tuple[int, bytes]:
        """The newest document of a role."""
        return max(self.files[role].items())

    def targets(self, path: str) -> Mapping[str, Target]:
        """What the bin of this path lists now."""
        role = bin_of(path)
        return read_bin(self.newest(role)[1], role).targets

    def pending(self) -> list[SigningRequest]:
        """What waits."""
        return list(self.waiting)

    def trust(self) -> HubTrust:
        """What it shows."""
        shown = ((role, *self.newest(role)) for role in self.files)
        return HubTrust(
            roles={role: Shown(version=number, sha256=sha256(data).hexdigest()) for role, number, data in shown}
        )

    def file(self, name: str) -> bytes | None:
        """One document."""
        number, role, _ = name.split(".")
        return self.files.get(role, {}).get(int(number))

    def sign(self, request: str, metadata: Mapping[str, bytes]) -> None:
        """Take a bin, or lose it."""
        self._take(metadata)
        self.signed.append(request)
        self._done(request)

    def deliver(self, metadata: Mapping[str, bytes], *, restored: bool = False) -> None:
        """Take documents that were signed anew, or lose them."""
        for role in metadata.keys() & self.files.keys():
            unknown = (
                read_bin(metadata[role], role).targets.keys() - read_bin(self.newest(role)[1], role).targets.keys()
            )
            if unknown and not restored:
                raise HubRefusalError(f"{role}: nothing but a signature releases {unknown}")
        self._take(metadata)
        self.deliveries += 1

    def refuse(self, request: str, reason: str) -> None:
        """Take a refusal."""
        self.refusals.append(reason)
        self._done(request)

    def _take(self, metadata: Mapping[str, bytes]) -> None:
        if self.down:
            raise HubUnreachableError("down")
        for role, data in metadata.items():
            self.put(role, read_bin(data, role).standing.version, data)

    def _done(self, request: str) -> None:
        self.waiting = [waiting for waiting in self.waiting if waiting.id != request]


def request(document: Release, name: str = "r1") -> SigningRequest:
    """A signing request with the standard report."""
    payload = encode(document)
    return SigningRequest(id=name, model=MODEL, version=document.version, payload=payload, gate_report=gate_report())
