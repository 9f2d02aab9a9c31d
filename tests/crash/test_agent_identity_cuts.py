"""Power cuts at every operation of enrolment, renewal and a new claim: the device ends with one good identity.

The secret of a request never changes, however often it is cut off, and no certificate is in force without its key.
"""

from collections.abc import Callable

import msgspec
import pytest

from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.core.identity import Identity
from edge_agent.errors import DamagedRecordError, EnrolmentError
from edge_agent.service.identity import IDENTITY
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk, PowerCutError
from tests.worlds.member_world import DAY_NS, Office, Started, claim_file, member
from wire.identity import ClaimFile
from wire.ports import SECOND

SEEDS = 1
STRIDE = 2
"""Every second operation here; `bench crash` cuts at each of them, and inside the recoveries."""
TYPICAL = 40


def in_force(disk: MemoryDisk) -> Identity | None:
    """The identity on the disk."""
    data = disk.peek(IDENTITY)
    return None if data is None else msgspec.json.decode(data, type=Identity)


def life(office: Office, disk: MemoryDisk, claim: ClaimFile, done: Callable[[], bool]) -> bool:
    """One start of the device until `done`; False: the power went first."""
    loop = VirtualLoop(Rng(5))
    office.clock = VirtualClock(loop, office.clock.now_ns() - VirtualClock(loop).now_ns())
    crashes: list[BaseException] = []

    async def wait(started: Started) -> bool:
        for _ in range(4000):
            if crashes:
                return False
            if done() and started.link.connected:
                return True
            await office.clock.sleep(10 * SECOND)
        raise AssertionError(f"never: {started.agent.membership.problem()}")

    async def live() -> bool:
        try:
            async with member(office, disk, claim, crashes.append) as started:
                return await wait(started)
        except PowerCutError:
            return False

    alive = loop.run(live())
    assert all(isinstance(error, PowerCutError) for error in crashes), crashes
    identity = in_force(disk)
    assert identity is None or P256Keys().fit(identity.certificate, identity.key)
    return alive


class Enrolling:
    """A new device."""

    def __init__(self) -> None:
        self.office, self.disk = Office(VirtualClock(VirtualLoop(Rng(1)))), MemoryDisk()
        self.claim = claim_file(1)

    def done(self) -> bool:
        """It has its identity."""
        return in_force(self.disk) is not None

    def check(self) -> None:
        """The token was used with one request, and one certificate was granted for it."""
        assert len(self.office.granted) == 1


class Enrolled(Enrolling):
    """A device with an identity, all of it durable."""

    def __init__(self) -> None:
        super().__init__()
        assert life(self.office, self.disk, self.claim, super().done)
        self.disk.crash(Rng(1))
        self.before = in_force(self.disk)

    def done(self) -> bool:
        """It has another identity."""
        return in_force(self.disk) not in (None, self.before)


class Renewing(Enrolled):
    """Its certificate is due."""

    def __init__(self) -> None:
        super().__init__()
        self.office.clock = VirtualClock(VirtualLoop(Rng(1)), 10 * DAY_NS)

    def check(self) -> None:
        """Nobody had to recover; a renewal repeated is the same renewal."""
        assert len(self.office.granted) == 2
        assert self.office.recoveries == 0


class Recovering(Enrolled):
    """Its certificate is over."""

    def __init__(self) -> None:
        super().__init__()
        self.office.clock = VirtualClock(VirtualLoop(Rng(1)), 100 * DAY_NS)

    def check(self) -> None:
        """The same request however often."""
        assert len(self.office.granted) == 2


class ClaimingAnew(Enrolled):
    """It was revoked and has a new claim."""

    def __init__(self) -> None:
        super().__init__()
        self.office.revoked |= set(self.office.granted.values())
        self.claim = claim_file(2)

    def check(self) -> None:
        """Each token was used once."""
        assert len(self.office.granted) == 2


STORIES = {
    "enrolment": Enrolling,
    "renewal": Renewing,
    "recovery": Recovering,
    "a new claim": ClaimingAnew,
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_cut_at_any_operation_the_device_ends_with_one_good_identity(story: str, seed: int) -> None:
    """Cut at each operation, cut again somewhere in the recovery, then left alone."""
    whole = STORIES[story]()
    whole.disk.operations = 0
    assert life(whole.office, whole.disk, whole.claim, whole.done)
    assert whole.disk.operations > 15
    for at in range(1, whole.disk.operations + 1, STRIDE):
        rng = Rng(seed, f"{story}{at}")
        unit = STORIES[story]()
        for cut in (at, 1 + rng.below(TYPICAL)):
            unit.disk.operations, unit.disk.cut_at = 0, cut
            life(unit.office, unit.disk, unit.claim, unit.done)
            unit.disk.crash(rng)
        assert life(unit.office, unit.disk, unit.claim, unit.done), f"cut at {at}"
        unit.check()


def test_the_harness_sees_a_device_that_does_not_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fsync some cut leaves another request, or nothing that can be read."""

    async def forgetful(self: MemoryDisk, path: str) -> None:
        if self._counts():
            await self._turn()

    monkeypatch.setattr(MemoryDisk, "fsync", forgetful)

    def enrol_with_cuts() -> None:
        for seed in range(6):
            test_cut_at_any_operation_the_device_ends_with_one_good_identity("enrolment", seed)

    with pytest.raises((AssertionError, DamagedRecordError, EnrolmentError, msgspec.DecodeError)):
        enrol_with_cuts()
