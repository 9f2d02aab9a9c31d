"""The doctor: a healthy device has nothing wrong; each thing broken is named by its check, with a remedy."""

import asyncio
import contextlib
import fcntl
import importlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.adapters.http_api import LocalApi
from edge_agent.adapters.machine import ThisMachine
from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.adapters.posix_disk import PosixDisk, prepare
from edge_agent.core.identity import Identity, claim_digest
from edge_agent.core.pointer import Record
from edge_agent.core.slot import Deployed, State
from edge_agent.core.trust import Heard, Trusted
from edge_agent.doctor import CHECKS, examine
from edge_agent.doctor.patient import Finding
from edge_agent.service.durable import STATE, STATE_COPY, Journal
from edge_agent.service.identity import IDENTITY
from edge_agent.service.objects import path_of
from edge_agent.service.reports import DeviceStatus
from edge_agent.settings import Settings
from simulator.fakes.offload import InlineOffload
from tests.samples.certificates import DAY, Authority
from tests.servers.certificate_broker import NEEDS_MOSQUITTO, CertificateBroker
from tests.worlds.agent_world import DEVICE, ship
from tests.worlds.member_world import claim_file
from tests.worlds.trust_world import DIRECTOR
from wire.codec import encode
from wire.dsse import keyid
from wire.identity import Broker, ClaimFile
from wire.messages import Installed, Phase, Reported
from wire.ports import SECOND

pytestmark = NEEDS_MOSQUITTO

SHIPPED = ship(1)
VARIANT = SHIPPED.release.variants[0]
CURRENT = Deployed(
    installed=Installed(model="watch", version=1, variant="fp32", sha256=VARIANT.file.sha256),
    release=SHIPPED.ref.sha256,
)
KEY = keyid(DIRECTOR.public)


def record_of(time_ns: int = 0, verified_ns: int = 0) -> Record:
    """The record of a device at rest, which heard this time and found its metadata fresh then; by default just now."""
    return Record(
        boot=3,
        heard={KEY: Heard(sequence=7, time_ns=time_ns)},
        director=KEY,
        trust=Trusted(directors=(DIRECTOR.public_hex,), verified_ns=verified_ns or time.time_ns()),
        slots={"main": State(phase=Phase.COMMITTED, current=CURRENT)},
    )


STATUS = DeviceStatus(
    device=DEVICE,
    connected=True,
    boot=3,
    trust_problem="",
    reported=Reported(seq=0, sequence=7, agent="1", capabilities=ThisMachine().capabilities(0)),
    predictions=5,
    captured=5,
    federated_updates_sent=0,
    peak_rss_bytes=1,
    serving={"main": "watch 1 fp32"},
    problem="",
)


class Patient:
    """A data directory with everything in order, over a real broker, and ways to break it."""

    def __init__(self, root: Path, broker: CertificateBroker) -> None:
        self.root, self.broker = root, broker
        self.claim = msgspec.structs.replace(claim_file(), broker=broker.at(), enrol=broker.at("open"))
        made = P256Keys().make(DEVICE)
        self.identity = Identity(
            username=DEVICE,
            claim=claim_digest(self.claim),
            key=made.key,
            csr=made.csr,
            certificate=broker.authority.issue(DEVICE, csr=made.csr)[0],
            enrolled=True,
        )
        prepare(root)
        self.save()
        for sha256, data in SHIPPED.files.items():
            (root / path_of(sha256)).write_bytes(data)
        self.save_record()

    def save(self, **changes: Any) -> None:
        """Write claim and identity, changed."""
        self.identity = msgspec.structs.replace(self.identity, **changes)
        for path, document in (("identity/claim.json", self.claim), (IDENTITY, self.identity)):
            (self.root / path).write_bytes(encode(document))
            (self.root / path).chmod(0o600)

    def save_claim(self, **changes: Any) -> None:
        """Write the claim, changed."""
        self.claim = msgspec.structs.replace(self.claim, **changes)
        self.save()

    def save_record(self, record: Record | None = None) -> None:
        """Write both copies of the record."""
        record = record or record_of()
        asyncio.run(Journal(PosixDisk(self.root, InlineOffload())).save(record))

    def certify(self, begin: Any = -DAY, end: Any = DAY, authority: Authority | None = None) -> None:
        """Another certificate for the key."""
        issuer = authority or self.broker.authority
        self.save(certificate=issuer.issue(DEVICE, begin, end, csr=self.identity.csr)[0])

    def findings(self) -> list[Finding]:
        """What the doctor says."""
        return list(examine(Settings(data_dir=str(self.root)), str(self.root / "agent.sock")))

    def wrong(self) -> dict[str, Finding]:
        """What is wrong."""
        return {finding.what: finding for finding in self.findings() if finding.advice}


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    """A device in order whose daemon does not run."""
    (tmp_path / "broker").mkdir()
    broker = CertificateBroker(tmp_path / "broker")
    yield Patient(tmp_path / "agent", broker)
    broker.kill()


@contextlib.contextmanager
def daemon(patient: Patient, **changes: Any) -> Iterator[None]:
    """Something that holds the lock and answers as a daemon of this status would."""
    status = msgspec.structs.replace(STATUS, **changes)
    stop, up = asyncio.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def tell() -> bytes:
        return encode(status)

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        api = LocalApi(None, tell)  # type: ignore[arg-type]
        await api.bind_unix(patient.root / "agent.sock")
        await api.serve()
        up.set()
        await stop.wait()
        await api.close()

    with (patient.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        up.wait(5)
        try:
            yield
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join(5)


def test_a_device_in_order_has_nothing_wrong(patient: Patient) -> None:
    """And every check has something to say of it but those that only complain."""
    with daemon(patient):
        assert patient.wrong() == {}
    assert set(patient.wrong()) == {"daemon"}
    seen = {finding.what: finding.seen for finding in patient.findings()}
    assert seen["login"] == f"{DEVICE} is accepted"
    assert len(CHECKS) >= 18


def corrupt(path: Path) -> None:
    """Flip a byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def no_broker(patient: Patient) -> None:
    """The broker is dead."""
    patient.broker.kill()


def another_authority(patient: Patient) -> None:
    """The claim is of another hub."""
    patient.save_claim(broker=msgspec.structs.replace(patient.broker.at(), ca_pem=Authority().pem))


def revoke(patient: Patient) -> None:
    """The operator revoked the device."""
    patient.broker.revoke(patient.identity.certificate)


def unknown_host(patient: Patient) -> None:
    """The broker's name is not known."""
    patient.save_claim(broker=Broker(host="no-such-host.invalid", port=8883, ca_pem=patient.broker.authority.pem))


@dataclass(frozen=True)
class Breakage:
    """How to break something, the finding that names it, and a word of its remedy."""

    harm: Callable[[Patient], object]
    what: str
    seen: str
    advice: str


BREAKAGES = {
    "no data directory": Breakage(
        lambda p: shutil.rmtree(p.root), "data directory", "does not exist", "start the agent once"
    ),
    "readable by others": Breakage(
        lambda p: (p.root / IDENTITY).chmod(0o644), "permissions", "identity.json", "chmod -R go-rwx"
    ),
    "directory open to others": Breakage(lambda p: p.root.chmod(0o755), "permissions", "agent", "chmod -R go-rwx"),
    "identity of another user": Breakage(
        lambda p: os.chown(p.root / IDENTITY, 12345, 12345), "permissions", "another user", "chown -R"
    ),
    "one copy of the record": Breakage(
        lambda p: corrupt(p.root / STATE), "record", "state.json: the record", "the other copy serves"
    ),
    "a copy of the record missing": Breakage(
        lambda p: (p.root / STATE_COPY).unlink(), "record", "is missing", "the other copy serves"
    ),
    "both copies of the record": Breakage(
        lambda p: [corrupt(p.root / name) for name in (STATE, STATE_COPY)], "record", "the record", "new data directory"
    ),
    "a model rotten": Breakage(
        lambda p: corrupt(p.root / path_of(VARIANT.file.sha256)),
        "current model of main",
        "damaged",
        "restart the agent",
    ),
    "a release gone": Breakage(
        lambda p: (p.root / path_of(CURRENT.release)).unlink(), "current model of main", "No such file", "restart"
    ),
    "no claim": Breakage(lambda p: (p.root / "identity/claim.json").unlink(), "claim", "there is none", "--claim FILE"),
    "claim is nonsense": Breakage(
        lambda p: (p.root / "identity/claim.json").write_text("{"), "claim", "not a claim file", "--claim FILE"
    ),
    "no identity": Breakage(lambda p: (p.root / IDENTITY).unlink(), "identity", "none yet", "--claim FILE"),
    "identity is nonsense": Breakage(
        lambda p: (p.root / IDENTITY).write_text("{"), "identity", "Identity: ", "enrol again"
    ),
    "a claim not used yet": Breakage(
        lambda p: p.save(claim="0" * 64), "new claim", "not turned the newest claim", "get a new one"
    ),
    "certificate of another key": Breakage(
        lambda p: p.save(key=P256Keys().make(DEVICE).key), "certificate", "not for this device's key", "new claim"
    ),
    "certificate expired": Breakage(
        lambda p: p.certify(-9 * DAY, -DAY), "certificate", "expired on", "recovers by itself"
    ),
    "certificate to come": Breakage(lambda p: p.certify(DAY, 9 * DAY), "certificate", "is to come", "set the clock"),
    "renewal overdue": Breakage(
        lambda p: p.certify(-13 * DAY, DAY), "certificate", "renewal is overdue", "fleetloop agent status"
    ),
    "certificate of another authority": Breakage(
        lambda p: p.certify(authority=Authority()), "certificate", "not signed by the claim's authority", "new claim"
    ),
    "clock behind": Breakage(
        lambda p: p.save_record(record_of(time_ns=time.time_ns() + 3600 * SECOND)), "clock", "behind", "NTP"
    ),
    "impossible host": Breakage(
        lambda p: p.save_claim(enrol=Broker(host="hub..example", port=1)),
        "enrolment address",
        "label empty",
        "right name",
    ),
    "unknown host": Breakage(unknown_host, "broker address", "no-such-host", "name server"),
    "nobody listens": Breakage(no_broker, "broker connection", "refused", "hub and broker run"),
    "enrolment listener closed": Breakage(
        lambda p: p.save_claim(enrol=Broker(host="localhost", port=1)), "enrolment connection", "refused", "firewall"
    ),
    "another authority": Breakage(another_authority, "broker certificate", "", "new claim file"),
    "revoked": Breakage(revoke, "login", "revoked", "a new claim file enrols it again"),
    "stale trust": Breakage(lambda p: p.save_record(record_of(verified_ns=1)), "trust", "not fresh for", "hub runs"),
    "not running": Breakage(lambda p: None, "daemon", "does not run", "systemctl start"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_check_names_what_is_broken_and_what_to_do(name: str, patient: Patient) -> None:
    """Each breakage, found without a daemon."""
    breakage = BREAKAGES[name]
    breakage.harm(patient)
    finding = patient.wrong().get(breakage.what)
    assert finding is not None, patient.findings()
    assert breakage.seen in finding.seen
    assert breakage.advice in finding.advice


RUNNING = {
    "refused": ({"connected": False, "problem": "alert certificate revoked"}, "login", "revoked"),
    "model not loaded": ({"serving": {}}, "model", "does not answer"),
    "assignment refused": (
        {"reported": msgspec.structs.replace(STATUS.reported, refused="signed by a stranger")},
        "assignment",
        "signed by a stranger",
    ),
    "stale trust": ({"trust_problem": "the newest trust metadata expired 5 h ago"}, "trust", "expired 5 h ago"),
}


@pytest.mark.parametrize("name", RUNNING)
def test_a_running_daemon_is_asked_what_is_wrong(name: str, patient: Patient) -> None:
    """Its answers become findings."""
    changes, what, seen = RUNNING[name]
    with daemon(patient, **changes):
        assert seen in patient.wrong()[what].seen


def test_a_daemon_that_hangs_is_told_apart_from_none(patient: Patient) -> None:
    """The lock is held, and nobody answers."""
    with (patient.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()
        assert "process 4711 holds the lock" in patient.wrong()["daemon"].seen


def test_a_full_disk_and_a_runtime_that_cannot_be_imported_are_found(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither can be made here without the rights to mount, so the system's answers are replaced."""
    facts = os.statvfs(patient.root)
    monkeypatch.setattr(os, "statvfs", lambda path: FullDisk(facts))
    import_module = importlib.import_module

    def broken(name: str) -> Any:
        if name == "onnxruntime":
            raise ImportError("wrong ELF class")
        return import_module(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    wrong = patient.wrong()
    assert "make room" in wrong["disk space"].advice
    assert "mounted read-only" in wrong["disk"].seen
    assert "wrong ELF class" in wrong["engine"].seen


class FullDisk:
    """A read-only file system with no room."""

    def __init__(self, facts: os.statvfs_result) -> None:
        self.f_bavail, self.f_frsize, self.f_flag = 1, facts.f_frsize, os.ST_RDONLY


def test_the_doctor_changes_nothing(patient: Patient) -> None:
    """Names, bytes and times in the data directory are as before."""

    def picture() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in patient.root.rglob("*")
        }  # fmt: skip

    before = picture()
    patient.findings()
    assert picture() == before


def test_no_finding_tells_a_secret(patient: Patient) -> None:
    """Operators paste the doctor's answer into tickets."""
    claim: ClaimFile = patient.claim
    text = str(patient.findings())
    for secret in (claim.token, claim.enrol_password, patient.identity.key.splitlines()[1]):
        assert secret not in text or secret == "enrol"
