"""mosquitto as the hub runs it: a real child, mutual TLS, real clients, and everything it has to refuse."""

import asyncio
import contextlib
import datetime
import os
import select
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud.adapters.device_certificates import DeviceAuthority
from cloud.adapters.mosquitto_broker import MosquittoBroker, find
from cloud.adapters.mosquitto_files import Seat
from cloud.ports import BrokerError, RevokedCertificate, Roster
from tests.samples.device_keys import csr, hub_authority, new_key, pem
from tests.servers.clients import connected, free_port
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.identity import Broker

pytestmark = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")

ROOT = "fl/1"
PASSWORD = "the enrolment password"


class Hub:
    """A broker as the hub runs it, and logins for it."""

    def __init__(self, directory: Path) -> None:
        tls, self.authority = hub_authority(directory / "tls")
        seat = Seat("127.0.0.1", free_port(), free_port(), "127.0.0.1", tls, directory / "broker", ROOT)
        self.directory = seat.directory
        self.broker = MosquittoBroker(find(""), seat, self.authority, PASSWORD)

    def login(self, name: str) -> Credentials:
        """A program's or a device's."""
        life = datetime.timedelta(days=1)
        certificate, key = self.authority.login(name, life, datetime.datetime.now(datetime.UTC))
        return Credentials(name, certificate=certificate, key=key)

    def device(self, name: str, authority: DeviceAuthority | None = None) -> tuple[Credentials, str]:
        """A device's login, and its serial."""
        key = new_key()
        now_ns = int(datetime.datetime.now(datetime.UTC).timestamp() * 1e9)
        made = (authority or self.authority).issue(name, csr(key), now_ns)
        return Credentials(name, certificate=made.pem, key=pem(key)), made.serial


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Hub]:
    """It runs, and knows of nobody to refuse."""
    hub = Hub(directory)
    try:
        await hub.broker.admit(Roster())
        yield hub
    finally:
        await hub.broker.stop()


async def comes_in(endpoint: Broker, credentials: Credentials, patience_s: float = 1.5) -> bool:
    """Does the broker accept this login?"""
    link = MqttLink(endpoint, credentials)
    up = asyncio.Event()
    link.on_up = up.set
    await link.start()
    try:
        async with asyncio.timeout(patience_s):
            await up.wait()
    except TimeoutError:
        return False
    finally:
        await link.stop()
    return True


def revoked(name: str, serial: str) -> RevokedCertificate:
    """As the hub's database says it."""
    return RevokedCertificate(serial, name, 1_700_000_000 * 1_000_000_000)


def test_only_certificates_of_the_hubs_authority_come_in(tmp_path: Path) -> None:
    """No certificate, another authority's, and the server's own are refused; a device is who its certificate says."""

    async def scenario() -> None:
        async with running(tmp_path) as hub:
            place = hub.broker.endpoint
            _, other = hub_authority(tmp_path / "other")
            server = Credentials(
                "127.0.0.1",
                certificate=(tmp_path / "tls/server.pem").read_text(),
                key=(tmp_path / "tls/server.key").read_text(),
            )
            refused = [
                Credentials("p01", "any"),
                hub.device("p01", other)[0],
                server,
                Credentials("enrol", PASSWORD),
            ]
            answers = await asyncio.gather(*(comes_in(place, one) for one in refused))
            assert answers == [False] * 4
            assert await comes_in(place, hub.device("p01")[0])

    asyncio.run(scenario())


def test_a_device_reaches_its_own_topics_and_nothing_else(tmp_path: Path) -> None:
    """Neither by publishing, nor by subscribing, nor by another device's client id."""

    async def scenario() -> None:
        async with (
            running(tmp_path) as hub,
            connected(hub.broker.endpoint, hub.login("hub")) as boss,
            connected(hub.broker.endpoint, hub.device("p01")[0]) as one,
            connected(hub.broker.endpoint, hub.device("p02")[0]) as two,
        ):
            await boss.link.subscribe(f"{ROOT}/#")
            await one.link.subscribe(f"{ROOT}/#", f"{ROOT}/dn/p02/desired", f"{ROOT}/blob/+/+")
            await one.link.publish(f"{ROOT}/up/p02/status", b"forged")
            await one.link.publish(f"{ROOT}/dn/p02/desired", b"forged", retain=True)
            await one.link.publish(f"{ROOT}/up/p01/status", b"mine")
            await boss.received(f"{ROOT}/up/p01/status")
            assert [topic for topic, _ in boss.inbox] == [f"{ROOT}/up/p01/status"]
            await boss.link.publish(f"{ROOT}/dn/p02/desired", b"for two")
            await boss.link.publish(f"{ROOT}/blob/{'a' * 64}/0", b"for all")
            await one.received(f"{ROOT}/blob/{'a' * 64}/0")
            assert {topic for topic, _ in one.inbox} == {f"{ROOT}/blob/{'a' * 64}/0"}
            thief, _ = hub.device("p01")
            assert await comes_in(hub.broker.endpoint, Credentials("p02", certificate=thief.certificate, key=thief.key))
            assert two.link.connected
            assert two.downs == 0

    asyncio.run(scenario())


def test_the_aggregator_reaches_federated_traffic_only(tmp_path: Path) -> None:
    """It can give no device a model, and does not hear what devices report."""

    async def scenario() -> None:
        async with (
            running(tmp_path) as hub,
            connected(hub.broker.endpoint, hub.login("aggregator")) as aggregator,
            connected(hub.broker.endpoint, hub.device("p01")[0]) as device,
        ):
            await device.link.subscribe(f"{ROOT}/dn/p01/desired", f"{ROOT}/dn/p01/fed")
            await aggregator.link.subscribe(f"{ROOT}/up/+/reported", f"{ROOT}/up/+/fed", f"{ROOT}/up/+/blob/#")
            await aggregator.link.publish(f"{ROOT}/dn/p01/desired", b"forged", retain=True)
            await aggregator.link.publish(f"{ROOT}/dn/p01/fed", b"task")
            await device.received(f"{ROOT}/dn/p01/fed")
            await device.link.publish(f"{ROOT}/up/p01/reported", b"not for it")
            await device.link.publish(f"{ROOT}/up/p01/fed", b"reply")
            await device.link.publish(f"{ROOT}/up/p01/blob/{'a' * 64}/0", b"chunk")
            await aggregator.received(f"{ROOT}/up/p01/blob/{'a' * 64}/0")
            assert [payload for _, payload in device.inbox] == [b"task"]
            assert {payload for _, payload in aggregator.inbox} == {b"reply", b"chunk"}

    asyncio.run(scenario())


def test_the_enrolment_listener_serves_enrolment_only(tmp_path: Path) -> None:
    """With the right password; its clients hear their own answers and nobody else's."""

    async def scenario() -> None:
        async with running(tmp_path) as hub:
            place = hub.broker.enrolment
            assert not await comes_in(place, Credentials("enrol", "wrong", "enrol-1"))
            assert not await comes_in(place, Credentials("", "", "enrol-1"))
            async with (
                connected(hub.broker.endpoint, hub.login("hub")) as boss,
                connected(place, Credentials("enrol", PASSWORD, "enrol-1")) as new,
                connected(place, Credentials("enrol", PASSWORD, "enrol-2")) as spy,
            ):
                await boss.link.subscribe(f"{ROOT}/#")
                await new.link.subscribe(f"{ROOT}/enrol/dn/enrol-1")
                await spy.link.subscribe(f"{ROOT}/enrol/dn/+", f"{ROOT}/#")
                await spy.link.publish(f"{ROOT}/up/p01/status", b"forged")
                await spy.link.publish(f"{ROOT}/enrol/up/enrol-1", b"forged")
                await new.link.publish(f"{ROOT}/enrol/up/enrol-1", b"hello")
                await boss.received(f"{ROOT}/enrol/up/enrol-1")
                assert boss.inbox == [(f"{ROOT}/enrol/up/enrol-1", b"hello")]
                await boss.link.publish(f"{ROOT}/enrol/dn/enrol-1", b"welcome")
                await new.received(f"{ROOT}/enrol/dn/enrol-1")
                await boss.link.publish(f"{ROOT}/enrol/dn/enrol-2", b"last")
                await spy.received(f"{ROOT}/enrol/dn/enrol-2")
                assert spy.inbox == [(f"{ROOT}/enrol/dn/enrol-2", b"last")]

    asyncio.run(scenario())


def test_a_revoked_device_is_cut_off_live_and_stays_out(tmp_path: Path) -> None:
    """Nothing that it publishes after the hub's call has returned arrives; others notice nothing."""

    async def scenario() -> None:
        async with (
            running(tmp_path) as hub,
            connected(hub.broker.endpoint, hub.login("hub")) as boss,
        ):
            credentials, serial = hub.device("p01")
            async with (
                connected(hub.broker.endpoint, credentials) as victim,
                connected(hub.broker.endpoint, hub.device("p02")[0]) as other,
            ):
                await boss.link.subscribe(f"{ROOT}/up/#")
                await victim.link.publish(f"{ROOT}/up/p01/status", b"before")
                await boss.received(f"{ROOT}/up/p01/status")
                boss.inbox.clear()
                await hub.broker.admit(Roster(revoked=(revoked("p01", serial),), barred=frozenset({"p01"})))
                await victim.down()
                with contextlib.suppress(Exception):
                    await victim.link.publish(f"{ROOT}/up/p01/status", b"after")
                assert not await comes_in(hub.broker.endpoint, credentials)
                assert await comes_in(hub.broker.endpoint, hub.device("p01")[0])  # another certificate: yet barred
                async with connected(hub.broker.endpoint, hub.device("p01")[0]) as barred:
                    await barred.link.publish(f"{ROOT}/up/p01/status", b"after")
                await other.link.publish(f"{ROOT}/up/p02/status", b"as ever")
                await boss.received(f"{ROOT}/up/p02/status")
                assert boss.inbox == [(f"{ROOT}/up/p02/status", b"as ever")]
                assert (other.downs, boss.downs) == (0, 0)

    asyncio.run(scenario())


def test_replaced_hardware_goes_and_its_successor_stays(tmp_path: Path) -> None:
    """One certificate of a name is revoked, another is good; a device let in again is heard again."""

    async def scenario() -> None:
        async with (
            running(tmp_path) as hub,
            connected(hub.broker.endpoint, hub.login("hub")) as boss,
        ):
            await boss.link.subscribe(f"{ROOT}/up/#")
            (old, serial), (new, _) = hub.device("p01"), hub.device("p01")
            await hub.broker.admit(Roster(barred=frozenset({"p01"})))
            async with connected(hub.broker.endpoint, old) as before:
                await hub.broker.admit(Roster(revoked=(revoked("p01", serial),)))
                await before.down()
                async with connected(hub.broker.endpoint, new) as after:
                    await after.link.publish(f"{ROOT}/up/p01/status", b"new")
                    await boss.received(f"{ROOT}/up/p01/status")
                    assert after.downs == 0
            assert boss.inbox == [(f"{ROOT}/up/p01/status", b"new")]

    asyncio.run(scenario())


def test_changes_in_quick_succession_are_all_in_force(tmp_path: Path) -> None:
    """mosquitto forgets a signal that comes while it reloads; none of ours does."""

    async def scenario() -> None:
        async with running(tmp_path) as hub:
            devices = {f"p{number:02}": hub.device(f"p{number:02}") for number in range(12)}
            out: list[RevokedCertificate] = []
            for name, (_, serial) in devices.items():
                out.append(revoked(name, serial))
                await hub.broker.admit(Roster(revoked=tuple(out)))
            answers = await asyncio.gather(*(comes_in(hub.broker.endpoint, one) for one, _ in devices.values()))
            assert not any(answers)
            assert await comes_in(hub.broker.endpoint, hub.device("p00")[0])

    asyncio.run(scenario())


def test_it_comes_back_by_itself_with_the_rules_in_force(tmp_path: Path) -> None:
    """After a kill -9; what was decided while it was down holds when it is up."""

    async def scenario() -> None:
        async with (
            running(tmp_path) as hub,
            connected(hub.broker.endpoint, hub.login("hub")) as boss,
        ):
            credentials, serial = hub.device("p01")
            pid = hub.broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            roster = Roster(revoked=(revoked("p01", serial),))
            with contextlib.suppress(BrokerError):  # it may have noticed already, or not
                await hub.broker.admit(roster)
            await boss.down()
            await boss.up_again()
            await hub.broker.admit(roster)
            assert hub.broker.pid != pid
            assert not await comes_in(hub.broker.endpoint, credentials)

    asyncio.run(scenario())


def test_it_ends_with_the_hub_however_that_ends(tmp_path: Path) -> None:
    """A hub that is killed leaves no broker behind, which would keep its ports."""
    program = (
        "import asyncio, pathlib, sys\n"
        "from cloud.ports import Roster\n"
        "from tests.integration.test_hub_mosquitto import Hub\n"
        "async def main():\n"
        "    hub = Hub(pathlib.Path(sys.argv[1]))\n"
        "    await hub.broker.admit(Roster())\n"
        "    print(hub.broker.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as hub:
        assert hub.stdout is not None
        broker = os.pidfd_open(int(hub.stdout.readline()))
        hub.kill()
        hub.wait()
    ended, _, _ = select.select([broker], [], [], 10)
    os.close(broker)
    assert ended


def test_a_missing_program_is_named_with_what_to_install(tmp_path: Path) -> None:
    """So that the operator need not guess."""
    with pytest.raises(BrokerError, match="package 'mosquitto'"):
        find(str(tmp_path / "nowhere"))


def test_ports_in_use_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ports and the place of its log."""
    monkeypatch.setattr("cloud.adapters.mosquitto_broker.START_TIMEOUT_S", 1.5)

    async def scenario() -> None:
        async with running(tmp_path) as hub:
            second = MosquittoBroker(hub.broker._program, hub.broker._seat, hub.authority, PASSWORD)
            with pytest.raises(BrokerError, match="in use"):
                await second.admit(Roster())
            await second.stop()

    asyncio.run(scenario())


def test_nothing_of_it_is_for_others_to_read(tmp_path: Path) -> None:
    """Configuration, rules, password and list: for their owner only, and nothing listens beyond loopback."""

    async def scenario() -> None:
        async with running(tmp_path) as hub:
            for path in hub.directory.iterdir():
                assert path.name == "mosquitto.log" or path.stat().st_mode & 0o077 == 0, path
            lines = (hub.directory / "mosquitto.conf").read_text().splitlines()
            places = [line.split()[2] for line in lines if line.startswith("listener ")]
            assert places == ["127.0.0.1", "127.0.0.1"]
            with pytest.raises(ssl.SSLError):
                await asyncio.open_connection("127.0.0.1", hub.broker.endpoint.port, ssl=ssl.create_default_context())

    asyncio.run(scenario())


def test_a_connection_that_could_not_be_ended_is_ended_at_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not in force is said, and the same roster told again does the rest."""

    async def fails(*_: object) -> None:
        raise ConnectionError("no way")

    async def scenario() -> None:
        async with running(tmp_path) as hub:
            credentials, serial = hub.device("p01")
            roster = Roster(revoked=(revoked("p01", serial),))
            async with connected(hub.broker.endpoint, credentials) as victim:
                with monkeypatch.context() as patch:
                    patch.setattr("cloud.adapters.mosquitto_broker.take_over", fails)
                    with pytest.raises(BrokerError, match="no way"):
                        await hub.broker.admit(roster)
                assert victim.link.connected
                await hub.broker.admit(roster)
                await victim.down()

    asyncio.run(scenario())
