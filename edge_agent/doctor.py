"""`fleetloop agent doctor`: what is wrong with this device and what to do about it, found without changing anything."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.adapters.machine import ThisMachine, read_overrides
from edge_agent.client import AgentClient
from edge_agent.client import AgentError as CallError
from edge_agent.core.pointer import Record, choose
from edge_agent.errors import AgentError, DamagedRecordError, SettingsError
from edge_agent.service.claims import CLAIM, parse_claim
from edge_agent.service.durable import STATE, STATE_COPY
from edge_agent.service.enrolment import IDENTITY, Identity
from edge_agent.service.objects import SPARE_BYTES
from edge_agent.settings import Settings
from wire.codec import decode
from wire.errors import WireError
from wire.identity import Broker, ClaimFile
from wire.ports import SECOND

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `advice` is empty when it is in order."""

    what: str
    seen: str
    advice: str = ""


def examine(settings: Settings, api: str) -> Iterator[Finding]:
    """Look at everything in turn; `api` is the path of the local API's socket."""
    root = Path(settings.data_dir)
    yield _engines(settings)
    yield _directory(root)
    if not root.is_dir():
        return
    record = _read_record(root)
    yield _record(record)
    if isinstance(record, Record):
        yield _clock(record)
    yield _identity(root)
    claim = _claim(settings, root)
    if isinstance(claim, ClaimFile):
        yield Finding("claim", f"device {claim.device}")
        yield _broker(claim.broker)
    else:
        yield Finding("claim", claim, "start the agent with --claim FILE, a claim file from the hub")
    yield _daemon(api)


def _engines(settings: Settings) -> Finding:
    try:
        capabilities = ThisMachine(read_overrides(settings.capabilities)).capabilities(0)
    except SettingsError as error:
        return Finding("engine", str(error), "correct the file, or start without --capabilities")
    if not capabilities.engines:
        return Finding("engine", "no runtime is installed", "install onnxruntime")
    return Finding("engine", ", ".join(f"{name} {version}" for name, version in capabilities.engines.items()))


def _directory(root: Path) -> Finding:
    if not root.is_dir():
        return Finding("data directory", f"{root} does not exist", "start the agent once, or correct --data-dir")
    if not os.access(root, os.W_OK | os.X_OK):
        return Finding("data directory", f"{root} cannot be written", "run as the user who owns it")
    stat = os.statvfs(root)
    free = stat.f_bavail * stat.f_frsize
    advice = "" if free > SPARE_BYTES else f"make room: installations need more than {SPARE_BYTES} bytes"
    return Finding("data directory", f"{root}, {free} bytes free", advice)


def _read_record(root: Path) -> Record | str:
    try:
        return choose([path.read_bytes() for path in (root / STATE, root / STATE_COPY) if path.exists()])
    except (DamagedRecordError, OSError) as error:
        return str(error)


def _record(record: Record | str) -> Finding:
    if isinstance(record, str):
        return Finding("state", record, "the floors cannot be trusted any more: enrol again in a new data directory")
    running = [
        f"{name}: {slot.current.installed.version if slot.current else 'no model'}"
        for name, slot in record.slots.items()
    ]
    return Finding("state", f"sequence {record.sequence}, {', '.join(running) or 'nothing assigned yet'}")


def _clock(record: Record) -> Finding:
    now_ns = time.time_ns()
    if now_ns < record.time_floor_ns:
        behind_s = (record.time_floor_ns - now_ns) / SECOND
        return Finding("clock", f"{behind_s:.0f} s behind what the director signed", "set the clock (NTP)")
    return Finding("clock", "not behind what the director signed")


def _identity(root: Path) -> Finding:
    try:
        identity = decode((root / IDENTITY).read_bytes(), Identity)
    except FileNotFoundError:
        return Finding("identity", "none yet", "start the agent with --claim FILE")
    except (WireError, OSError) as error:
        return Finding("identity", str(error), "remove it and enrol again with a new claim")
    if not identity.enrolled:
        return Finding(
            "identity", f"{identity.username}, not admitted yet", "see that hub and broker run; then start the agent"
        )
    return Finding("identity", f"{identity.username}, admitted")


def _claim(settings: Settings, root: Path) -> ClaimFile | str:
    path = Path(settings.claim) if settings.claim else root / CLAIM
    try:
        return parse_claim(path.read_bytes(), str(path))
    except (AgentError, OSError) as error:
        return str(error)


def _broker(broker: Broker) -> Finding:
    address = f"{broker.host}:{broker.port}"
    try:
        with socket.create_connection((broker.host, broker.port), CONNECT_TIMEOUT_S) as plain:
            if broker.ca_pem:
                context = ssl.create_default_context(cadata=broker.ca_pem)
                with context.wrap_socket(plain, server_hostname=broker.host):
                    return Finding("broker", f"{address} answers, its certificate is the claim's")
    except ssl.SSLCertVerificationError as error:
        return Finding(
            "broker", f"{address}: {error.verify_message}", "the hub has another CA now: get a new claim file"
        )
    except (OSError, ValueError) as error:
        return Finding("broker", f"{address}: {error}", "see that the hub runs and that this network reaches it")
    return Finding("broker", f"{address} answers, without TLS")


def _daemon(api: str) -> Finding:
    try:
        with AgentClient(api, CONNECT_TIMEOUT_S) as client:
            status = client.status()
    except CallError as error:
        return Finding("daemon", str(error), "start it with `fleetloop agent`")
    if not status["connected"]:
        return Finding("daemon", "runs, without a connection to the broker", "see the broker's finding")
    refused = status["reported"]["refused"]
    advice = "the hub's desired document was refused: see its audit log" if refused else ""
    return Finding("daemon", refused or "runs and is connected", advice)
