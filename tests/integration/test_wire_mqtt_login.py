"""Certificates at a real mosquitto: accepted, refused with the reason, exchanged while the link works."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samples.certificates import DAY, Authority
from tests.servers.certificate_broker import NEEDS_MOSQUITTO, CertificateBroker
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.ports import Inbound, LinkError, LoginRefusedError

pytestmark = NEEDS_MOSQUITTO


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[CertificateBroker]:
    """A running broker."""
    one = CertificateBroker(tmp_path)
    yield one
    one.kill()


def login(pair: tuple[str, str], name: str = "d1") -> Credentials:
    """Credentials of a certificate and its key."""
    return Credentials(name, certificate=pair[0], key=pair[1])


async def until_up(link: MqttLink) -> None:
    """Start it and wait for the broker's yes."""
    up = asyncio.Event()
    link.on_up = up.set
    await link.start()
    await asyncio.wait_for(up.wait(), 5)


async def until_refused(link: MqttLink) -> str:
    """Start it and wait for the broker's no."""
    await link.start()
    async with asyncio.timeout(5):
        while not link.refused:
            await asyncio.sleep(0.01)
    return link.trouble


def test_a_certificate_is_a_login_and_its_name_the_username(broker: CertificateBroker) -> None:
    """The broker's log names the device."""

    async def scenario() -> None:
        link = MqttLink(broker.at(), login(broker.authority.issue("d1")))
        await until_up(link)
        await link.publish("t", b"x")
        assert (link.trouble, link.refused) == ("", False)
        await link.stop()
        assert "u'd1'" in broker.log()

    asyncio.run(scenario())


def test_a_refused_certificate_is_told_apart_from_a_broker_out_of_reach(
    broker: CertificateBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Expired, revoked, of a stranger, and none: each refused at once, with the broker's own reason, said once."""
    revoked = broker.authority.issue("d1")
    broker.revoke(revoked[0])
    cases = {
        "expired": login(broker.authority.issue("d1", -2 * DAY, -DAY)),
        "revoked": login(revoked),
        "unknown ca": login(Authority("another").issue("d1")),
        "certificate required": Credentials("d1", "no certificate at all"),
    }

    async def scenario(what: str, credentials: Credentials) -> None:
        link = MqttLink(broker.at(), credentials)
        assert what in (await until_refused(link)).lower().replace("_", " ")
        await asyncio.sleep(1)
        await link.stop()

    async def nobody_there() -> None:
        link = MqttLink(broker.at(), login(revoked))
        await link.start()
        while not link.trouble:
            await asyncio.sleep(0.01)
        assert not link.refused
        await link.stop()

    for what, credentials in cases.items():
        caplog.clear()
        asyncio.run(scenario(what, credentials))
        assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1, caplog.text
    broker.kill()
    asyncio.run(nobody_there())


def test_credentials_are_exchanged_without_losing_a_message(broker: CertificateBroker) -> None:
    """Messages published all the while arrive; the last will does not; subscriptions stay."""

    async def scenario() -> None:
        watcher = MqttLink(broker.at(), login(broker.authority.issue("watcher"), "watcher"))
        got: list[bytes] = []
        link = MqttLink(
            broker.at(), login(broker.authority.issue("d1")), will=Will("up/d1/status", b"gone")
        )  # fmt: skip

        def on_message(message: Inbound) -> None:
            got.append(message.payload)
            message.ack()

        watcher.on_message = link.on_message = on_message
        await watcher.subscribe("up/#")
        await link.subscribe("dn/#")
        await until_up(watcher)
        await until_up(link)

        async def send_always() -> None:
            for number in range(200):
                await watcher.publish("dn/d1", b"%d" % number)

        sending = asyncio.create_task(send_always())
        for _ in range(3):
            await link.change(login(broker.authority.issue("d1")))
            assert link.connected or link.trouble == ""
        await sending
        async with asyncio.timeout(5):
            while len(set(got)) < 200:
                await asyncio.sleep(0.01)
        assert b"gone" not in got, broker.log()
        await link.stop()
        await watcher.stop()

    asyncio.run(scenario())


def test_a_change_that_the_broker_refuses_changes_nothing(broker: CertificateBroker) -> None:
    """The link comes back with the credentials of before; so it does when nobody answers."""

    async def scenario() -> None:
        link = MqttLink(broker.at(), login(broker.authority.issue("d1")))
        await until_up(link)
        with pytest.raises(LoginRefusedError, match=r"(?i)expired"):
            await link.change(login(broker.authority.issue("d1", -2 * DAY, -DAY)))
        pair = broker.authority.issue("d1")
        with pytest.raises(LinkError):
            await link.change(login((pair[0], broker.authority.issue("d1")[1])))
        async with asyncio.timeout(5):
            while not link.connected:
                await asyncio.sleep(0.01)
        await link.publish("t", b"x")
        broker.kill()
        with pytest.raises(LinkError) as unreachable:
            await link.change(login(pair))
        assert not isinstance(unreachable.value, LoginRefusedError)
        await link.stop()

    asyncio.run(scenario())


def test_a_link_that_was_refused_takes_new_credentials_at_once(broker: CertificateBroker) -> None:
    """Recovery does not wait for the pause between two attempts."""

    async def scenario() -> None:
        link = MqttLink(broker.at(), login(broker.authority.issue("d1", -2 * DAY, -DAY)))
        await until_refused(link)
        await asyncio.sleep(2)
        await asyncio.wait_for(link.change(login(broker.authority.issue("d1"))), 1)
        await link.stop()

    asyncio.run(scenario())


def test_credentials_do_not_show_their_secrets() -> None:
    """Not in a log line, not in a traceback."""
    text = repr(Credentials("d1", "a-password", certificate="CERT", key="a-key"))
    assert "a-password" not in text
    assert "a-key" not in text
