"""Certificates on real SQLite and with a real authority: enrolment, renewal, recovery, revocation, replacement."""

import asyncio
import base64
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlalchemy import select

from cloud.core.identity import MAX_LIVE_CERTIFICATES, RECOVERY_GRACE_NS
from cloud.ports import Roster
from cloud.service import enrolment, revocation
from cloud.service.certificates import Renewals
from cloud.service.effects import Wake
from cloud.service.enrolment import Door, NewClaim
from cloud.tables import audit, certificates, devices, members
from tests.samples.device_keys import Key, csr, hub_authority, new_key, recovery
from tests.scenes.hub_steps import released, roll_out, train_order
from tests.worlds.hub_world import ROOT, World
from wire.asks import AskRenewal, Refused, Renewed
from wire.codec import decode, encode
from wire.identity import EnrolReply, EnrolRequest, RecoverRequest
from wire.messages import Outcome, Status

DAY_NS = 24 * 3600 * 1_000_000_000
TODAY_NS = 1_800_000_000 * 1_000_000_000


class Fleet:
    """A world whose devices have certificates, and short words for what they ask."""

    def __init__(self, world: World) -> None:
        self.world = world
        _, self.authority = hub_authority(world.directory / "tls")
        world.door = Door(ROOT, self.authority)
        world.clock.ns = TODAY_NS
        self.renewals = Renewals(world.store, world.clock, self.authority)
        self._claims = 0

    async def claim(self, name: str, *, replaces: bool = False) -> str:
        """A new claim; its token."""
        self._claims += 1
        token = f"token-{self._claims}-of-{name}-{'x' * 20}"
        new = NewClaim(name, {"arm": "left"} if self._claims == 1 else None, None, token, replaces)
        await self.world.store.write(lambda conn: enrolment.claim(conn, new, "test", self.world.clock.now_ns()))
        return token

    async def enrol(self, token: str, key: Key) -> EnrolReply:
        """Ask for a certificate by a token."""
        return await self.ask(EnrolRequest(token=token, csr=csr(key)))

    async def ask(self, request: EnrolRequest | RecoverRequest) -> EnrolReply:
        """At the enrolment listener."""
        effects = await self.world.receive((ROOT.enrol("up", "client-1"), encode(request)))
        return decode(effects.publishes[0].payload, EnrolReply)

    async def renew(self, name: str, key: Key) -> Renewed | Refused:
        """Over the working link."""
        return await self.renewals.answer(name, AskRenewal(csr=csr(key)))

    async def row(self, name: str) -> Any:
        """The device's row."""
        query = select(devices).where(devices.c.name == name)
        return await self.world.store.read(lambda conn: conn.execute(query).one())

    async def revoke(self, name: str) -> None:
        """By an operator."""
        await self.world.change(lambda conn, now: revocation.revoke(conn, name, "lost", ("test", now), ROOT))

    async def count(self) -> int:
        """Certificates on record."""
        return len(await self.world.store.read(lambda conn: conn.execute(select(certificates)).all()))


def fleet(tmp_path: Path, scenario: Callable[[Fleet], Awaitable[None]]) -> None:
    """Run a scenario."""

    async def run() -> None:
        async with World(tmp_path) as world:
            await scenario(Fleet(world))

    asyncio.run(run())


class TestEnrolment:
    """From token and signing request to a certificate."""

    def test_the_certificate_names_the_device_and_serves_clients_only(self, tmp_path: Path) -> None:
        """Whatever subject was asked for; so no device can pose as another one, nor as the broker."""

        async def scenario(one: Fleet) -> None:
            key = new_key()
            reply = await one.enrol(await one.claim("p01"), key)
            assert (reply.ok, reply.username) == (True, "p01")
            made = x509.load_pem_x509_certificate(reply.certificate.encode())
            assert [str(part.value) for part in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["p01"]
            usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
            assert list(usage.value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
            assert made.public_key() == key.public_key()
            life = made.not_valid_after_utc.timestamp() - TODAY_NS / 1e9
            assert life == pytest.approx(14 * 86400, abs=1)
            row = await one.row("p01")
            assert row.certificate_serial == f"{made.serial_number:x}"
            assert row.certificate_expires_ns == int(made.not_valid_after_utc.timestamp()) * 1_000_000_000
            assert Wake.USERS in one.world.last.wakes

        fleet(tmp_path, scenario)

    def test_the_same_request_gets_the_same_certificate(self, tmp_path: Path) -> None:
        """A lost answer costs nothing: asked again, also with a new signature by the same key."""

        async def scenario(one: Fleet) -> None:
            key, token = new_key(), await one.claim("p01")
            first = await one.enrol(token, key)
            assert (await one.enrol(token, key)).certificate == first.certificate
            assert await one.count() == 1
            thief = await one.enrol(token, new_key())
            assert not thief.ok
            assert "already used" in thief.reason

        fleet(tmp_path, scenario)

    @pytest.mark.parametrize(
        ("request_", "why"),
        [
            (csr(ec.generate_private_key(ec.SECP384R1())), "P-256"),
            (csr(rsa.generate_private_key(65537, 2048)), "P-256"),
            (csr(ed25519.Ed25519PrivateKey.generate()), "P-256"),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "signing request"),
            ("x" * 8000, "signing request"),
            ("", "either"),
        ],
        ids=["curve", "rsa", "ed25519", "damaged", "nonsense", "nothing"],
    )
    def test_other_requests_are_refused_and_use_up_nothing(self, tmp_path: Path, request_: str, why: str) -> None:
        """With the reason; the token is good for the right request afterwards."""

        async def scenario(one: Fleet) -> None:
            token = await one.claim("p01")
            reply = await one.ask(EnrolRequest(token=token, csr=request_))
            assert not reply.ok
            assert why in reply.reason
            assert await one.count() == 0
            assert (await one.enrol(token, new_key())).ok

        fleet(tmp_path, scenario)

    def test_a_request_signed_by_another_key_is_refused(self, tmp_path: Path) -> None:
        """Or somebody could have a stranger's public key certified."""

        async def scenario(one: Fleet) -> None:
            der = bytearray(x509.load_pem_x509_csr(csr(new_key()).encode()).public_bytes(Encoding.DER))
            der[-1] ^= 1
            body = base64.b64encode(bytes(der)).decode()
            forged = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
            reply = await one.ask(EnrolRequest(token=await one.claim("p01"), csr=forged))
            assert not reply.ok

        fleet(tmp_path, scenario)

    def test_a_verifier_is_not_taken_where_certificates_are(self, tmp_path: Path) -> None:
        """Nor a certificate where passwords are; each says what to send."""

        async def scenario(one: Fleet) -> None:
            token = await one.claim("p01")
            assert "signing request" in (await one.ask(EnrolRequest(token=token, verifier="c" * 64))).reason
            one.world.door = Door(ROOT)
            assert "verifier" in (await one.enrol(token, new_key())).reason

        fleet(tmp_path, scenario)


class TestRenewal:
    """Over the working link."""

    def test_a_new_key_gets_a_new_certificate_and_the_old_one_stays_good(self, tmp_path: Path) -> None:
        """Until the new one has proven itself; asking again with the same key repeats the answer."""

        async def scenario(one: Fleet) -> None:
            await one.enrol(await one.claim("p01"), new_key())
            old = (await one.row("p01")).certificate_serial
            key = new_key()
            first, again = await one.renew("p01", key), await one.renew("p01", key)
            assert isinstance(first, Renewed)
            assert first == again
            assert (await one.row("p01")).certificate_serial != old
            await one.world.outbox.users()
            assert one.world.control.roster.revoked == ()

        fleet(tmp_path, scenario)

    def test_a_device_in_a_loop_is_told_to_wait(self, tmp_path: Path) -> None:
        """Its certificates are counted, not its questions."""

        async def scenario(one: Fleet) -> None:
            await one.enrol(await one.claim("p01"), new_key())
            for _ in range(MAX_LIVE_CERTIFICATES - 1):
                assert isinstance(await one.renew("p01", new_key()), Renewed)
            refused = await one.renew("p01", new_key())
            assert isinstance(refused, Refused)
            assert "wait" in refused.reason
            one.world.clock.ns += 15 * DAY_NS
            assert isinstance(await one.renew("p01", new_key()), Renewed)

        fleet(tmp_path, scenario)

    def test_a_bad_request_or_a_stranger_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        """The answer goes to the device; nothing raises."""

        async def scenario(one: Fleet) -> None:
            await one.enrol(await one.claim("p01"), new_key())
            assert isinstance(await one.renewals.answer("p01", AskRenewal(csr="nonsense")), Refused)
            assert isinstance(await one.renew("p02", new_key()), Refused)

        fleet(tmp_path, scenario)


class TestRecovery:
    """After the certificate has ended."""

    def test_the_old_key_gets_a_new_certificate(self, tmp_path: Path) -> None:
        """For another key; repeated with the same answer, and on record."""

        async def scenario(one: Fleet) -> None:
            old, new = new_key(), new_key()
            before = await one.enrol(await one.claim("p01"), old)
            one.world.clock.ns += 60 * DAY_NS
            request = recovery(old, before.certificate, csr(new))
            reply = await one.ask(request)
            assert (reply.ok, reply.username) == (True, "p01")
            assert x509.load_pem_x509_certificate(reply.certificate.encode()).public_key() == new.public_key()
            assert (await one.ask(request)).certificate == reply.certificate

        fleet(tmp_path, scenario)

    def test_proof_certificate_and_time_have_to_be_right(self, tmp_path: Path) -> None:
        """Another key's proof, a proof for another request, another fleet's certificate, more than a year."""

        async def scenario(one: Fleet) -> None:
            old, new = new_key(), new_key()
            mine = (await one.enrol(await one.claim("p01"), old)).certificate
            _, stranger = hub_authority(one.world.directory / "other")
            foreign = stranger.issue("p01", csr(old), TODAY_NS).pem
            own_login, _ = one.authority.login("p01", datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC))
            good = recovery(old, mine, csr(new))
            for request in (
                recovery(new_key(), mine, csr(new)),
                RecoverRequest(certificate=mine, csr=csr(new_key()), proof=good.proof),
                recovery(old, foreign, csr(new)),
                recovery(old, own_login, csr(new)),
                recovery(old, "nonsense", csr(new)),
                recovery(old, (one.world.directory / "tls" / "server.pem").read_text(), csr(new)),
                recovery(old, (one.world.directory / "tls" / "ca.pem").read_text(), csr(new)),
            ):
                reply = await one.ask(request)
                assert not reply.ok
                assert reply.reason
            one.world.clock.ns += 14 * DAY_NS + RECOVERY_GRACE_NS + DAY_NS
            assert "year" in (await one.ask(good)).reason
            assert await one.count() == 1

        fleet(tmp_path, scenario)

    def test_a_revoked_certificate_recovers_nothing(self, tmp_path: Path) -> None:
        """Neither by itself nor because the device came back with other hardware."""

        async def scenario(one: Fleet) -> None:
            old = new_key()
            mine = (await one.enrol(await one.claim("p01"), old)).certificate
            await one.revoke("p01")
            assert "revoked" in (await one.ask(recovery(old, mine, csr(new_key())))).reason
            assert (await one.enrol(await one.claim("p01"), new_key())).ok
            assert "revoked" in (await one.ask(recovery(old, mine, csr(new_key())))).reason

        fleet(tmp_path, scenario)


class TestRevocation:
    """What an operator takes away."""

    def test_nothing_of_a_revoked_device_is_heard_or_answered(self, tmp_path: Path) -> None:
        """Status, questions, renewals, its old request; the broker is told, and what is retained for it is cleared."""

        async def scenario(one: Fleet) -> None:
            key, token = new_key(), await one.claim("p01")
            await one.enrol(token, key)
            await one.world.online("p01")
            await one.revoke("p01")
            topics = [(sent.topic, sent.payload, sent.retain) for sent in one.world.last.publishes]
            assert topics == [
                (ROOT.up("p01", "status"), encode(Status(online=False)), True),
                (ROOT.dn("p01", "desired"), b"", True),
            ]
            await one.world.online("p01", boot=9)
            row = await one.row("p01")
            assert (row.online, row.boot) == (False, 1)
            assert isinstance(await one.renew("p01", new_key()), Refused)
            assert not (await one.enrol(token, key)).ok
            await one.world.outbox.users()
            roster = one.world.control.roster
            assert roster.barred == {"p01"}
            assert [entry.device for entry in roster.revoked] == ["p01"]
            assert "p01" not in roster.users

        fleet(tmp_path, scenario)

    def test_it_is_audited_once_and_a_new_claim_brings_the_device_back(self, tmp_path: Path) -> None:
        """With the same key, too; the old serial stays on the list until it ends."""

        async def scenario(one: Fleet) -> None:
            key = new_key()
            await one.enrol(await one.claim("p01"), key)
            await one.revoke("p01")
            await one.revoke("p01")
            trail = select(audit.c.detail).where(audit.c.action == "device.revoke")
            details = await one.world.store.read(lambda conn: conn.execute(trail).scalars().all())
            assert details == [{"reason": "lost"}]
            assert (await one.enrol(await one.claim("p01"), key)).ok
            await one.world.online("p01")
            assert (await one.row("p01")).online
            await one.world.outbox.users()
            assert one.world.control.roster.barred == frozenset()
            assert len(one.world.control.roster.revoked) == 1
            await one.revoke("p01")
            one.world.clock.ns += 15 * DAY_NS
            await one.world.outbox.users()
            assert one.world.control.roster == Roster(one.world.control.users)

        fleet(tmp_path, scenario)

    def test_a_revoked_device_leaves_its_rollout_without_counting_as_a_failure(self, tmp_path: Path) -> None:
        """Nothing will be heard of it."""

        async def scenario(one: Fleet) -> None:
            await one.enrol(await one.claim("p01"), new_key())
            await train_order(one.world)
            await released(one.world)
            await roll_out(one.world)
            await one.world.tick()
            await one.revoke("p01")
            query = select(members.c.outcome).where(members.c.device == "p01")
            assert await one.world.store.read(lambda conn: conn.scalar(query)) == Outcome.CANCELLED

        fleet(tmp_path, scenario)


class TestReplacement:
    """New hardware under an old name."""

    def test_the_old_hardware_is_out_when_the_new_one_is_in(self, tmp_path: Path) -> None:
        """Name, labels and history stay; the counts of the new hardware start again."""

        async def scenario(one: Fleet) -> None:
            old, new = new_key(), new_key()
            token = await one.claim("p01")
            await one.enrol(token, old)
            before = await one.row("p01")
            plain = await one.enrol(await one.claim("p01"), new)
            assert "replaces" in plain.reason
            assert (await one.enrol(await one.claim("p01", replaces=True), new)).ok
            after = await one.row("p01")
            assert after.labels == before.labels == {"arm": "left"}
            assert after.certificate_serial != before.certificate_serial
            await one.world.outbox.users()
            assert [entry.serial for entry in one.world.control.roster.revoked] == [before.certificate_serial]
            assert not (await one.enrol(token, old)).ok

        fleet(tmp_path, scenario)
