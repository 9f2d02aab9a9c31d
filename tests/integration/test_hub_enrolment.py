"""Enrolment on real SQLite: tokens, verifiers, repeated requests."""

import asyncio
from pathlib import Path

from cloud.service import enrolment
from cloud.service.effects import Wake
from cloud.service.enrolment import NewClaim
from tests.scenes.hub_steps import hub
from tests.worlds.hub_world import ROOT, World


class TestEnrolment:
    """From token to identity."""

    def test_repeating_the_request_repeats_the_answer(self, tmp_path: Path) -> None:
        """Idempotent: the broker learns of the login once, the device may ask again."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            assert Wake.USERS in world.last.wakes
            again = await world.request("client-7", f"token-of-p01-{'x' * 20}")
            assert (again.ok, again.username) == (True, "p01")
            assert Wake.USERS not in world.last.wakes

        hub(tmp_path, scenario)

    def test_a_used_token_is_of_no_use_to_another_device(self, tmp_path: Path) -> None:
        """Another verifier with the same token is refused, and the identity stays."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            thief = await world.request("thief", f"token-of-p01-{'x' * 20}", "e" * 64)
            assert not thief.ok
            assert "already used" in thief.reason
            await world.outbox.users()
            assert world.control.users["p01"].verifier == "c" * 64

        hub(tmp_path, scenario)

    def test_a_new_claim_file_makes_the_unused_one_worthless(self, tmp_path: Path) -> None:
        """So a claim file that went astray can be replaced."""

        async def scenario(world: World) -> None:
            for token in ("lost", "newer"):
                new = NewClaim("p01", {}, False, token)
                await world.change(lambda conn, now_ns, new=new: enrolment.claim(conn, new, "test", now_ns))
            assert "unknown claim token" in (await world.request("x", "lost")).reason
            assert (await world.request("x", "newer")).ok

        hub(tmp_path, scenario)

    def test_unknown_expired_and_malformed_requests_say_why(self, tmp_path: Path) -> None:
        """Each with its own reason, on the client's own topic."""

        async def scenario(world: World) -> None:
            assert "unknown claim token" in (await world.request("x", "nonsense")).reason
            effects = await world.receive((ROOT.enrol("up", "x"), b'{"token": 5}'))
            assert b"EnrolRequest" in effects.publishes[0].payload

        hub(tmp_path, scenario)

    def test_a_broker_that_could_not_be_told_is_told_again(self, tmp_path: Path) -> None:
        """Or a revocation would wait for the next change."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            world.control.failures = 1
            performing = asyncio.create_task(world.outbox.run())
            world.outbox.post(world.last)
            async with asyncio.timeout(10):
                while not world.clock.alarms:
                    await asyncio.sleep(0.001)
                assert world.control.users == {}
                world.clock.alarms.pop()()
                while not world.control.users:
                    await asyncio.sleep(0.001)
            performing.cancel()

        hub(tmp_path, scenario)
