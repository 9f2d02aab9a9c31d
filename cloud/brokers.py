"""Part of `cloud.bootstrap`: the broker that the settings ask for, with the logins that go with it.

Secure by default: whatever the hub runs listens on loopback unless told otherwise, with TLS, and takes nobody who has
not proven who he is.
"""

import contextlib
import datetime
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.adapters import certificates
from cloud.adapters.certificates import TlsFiles
from cloud.adapters.device_certificates import DeviceAuthority
from cloud.adapters.embedded_broker import EmbeddedBroker, Listener
from cloud.adapters.external_broker import ExternalBroker
from cloud.adapters.mosquitto_broker import MosquittoBroker, find
from cloud.adapters.mosquitto_files import Seat
from cloud.core.access import AGGREGATOR, AGGREGATOR_USER, ENROL_USER, ENROLMENT, HUB, HUB_USER, Access, under
from cloud.ports import Authority, BrokerControl, BrokerUser
from cloud.settings import Settings
from wire.adapters.mqtt_link import Credentials
from wire.adapters.system import SystemIds
from wire.identity import Broker
from wire.topics import Topics

LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound to
"""Where a broker that listens everywhere is found by who runs beside it."""
LOGIN_LIFE = datetime.timedelta(days=825)
"""Of the certificates of the hub's own programs: made at every start, and for every start of an aggregator."""


@dataclass(frozen=True)
class BrokerAccess:
    """A broker, and how the hub's programs and the devices log in to it."""

    control: BrokerControl
    login: Callable[[str], Credentials]
    """Name of one of the hub's programs -> what it logs in with."""
    enrol_password: str
    own_users: Mapping[str, BrokerUser]
    authority: Authority | None
    """Issues the devices' certificates; None = they log in with passwords."""
    own_host: str = ""
    """Where the hub's own programs find it; empty = where devices do."""

    @property
    def endpoint(self) -> Broker:
        """Where the hub's own programs connect; the name that devices use may lead nowhere from here (NAT)."""
        found = self.control.endpoint
        return msgspec.structs.replace(found, host=self.own_host or found.host)


async def embedded(
    settings: Settings, directory: Path, topics: Topics, enrol_password: str, stack: contextlib.AsyncExitStack
) -> BrokerAccess:
    """amqtt in a child process, already running. Raises BrokerError, ValueError."""
    tls = _tls(settings, directory)
    place = (settings.broker_bind, settings.broker_port, settings.broker_host)
    broker = EmbeddedBroker(Listener(*place, tls.certificate, tls.key, tls.ca_pem), directory / "broker.log")
    await broker.start()
    stack.push_async_callback(broker.stop)
    ids = SystemIds()
    passwords = {HUB_USER: ids.secret(), AGGREGATOR_USER: ids.secret(), ENROL_USER: enrol_password}
    own_users = _own_users(passwords, topics)
    login = lambda name: Credentials(name, passwords[name])  # noqa: E731
    return BrokerAccess(broker, login, enrol_password, own_users, None, _own_host(settings))


def mosquitto(
    settings: Settings, directory: Path, enrol_password: str, stack: contextlib.AsyncExitStack
) -> BrokerAccess:
    """mosquitto in a child process, started once it is told who may come in. Raises BrokerError, ValueError."""
    if settings.broker_port == settings.broker_enrol_port:
        raise ValueError("broker_port and broker_enrol_port have to differ")
    tls = _tls(settings, directory)
    authority = _authority(settings, tls)
    seat = Seat(
        bind=settings.broker_bind,
        port=settings.broker_port,
        enrol_port=settings.broker_enrol_port,
        advertised=settings.broker_host,
        tls=tls,
        directory=directory / "broker",
        topic_root=settings.topic_root,
        own_host=_own_host(settings),
    )
    broker = MosquittoBroker(find(settings.mosquitto_path), seat, authority, enrol_password)
    stack.push_async_callback(broker.stop)
    return BrokerAccess(broker, _by_certificate(authority), enrol_password, {}, authority, seat.own_host)


def external(settings: Settings, directory: Path, enrol_password: str) -> BrokerAccess:
    """Somebody else's broker. Raises ValueError."""
    tls = _tls(settings, directory)
    authority = _authority(settings, tls)
    ca_pem = _text(settings.broker_ca, "broker_ca") if settings.broker_ca else tls.ca_pem
    endpoint = Broker(host=settings.broker_host, port=settings.broker_port, ca_pem=ca_pem)
    enrolment = Broker(host=settings.broker_host, port=settings.broker_enrol_port, ca_pem=ca_pem)
    control = ExternalBroker(endpoint, enrolment, authority, directory / "broker")
    login = _by_certificate(authority)
    if settings.broker_username:
        password = _text(settings.broker_password_file, "broker_password_file").strip()
        login = lambda name: Credentials(settings.broker_username, password, client_id=name)  # noqa: E731
    return BrokerAccess(control, login, enrol_password, {}, authority)


def _tls(settings: Settings, directory: Path) -> TlsFiles:
    hosts = tuple(dict.fromkeys((settings.broker_host, "localhost", "127.0.0.1", _own_host(settings))))
    path = directory / "keys" / "tls"
    try:
        return certificates.ensure(path, hosts, datetime.datetime.now(datetime.UTC))
    except ValueError as error:
        about = f"broker_host {settings.broker_host!r}, files in {path}"
        raise ValueError(f"cannot make the broker's certificate ({about}): {error}") from error


def _own_host(settings: Settings) -> str:
    return LOOPBACK_OF.get(settings.broker_bind, settings.broker_bind)


def _authority(settings: Settings, tls: TlsFiles) -> DeviceAuthority:
    return DeviceAuthority(tls.authority.parent, datetime.timedelta(days=settings.certificate_days))


def _by_certificate(authority: DeviceAuthority) -> Callable[[str], Credentials]:
    def login(name: str) -> Credentials:
        certificate, key = authority.login(name, LOGIN_LIFE, datetime.datetime.now(datetime.UTC))
        return Credentials(name, certificate=certificate, key=key)

    return login


def _own_users(passwords: Mapping[str, str], topics: Topics) -> dict[str, BrokerUser]:
    def user(name: str, access: Access, *, pinned: bool = True) -> BrokerUser:
        verifier = hashlib.sha256(passwords[name].encode()).hexdigest()
        receive = under(topics.root, access.receive)
        return BrokerUser(name, verifier, under(topics.root, access.publish), receive, pinned)

    users = (user(HUB_USER, HUB), user(AGGREGATOR_USER, AGGREGATOR), user(ENROL_USER, ENROLMENT, pinned=False))
    return {one.name: one for one in users}


def _text(path: str, setting: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise ValueError(f"{setting} {path!r}: {error.strerror}") from error
