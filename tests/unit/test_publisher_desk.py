"""The publisher at work against a hub and a ledger that fail when the test says so."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.publisher.core import Policy, Signed
from cloud.publisher.ports import HubUnreachableError
from cloud.publisher.request import SigningRequest
from cloud.publisher.service import Desk, NotApprovableError, UnknownRequestError
from tests.release_builders import MODEL, gate_report, release, variant
from wire.adapters.keys import SigningKey, verifiers
from wire.codec import encode
from wire.dsse import RELEASE_TYPE, unseal
from wire.release import Release

KEY = SigningKey(Ed25519PrivateKey.generate())


class FakeHub:
    """A signing desk in memory. With `down` it takes nothing."""

    def __init__(self, *waiting: SigningRequest) -> None:
        self.waiting = list(waiting)
        self.envelopes: list[bytes] = []
        self.refusals: list[str] = []
        self.down = False

    def pending(self) -> list[SigningRequest]:
        """What waits."""
        return list(self.waiting)

    def sign(self, request: str, envelope: bytes) -> None:
        """Take a signature, or lose it."""
        if self.down:
            raise HubUnreachableError("down")
        self.envelopes.append(envelope)
        self._done(request)

    def refuse(self, request: str, reason: str) -> None:
        """Take a refusal."""
        self.refusals.append(reason)
        self._done(request)

    def _done(self, request: str) -> None:
        self.waiting = [waiting for waiting in self.waiting if waiting.id != request]


class FakeLedger:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.signed: dict[str, Signed] = {}

    def last(self, model: str) -> Signed | None:
        """The newest signature."""
        return self.signed.get(model)

    def record(self, model: str, signed: Signed) -> None:
        """Remember."""
        self.signed[model] = signed


def request(document: Release, name: str = "r1") -> SigningRequest:
    """A signing request with the standard report."""
    payload = encode(document)
    return SigningRequest(id=name, model=MODEL, version=document.version, payload=payload, gate_report=gate_report())


def desk(hub: FakeHub, ledger: FakeLedger, policy: Policy | None = None) -> Desk:
    """A desk with the test's key."""
    return Desk(hub, ledger, KEY.signers(), policy or Policy())


def test_signs_what_the_policy_approves() -> None:
    """The envelope holds the request's very bytes under the publisher's key, and the ledger knows."""
    hub, ledger = FakeHub(request(release())), FakeLedger()
    assert desk(hub, ledger).work(by_policy=True) == {"r1": "signed"}
    (envelope,) = hub.envelopes
    assert unseal(envelope, RELEASE_TYPE, verifiers([KEY.public_hex]), limit=1 << 20) == encode(release())
    assert ledger.signed[MODEL].counter == 1


def test_lost_signature_is_repeated_byte_for_byte() -> None:
    """The ledger is written first; after the crash the same request gets the same envelope, not a refusal."""
    hub, ledger = FakeHub(request(release())), FakeLedger()
    hub.down = True
    with pytest.raises(HubUnreachableError):
        desk(hub, ledger).work(by_policy=True)
    assert ledger.signed[MODEL].version == 1
    hub.down = False
    assert desk(hub, ledger).work(by_policy=True) == {"r1": "signed"}
    assert len(hub.envelopes) == 1


def test_second_release_with_the_same_counter_is_refused() -> None:
    """Even in one pass over the desk."""
    second = request(release(2, counter=1), "r2")
    hub = FakeHub(request(release()), second)
    assert desk(hub, FakeLedger()).work(by_policy=True) == {"r1": "signed", "r2": "refused"}
    assert "counter 1 is not above 1" in hub.refusals[0]


def test_manual_approval_waits_but_refuses_what_is_broken() -> None:
    """A person need not look at what may never be signed."""
    broken = msgspec.structs.replace(request(release(), "r2"), version=9)
    hub = FakeHub(request(release()), broken)
    assert desk(hub, FakeLedger()).work(by_policy=False) == {"r1": "waiting", "r2": "refused"}
    assert hub.envelopes == []


def test_person_may_waive_the_policy_but_not_integrity() -> None:
    """Too large is a matter of taste; another file than measured is not."""
    hub, strict = FakeHub(request(release())), Policy(max_bytes_ratio=0.1)
    desk(hub, FakeLedger(), strict).approve("r1")
    assert len(hub.envelopes) == 1
    swapped = FakeHub(request(release(variants=(variant(data=b"other"),))))
    with pytest.raises(NotApprovableError, match="not the file that was measured"):
        desk(swapped, FakeLedger()).approve("r1")
    assert swapped.envelopes == []


def test_person_may_refuse_and_long_reasons_are_cut() -> None:
    """The hub keeps 500 characters."""
    hub = FakeHub(request(release()))
    desk(hub, FakeLedger()).refuse("r1", "x" * 900)
    assert hub.refusals == ["x" * 500]


def test_unknown_request_is_named() -> None:
    """A typo on the command line is told."""
    with pytest.raises(UnknownRequestError, match="r7"):
        desk(FakeHub(), FakeLedger()).approve("r7")
