"""The way to the broker, step by step: name, connection, encryption, login. The first that fails is the one to mend."""

import asyncio
import socket
import ssl
from collections.abc import Iterator

from edge_agent.adapters.broker_access import credentials
from edge_agent.core.identity import Identity
from edge_agent.doctor.patient import Finding, Patient
from edge_agent.service.membership import REFUSED_ADVICE
from wire.adapters.mqtt_link import MqttLink
from wire.adapters.tls import client_context, present
from wire.identity import Broker, ClaimFile

TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.02
NETWORK_ADVICE = "see that hub and broker run and that this network reaches them (cable, Wi-Fi, firewall)"


def address(patient: Patient) -> Iterator[Finding]:
    """Is the broker's name known?"""
    for what, broker in _brokers(patient):
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError) as error:  # some names cannot even be asked for
            advice = "see this device's name server (/etc/resolv.conf), or get a claim with the broker's right name"
            yield Finding(f"{what} address", f"{broker.host}: {getattr(error, 'strerror', None) or error}", advice)
        else:
            yield Finding(f"{what} address", f"{broker.host} is {', '.join(sorted(map(str, found)))}")


def connection(patient: Patient) -> Iterator[Finding]:
    """Does somebody listen there?"""
    for what, broker in _brokers(patient):
        where = f"{broker.host}:{broker.port}"
        try:
            socket.create_connection((broker.host, broker.port), TIMEOUT_S).close()
        except (OSError, UnicodeError) as error:
            yield Finding(f"{what} connection", f"{where}: {error}", NETWORK_ADVICE)
        else:
            yield Finding(f"{what} connection", f"{where} answers")


def encryption(patient: Patient) -> Iterator[Finding]:
    """Is it the broker of our claim?"""
    for what, broker in _brokers(patient):
        try:
            yield _encryption(what, broker, patient.identity)
        except ssl.SSLCertVerificationError as error:
            advice = "the hub has another authority or name now: get a new claim file"
            yield Finding(f"{what} certificate", error.verify_message, advice)
        except (ssl.SSLError, ValueError) as error:
            yield Finding(f"{what} certificate", str(error), "the claim or the identity is damaged: get a new claim")
        except OSError:
            continue  # said by `connection`


def acceptance(patient: Patient) -> Iterator[Finding]:
    """Does it take our login? A running daemon knows; a second login under its name would throw it off."""
    if patient.connected:
        yield Finding("login", "accepted: the daemon is connected")
    elif isinstance(patient.status, dict):
        problem = patient.status["problem"] or "the daemon is not connected"
        yield Finding("login", problem, REFUSED_ADVICE if REFUSED_ADVICE in problem else NETWORK_ADVICE)
    elif isinstance(patient.claim, ClaimFile) and isinstance(patient.identity, Identity):
        yield asyncio.run(_log_in(patient.claim, patient.identity))


def _brokers(patient: Patient) -> Iterator[tuple[str, Broker]]:
    if isinstance(patient.claim, ClaimFile):
        yield "broker", patient.claim.broker
        if patient.claim.enrol is not None:
            yield "enrolment", patient.claim.enrol


def _encryption(what: str, broker: Broker, identity: Identity | str) -> Finding:
    if not broker.ca_pem:
        return Finding(f"{what} certificate", "none: the connection is not encrypted")
    context = client_context(broker.ca_pem)
    if isinstance(identity, Identity) and identity.certificate:
        present(context, identity.certificate, identity.key)
    with (
        socket.create_connection((broker.host, broker.port), TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=broker.host) as secure,
    ):
        return Finding(f"{what} certificate", f"the claim's authority vouches for it, {secure.version()}")


async def _log_in(claim: ClaimFile, identity: Identity) -> Finding:
    link = MqttLink(claim.broker, credentials(identity))
    await link.start()
    for _ in range(int(TIMEOUT_S / LOOK_EVERY_S)):
        if link.connected or link.trouble:
            break
        await asyncio.sleep(LOOK_EVERY_S)
    connected, refused, trouble = link.connected, link.refused, link.trouble
    await link.stop()
    if connected:
        return Finding("login", f"{identity.username} is accepted")
    advice = REFUSED_ADVICE if refused else NETWORK_ADVICE
    return Finding("login", trouble or "the broker did not answer", advice)
