"""Staying a member: renewal at two thirds, recovery after expiry, a new claim after a revocation, no hammering."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec

from edge_agent.core.identity import Identity
from edge_agent.service.durable import write_atomic
from edge_agent.service.identity import CANDIDATE, IDENTITY
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk
from tests.worlds.member_world import DAY_NS, Office, Started, claim_file, member
from wire.codec import encode
from wire.identity import ClaimFile
from wire.messages import Status
from wire.ports import SECOND, LinkError

LINK_DOWN = LinkError("connection refused")


class Life:
    """An office, a disk, and any number of lives of the device on it."""

    def __init__(self) -> None:
        self.elapsed_ns = 0
        self.clock = VirtualClock(VirtualLoop(Rng(1)))
        self.office = Office(self.clock)
        self.disk = MemoryDisk()
        self.crashes: list[BaseException] = []

    def live(self, scenario: Callable[[Started], Awaitable[None]], given: ClaimFile | None = None) -> None:
        """One life with this scenario in it; nothing in it may crash."""

        loop = VirtualLoop(Rng(1))
        self.clock = self.office.clock = VirtualClock(loop, self.elapsed_ns)

        async def main() -> None:
            async with member(self.office, self.disk, given, self.crashes.append) as started:
                await scenario(started)

        loop.run(main())
        self.elapsed_ns += loop.now_ns
        assert self.crashes == []

    @property
    def identity(self) -> Identity:
        """What is in force on the disk."""
        data = self.disk.peek(IDENTITY)
        assert data is not None
        return msgspec.json.decode(data, type=Identity)

    async def until(self, good: Callable[[], bool], limit_ns: int) -> int:
        """Wait for it in steps of ten seconds; returns the moment."""
        end_ns = self.clock.monotonic_ns() + limit_ns
        while not good():
            assert self.clock.monotonic_ns() < end_ns, "never"
            await self.clock.sleep(10 * SECOND)
        return self.clock.monotonic_ns()


async def nothing(started: Started) -> None:
    """A start and a stop."""


def test_a_certificate_is_renewed_at_two_thirds_of_its_life_with_a_new_key_over_the_working_link() -> None:
    """Again and again; the hub learns of each new end; nothing else changes."""
    life = Life()

    async def scenario(started: Started) -> None:
        first = life.identity
        at_ns = await life.until(lambda: life.identity != first, 20 * DAY_NS)
        assert abs(at_ns - life.office.life_ns * 2 // 3) < DAY_NS // 10
        second = life.identity
        assert (second.username, second.claim) == (first.username, first.claim)
        assert second.key != first.key
        assert second.certificate != first.certificate
        await life.until(lambda: life.identity != second, 20 * DAY_NS)
        ends = [report.certificate_expires_ns for report in life.office.air.reports]
        assert len(set(ends)) == 3
        assert (life.office.renewals, life.office.recoveries) == (2, 0)
        assert [one.certificate for one in started.link.logins][-1] == life.identity.certificate
        assert life.disk.peek(CANDIDATE) is None

    life.live(scenario, claim_file())


def test_a_refused_renewal_is_told_and_retried_ever_more_rarely_while_the_old_certificate_works() -> None:
    """The hub's reason is in the status; when it changes its mind the device is renewed."""
    life = Life()

    async def scenario(started: Started) -> None:
        first = life.identity
        life.office.no = "renewals of this device are stopped"
        await life.until(lambda: life.office.renewals > 0, 20 * DAY_NS)
        await life.clock.sleep(DAY_NS)
        assert "renewals of this device are stopped" in started.agent.membership.problem()
        assert started.link.connected
        assert life.office.renewals < 60
        life.office.no = ""
        await life.until(lambda: life.identity != first, DAY_NS)
        assert started.agent.membership.problem() == ""

    life.live(scenario, claim_file())


def test_an_expired_certificate_is_recovered_by_proof_of_the_old_key() -> None:
    """The device was switched off for months; it comes back by itself within a minute."""
    life = Life()

    async def scenario(started: Started) -> None:
        begin_ns = life.clock.monotonic_ns()
        assert not started.link.connected
        await life.until(lambda: started.link.connected, DAY_NS)
        assert life.clock.monotonic_ns() - begin_ns < 60 * SECOND
        assert (life.office.recoveries, life.office.renewals) == (1, 0)

    life.live(nothing, claim_file())
    life.elapsed_ns += 100 * DAY_NS
    life.live(scenario)


def test_a_wrong_clock_does_not_keep_a_device_out() -> None:
    """Its clock says 1999, so nothing looks expired to it; the broker's refusal alone makes it recover."""
    life = Life()

    async def scenario(started: Started) -> None:
        started.agent.membership._means = replace(started.agent.membership._means, now=lambda: 900_000_000 * SECOND)
        await life.until(lambda: started.link.connected, DAY_NS)
        assert life.office.recoveries >= 1

    life.live(nothing, claim_file())
    life.elapsed_ns += 100 * DAY_NS
    life.live(scenario)


def test_a_broker_out_of_reach_is_no_reason_to_recover() -> None:
    """Weeks offline with a good certificate: the desk is never bothered, and the renewal follows on the return."""
    life = Life()

    async def scenario(started: Started) -> None:
        first = life.identity
        life.office.open = False
        started.link.cut()
        await life.clock.sleep(12 * DAY_NS)
        assert life.office.recoveries == 0
        life.office.open = True
        await life.until(lambda: life.identity != first, DAY_NS // 24)
        assert life.office.renewals == 1

    life.live(scenario, claim_file())


def test_a_revoked_device_says_so_and_does_not_hammer() -> None:
    """A day of being refused: its status says what to do, the desk is asked ever more rarely."""
    life = Life()

    async def scenario(started: Started) -> None:
        life.office.no = "this device was revoked"
        life.office.revoked |= set(life.office.granted.values())
        started.link.cut()
        await life.clock.sleep(DAY_NS)
        problem = started.agent.membership.problem()
        assert "this device was revoked" in problem
        assert "a new claim file" in problem
        assert 5 < life.office.recoveries < 60

    life.live(scenario, claim_file())


def test_a_new_claim_enrols_a_revoked_device_again_and_keeps_what_it_has() -> None:
    """Sequence and floors stay; without `--claim` the next start goes on with the new identity."""
    life = Life()

    async def revoke(started: Started) -> None:
        life.office.revoked |= set(life.office.granted.values())

    async def scenario(started: Started) -> None:
        await life.until(lambda: started.link.connected, DAY_NS)
        assert started.agent.reconciler.record.boot == 2
        assert life.office.recoveries == 0

    async def again(started: Started) -> None:
        await life.clock.sleep(60 * SECOND)
        assert started.link.connected
        assert len(started.link.logins) == 1

    life.live(revoke, claim_file(1))
    old = life.identity
    life.live(scenario, claim_file(2))
    assert life.identity.key != old.key
    life.live(again)
    life.live(again, claim_file(2))


def test_a_claim_that_the_hub_refuses_leaves_the_device_as_it_is() -> None:
    """An operator's mistake cuts nobody off, and the old identity goes on being renewed."""
    life = Life()
    life.office.used[claim_file(2).token] = "somebody else"

    async def scenario(started: Started) -> None:
        await life.clock.sleep(600 * SECOND)
        assert started.link.connected
        assert "used by another device; ask for a new claim" in started.agent.membership.problem()
        assert life.identity == old
        await life.until(lambda: life.identity != old, 20 * DAY_NS)

    life.live(nothing, claim_file(1))
    old = life.identity
    life.live(scenario, claim_file(2))
    assert life.office.renewals == 1


def test_a_device_moves_from_a_password_to_a_certificate_with_a_new_claim() -> None:
    """The fleet's broker was replaced by one that wants certificates."""
    life = Life()

    async def scenario(started: Started) -> None:
        await life.until(lambda: life.identity.certificate != "", DAY_NS)
        assert started.link.identity.certificate == life.identity.certificate

    life.live(nothing, claim_file(1, "password"))
    assert life.identity.password
    life.live(scenario, claim_file(2, "certificate"))


def test_a_granted_identity_that_was_never_used_and_is_over_is_recovered_from() -> None:
    """The power went between the hub's grant and the first login, and came back after a year."""
    life = Life()

    async def away(started: Started) -> None:
        life.office.open = True
        await life.clock.sleep(20 * SECOND)

    async def scenario(started: Started) -> None:
        await life.until(lambda: started.link.connected, DAY_NS)
        assert life.office.recoveries == 1

    life.live(nothing, claim_file(1))
    life.office.revoked |= set(life.office.granted.values())
    verdict, life.office.verdict = life.office.verdict, lambda identity: LINK_DOWN  # type: ignore[method-assign]
    life.live(away, claim_file(2))
    life.office.verdict = verdict  # type: ignore[method-assign]
    assert life.disk.peek(CANDIDATE) is not None
    life.elapsed_ns += 300 * DAY_NS
    life.live(scenario)


def test_a_damaged_identity_stops_no_device() -> None:
    """It starts, says what it needs, and a new claim mends it."""
    life = Life()

    async def scenario(started: Started) -> None:
        await life.clock.sleep(60 * SECOND)
        assert not started.link.connected
        assert "ask for a new claim file" in started.agent.membership.problem()

    async def mended(started: Started) -> None:
        await life.until(lambda: started.link.connected, DAY_NS)

    life.live(nothing, claim_file(1))
    key = life.identity.key
    for rot in (b"{", encode(msgspec.structs.replace(life.identity, key=key.replace("M", "N", 1)))):
        asyncio.run(write_atomic(life.disk, IDENTITY, rot))
        life.live(scenario)
    life.live(mended, claim_file(2))


def test_every_start_is_a_session_of_its_own() -> None:
    """So that the hub can tell a restart from a clone."""
    life = Life()

    async def nothing(started: Started) -> None:
        await life.clock.sleep(SECOND)

    for _ in range(3):
        life.live(nothing, claim_file())
    said = [msgspec.json.decode(data, type=Status) for topic, data in life.office.air.published if "status" in topic]
    assert len({one.session for one in said if one.online}) == 3
    assert all(len(one.session) == 32 for one in said if one.online)
