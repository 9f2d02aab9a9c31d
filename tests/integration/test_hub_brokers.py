"""Which broker the settings mean: its logins, its endpoints, and what is wrong with the settings."""

import asyncio
import contextlib
import datetime
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509

from cloud import brokers
from cloud.adapters.certificates import ensure
from cloud.ports import BrokerError, RevokedCertificate, Roster
from cloud.settings import Settings
from tests.servers.clients import free_port
from wire.adapters.mqtt_link import MqttLink
from wire.topics import Topics

SECRET = "of the enrolment"


def external(directory: Path, **changes: str) -> brokers.BrokerAccess:
    """Somebody else's broker."""
    settings = {"broker": "external", "broker_host": "mq.example.org", **changes}
    return brokers.external(Settings(data_dir=str(directory), **settings), directory, SECRET)  # type: ignore[arg-type]


def test_an_external_broker_is_reached_by_certificates_of_the_hubs_authority(tmp_path: Path) -> None:
    """Unless it wants a password; hub and aggregator keep client ids of their own either way."""
    access = external(tmp_path)
    assert access.control.credential == "certificate"
    assert access.control.enrolment is not None
    assert (access.control.endpoint.host, access.control.enrolment.port) == ("mq.example.org", 8884)
    assert "BEGIN CERTIFICATE" in access.login("hub").certificate
    (tmp_path / "password").write_text("secret\n")
    access = external(tmp_path, broker_username="fleet", broker_password_file=str(tmp_path / "password"))
    login = access.login("aggregator")
    assert (login.username, login.password, login.client_id) == ("fleet", "secret", "aggregator")


def test_its_own_authority_goes_into_the_claim_files(tmp_path: Path) -> None:
    """A broker of somebody else has a certificate of somebody else's."""
    (tmp_path / "ca.pem").write_text("their authority")
    assert external(tmp_path, broker_ca=str(tmp_path / "ca.pem")).control.endpoint.ca_pem == "their authority"
    with pytest.raises(ValueError, match="broker_ca"):
        external(tmp_path, broker_ca=str(tmp_path / "missing.pem"))
    with pytest.raises(ValueError, match="broker_password_file"):
        external(tmp_path, broker_username="fleet")


async def _admit(access: brokers.BrokerAccess) -> None:
    await access.control.admit(Roster(revoked=(RevokedCertificate("1f", "p01", 1_700_000_000_000_000_000),)))


def test_what_is_revoked_is_written_down_for_its_operator(tmp_path: Path) -> None:
    """In the form that every TLS server reads."""
    asyncio.run(_admit(external(tmp_path)))
    listed = x509.load_pem_x509_crl((tmp_path / "broker" / "revoked.pem").read_bytes())
    assert [one.serial_number for one in listed] == [0x1F]


async def _connect_to_own(directory: Path) -> tuple[str, bool]:
    settings = Settings(broker_bind="0.0.0.0", broker_host="hub.invalid", broker_port=free_port())
    async with contextlib.AsyncExitStack() as stack:
        access = await brokers.embedded(settings, directory, Topics(settings.topic_root), SECRET, stack)
        await access.control.admit(Roster(users=access.own_users))
        link = MqttLink(access.endpoint, access.login("hub"))
        stack.push_async_callback(link.stop)
        await link.start()
        async with asyncio.timeout(10):
            while not link.connected:
                await asyncio.sleep(0.02)
        return access.control.endpoint.host, link.connected


def test_the_hub_finds_its_own_broker_whatever_devices_call_it(tmp_path: Path) -> None:
    """A public name may lead nowhere from the machine itself; claim files have it nevertheless."""
    assert asyncio.run(_connect_to_own(tmp_path)) == ("hub.invalid", True)
    assert external(tmp_path).endpoint.host == "mq.example.org"


def test_a_broker_bound_to_one_address_is_found_there(tmp_path: Path) -> None:
    """And its certificate vouches for that address."""
    here = {"broker_bind": "192.0.2.7", "broker_host": "hub.example.org", "mosquitto_path": sys.executable}
    access = brokers.mosquitto(Settings(broker="mosquitto", **here), tmp_path, SECRET, contextlib.AsyncExitStack())  # type: ignore[arg-type]
    assert (access.endpoint.host, access.control.endpoint.host) == ("192.0.2.7", "hub.example.org")
    certificate = x509.load_pem_x509_certificate((tmp_path / "keys" / "tls" / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "192.0.2.7" in map(str, names.get_values_for_type(x509.IPAddress))


@pytest.mark.parametrize("other", ["server.key", "ca.pem"])
def test_a_server_certificate_that_goes_with_nothing_is_made_anew(tmp_path: Path, other: str) -> None:
    """After a power cut between key and certificate, or when an authority was put back from elsewhere."""
    today = datetime.datetime.now(datetime.UTC)
    here = ensure(tmp_path / "here", ("localhost",), today)
    there = ensure(tmp_path / "there", ("localhost",), today)
    for name in {other, other.replace("ca.pem", "ca.key")}:
        (tmp_path / "here" / name).write_bytes((tmp_path / "there" / name).read_bytes())
    made = ensure(tmp_path / "here", ("localhost",), today)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.certificate, made.key)
    authority = x509.load_pem_x509_certificate(made.ca_pem.encode())
    x509.load_pem_x509_certificate(made.certificate.read_bytes()).verify_directly_issued_by(authority)
    assert (made.ca_pem == there.ca_pem) == (other == "ca.pem")
    assert here.certificate == made.certificate


def test_settings_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    """Before anything is started."""
    stack = contextlib.AsyncExitStack()
    same = Settings(broker="mosquitto", broker_port=8883, broker_enrol_port=8883)
    with pytest.raises(ValueError, match="differ"):
        brokers.mosquitto(same, tmp_path, SECRET, stack)
    missing = Settings(broker="mosquitto", mosquitto_path="/nowhere/mosquitto")
    with pytest.raises(BrokerError, match="mosquitto_path"):
        brokers.mosquitto(missing, tmp_path, SECRET, stack)
