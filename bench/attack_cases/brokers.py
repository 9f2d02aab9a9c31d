"""Attacks on the broker by whoever can reach it: a real mosquitto as the hub runs it, and real clients."""

import asyncio
import contextlib
import datetime
import shutil
import socket
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.attack_cases.attack import Attack, Outcome
from bench.attack_cases.identities import new_key, signing_request
from bench.replacing import replaced
from cloud.adapters import mosquitto_broker, mosquitto_files
from cloud.adapters.certificates import TlsFiles, ensure
from cloud.adapters.device_certificates import DeviceAuthority
from cloud.adapters.mosquitto_broker import MosquittoBroker, find
from cloud.adapters.mosquitto_files import Seat
from cloud.ports import RevokedCertificate, Roster
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.identity import Broker
from wire.ports import Inbound, LinkError
from wire.topics import Topics

TOPICS = Topics()
PASSWORD = "the enrolment password"  # noqa: S105 - of a broker that lives for seconds
SPOOFED, REVOKED, PACKETS = (
    "topic spoofing between devices",
    "revoked device keeps access",
    "broker: oversize, bad CONNECT",
)
PATIENCE_S = 10.0
SILENCE_S = 1.0
"""What has not happened by then does not happen."""


class House:
    """A hub's broker, and logins for it."""

    def __init__(self, folder: Path) -> None:
        self.tls, self.authority = _authority(folder / "tls")
        _, self.foreign = _authority(folder / "foreign")
        place, port, enrol_port = "127.0.0.1", _free_port(), _free_port()
        seat = Seat(place, port, enrol_port, place, self.tls, folder / "broker", TOPICS.root)
        self.broker = MosquittoBroker(find(""), seat, self.authority, PASSWORD)

    def device(self, name: str, authority: DeviceAuthority | None = None) -> tuple[Credentials, str]:
        """A device's login, and the serial of its certificate."""
        key = new_key()
        now_ns = int(datetime.datetime.now(datetime.UTC).timestamp() * 1e9)
        made = (authority or self.authority).issue(name, signing_request(key), now_ns)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Credentials(name, certificate=made.pem, key=pem), made.serial

    def hub(self) -> Credentials:
        """The hub's own login."""
        life = datetime.timedelta(days=1)
        certificate, key = self.authority.login("hub", life, datetime.datetime.now(datetime.UTC))
        return Credentials("hub", certificate=certificate, key=key)


class Client:
    """A link, and what it has heard."""

    def __init__(self, place: Broker, credentials: Credentials) -> None:
        self.link = MqttLink(place, credentials)
        self.heard: list[tuple[str, bytes]] = []
        self.downs = 0
        self._up, self._news = asyncio.Event(), asyncio.Event()
        self.link.on_message, self.link.on_up, self.link.on_down = self._take, self._up.set, self._down

    async def hears(self, payload: bytes) -> bool:
        """Does this arrive?"""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                while not any(payload in one for _, one in self.heard):
                    self._news.clear()
                    await self._news.wait()
        return any(payload in one for _, one in self.heard)

    async def comes_in(self, patience_s: float = PATIENCE_S) -> bool:
        """Does the broker accept it?"""
        await self.link.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._up.wait()
        return self._up.is_set()

    async def tries(self, topic: str, payload: bytes) -> None:
        """Publish, whatever the broker says."""
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await self.link.publish(topic, payload)

    def _take(self, message: Inbound) -> None:
        self.heard.append((message.topic, message.payload))
        message.ack()
        self._news.set()

    def _down(self, reason: str) -> None:
        self.downs += 1


Script = Callable[[House, contextlib.AsyncExitStack], Coroutine[Any, Any, Outcome]]


def at_broker(script: Script) -> Callable[[], Outcome]:
    """A try at a broker of its own."""

    async def play(folder: Path) -> Outcome:
        async with contextlib.AsyncExitStack() as stack:
            house = House(folder)
            stack.push_async_callback(house.broker.stop)
            await house.broker.admit(Roster())
            return await script(house, stack)

    def attempt() -> Outcome:
        with tempfile.TemporaryDirectory(prefix="fleetloop-attack-") as folder:
            return asyncio.run(play(Path(folder)))

    return attempt


async def _enter(house: House, stack: contextlib.AsyncExitStack, credentials: Credentials) -> Client:
    client = Client(house.broker.endpoint, credentials)
    stack.push_async_callback(client.link.stop)
    if not await client.comes_in():
        raise RuntimeError(f"{credentials.username} does not get in")
    return client


async def _publishes_as_another(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    hub = await _enter(house, stack, house.hub())
    await hub.link.subscribe(TOPICS.all_up("reported"))
    thief = await _enter(house, stack, house.device("p02")[0])
    await thief.tries(TOPICS.up("p01", "reported"), b"forged")
    return Outcome(await hub.hears(b"forged"), "the broker drops it")


async def _listens_to_another(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    hub = await _enter(house, stack, house.hub())
    thief = await _enter(house, stack, house.device("p02")[0])
    with contextlib.suppress(LinkError):
        await thief.link.subscribe(TOPICS.dn("p01", "desired"), f"{TOPICS.root}/dn/#", "#")
    await hub.link.publish(TOPICS.dn("p01", "desired"), b"for p01 alone", retain=True)
    return Outcome(await thief.hears(b"for p01 alone"), "the broker keeps it back")


async def _session_taken_over(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    """With a certificate of its own, and the victim's client id."""
    victim = await _enter(house, stack, house.device("p01")[0])
    login, _ = house.device("p02")
    stolen = Credentials("p02", client_id="p01", certificate=login.certificate, key=login.key)
    await _enter(house, stack, stolen)
    await asyncio.sleep(SILENCE_S / 2)
    return Outcome(victim.downs > 0, "the victim keeps its session")


async def _foreign_certificate(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    return await _admitted(house, stack, house.device("p01", house.foreign)[0])


async def _without_certificate(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    return await _admitted(house, stack, Credentials("p01", "any password"))


async def _admitted(house: House, stack: contextlib.AsyncExitStack, credentials: Credentials) -> Outcome:
    client = Client(house.broker.endpoint, credentials)
    stack.push_async_callback(client.link.stop)
    return Outcome(await client.comes_in(2 * SILENCE_S), "the broker refuses the login")


async def _out_of_enrolment(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    """The enrolment password stands in every claim file."""
    hub = await _enter(house, stack, house.hub())
    await hub.link.subscribe(TOPICS.all_up("reported"))
    guest = Client(house.broker.enrolment, Credentials("enrol", PASSWORD, "enrol-1"))
    stack.push_async_callback(guest.link.stop)
    await guest.comes_in()
    await guest.tries(TOPICS.up("p01", "reported"), b"forged")
    return Outcome(await hub.hears(b"forged"), "the broker drops it")


async def _oversize(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    hub = await _enter(house, stack, house.hub())
    await hub.link.subscribe(TOPICS.all_up("telemetry"))
    device = await _enter(house, stack, house.device("p01")[0])
    await device.tries(TOPICS.up("p01", "telemetry"), b"flood" * 200_000)
    return Outcome(await hub.hears(b"flood"), "the broker cuts the connection")


async def _revoked_live(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    hub = await _enter(house, stack, house.hub())
    await hub.link.subscribe(TOPICS.all_up("reported"))
    login, serial = house.device("p01")
    device = await _enter(house, stack, login)
    await house.broker.admit(Roster(revoked=(_revoked("p01", serial),), barred=frozenset({"p01"})))
    await device.tries(TOPICS.up("p01", "reported"), b"after")
    return Outcome(await hub.hears(b"after"), "nothing of it arrives")


async def _revoked_later(house: House, stack: contextlib.AsyncExitStack) -> Outcome:
    """The device was away when it was revoked."""
    login, serial = house.device("p01")
    await house.broker.admit(Roster(revoked=(_revoked("p01", serial),)))
    return await _admitted(house, stack, login)


def _revoked(name: str, serial: str) -> RevokedCertificate:
    return RevokedCertificate(serial, name, 1_700_000_000 * 1_000_000_000)


# Guards, taken away.


def _without_rules() -> AbstractContextManager[None]:
    return replaced(mosquitto_broker, access_rules=lambda root, barred: "pattern readwrite #\n")


def _configured(**changes: str) -> AbstractContextManager[None]:
    """Lines of the configuration that begin so are others."""
    written = mosquitto_files.configuration

    def configuration(seat: Seat) -> str:
        lines = written(seat).splitlines()
        return "\n".join(changes.get(line.partition(" ")[0], line).format(seat=seat) for line in lines) + "\n"

    return replaced(mosquitto_broker, configuration=configuration)


def _deaf_to_revocation() -> AbstractContextManager[None]:
    admit = MosquittoBroker.admit

    async def admit_all(self: MosquittoBroker, roster: Roster) -> None:
        await admit(self, Roster())

    return replaced(MosquittoBroker, admit=admit_all)


def _authority(folder: Path) -> tuple[TlsFiles, DeviceAuthority]:
    tls = ensure(folder, ("127.0.0.1",), datetime.datetime.now(datetime.UTC))
    return tls, DeviceAuthority(folder, datetime.timedelta(days=14))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _nobody_revoked() -> AbstractContextManager[None]:
    listed = DeviceAuthority.revocation_list
    return replaced(DeviceAuthority, revocation_list=lambda self, revoked, now: listed(self, (), now))


ATTACKS = () if shutil.which("mosquitto") is None else (
    Attack("report under another device's name", SPOOFED, "topic rules by the certificate's name",
           "the broker drops it", at_broker(_publishes_as_another), _without_rules, heavy=True),
    Attack("listening to another device's assignment", SPOOFED, "topic rules by the certificate's name",
           "the broker keeps it back", at_broker(_listens_to_another), _without_rules, heavy=True),
    Attack("session of another device taken over", SPOOFED, "client id is the certificate's name",
           "the victim keeps its session", at_broker(_session_taken_over),
           lambda: _configured(use_username_as_clientid="use_username_as_clientid false"), heavy=True),
    Attack("certificate of another authority", SPOOFED, "certificates of the hub's authority only",
           "the broker refuses the login", at_broker(_foreign_certificate),
           lambda: _configured(cafile="cafile {seat.directory}/../foreign/ca.pem", crlfile="# none"), heavy=True),
    Attack("login without a certificate", SPOOFED, "a certificate is required", "the broker refuses the login",
           at_broker(_without_certificate),
           lambda: _configured(require_certificate="require_certificate false", crlfile="# none",
                               use_identity_as_username="# none", use_username_as_clientid="# none",
                               allow_anonymous="allow_anonymous true"), heavy=True),
    Attack("enrolment login on the fleet's topics", SPOOFED, "rules of the enrolment listener",
           "the broker drops it", at_broker(_out_of_enrolment),
           lambda: replaced(mosquitto_broker, enrolment_rules=lambda root: "pattern readwrite #\n"), heavy=True),
    Attack("packet of a megabyte", PACKETS, "size limit of packets", "the broker cuts the connection",
           at_broker(_oversize), lambda: _configured(max_packet_size="# none"), heavy=True),
    Attack("revoked while it is connected", REVOKED, "revocation reaches live connections",
           "nothing of it arrives", at_broker(_revoked_live), _deaf_to_revocation, heavy=True),
    Attack("revoked while it was away", REVOKED, "list of revoked certificates", "the broker refuses the login",
           at_broker(_revoked_later),
           _nobody_revoked, heavy=True),
)  # fmt: skip
