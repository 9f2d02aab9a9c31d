"""Does the daemon run, with a runtime, with the models it should have, and does it hear from the hub?"""

import fcntl
import importlib
from collections.abc import Iterator
from pathlib import Path

from edge_agent.adapters.machine import ThisMachine
from edge_agent.core.pointer import Record
from edge_agent.doctor.patient import Finding, Patient
from wire.ports import SECOND

START = "start it with `fleetloop agent`, or `systemctl start fleetloop-agent`"
STALE_TRUST_NS = 2 * 24 * 3600 * SECOND


def engines(patient: Patient) -> Iterator[Finding]:
    """Is a runtime installed, and can it be imported here?"""
    found = ThisMachine().capabilities(0).engines
    if not found:
        yield Finding("engine", "no runtime is installed", "install onnxruntime: pip install onnxruntime")
    for name, version in found.items():
        try:
            importlib.import_module(name)
        except Exception as error:  # a runtime for another machine fails in many ways
            advice = f"install {name} for this machine again: pip install --force-reinstall {name}"
            yield Finding("engine", f"{name} {version} cannot be imported: {error}", advice)
        else:
            yield Finding("engine", f"{name} {version}")


def process(patient: Patient) -> Iterator[Finding]:
    """Who holds the lock, and does it answer?"""
    holder = _lock_holder(patient.root / "lock")
    if isinstance(patient.status, dict):
        yield Finding("daemon", f"runs (process {holder or 'unknown'}), start number {patient.status['boot']}")
    elif holder:
        advice = f"see its log; if it hangs, restart it (process {holder})"
        yield Finding("daemon", f"process {holder} holds the lock, but: {patient.status}", advice)
    else:
        yield Finding("daemon", "does not run", START)


def models(patient: Patient) -> Iterator[Finding]:
    """Is what the record calls current in memory?"""
    if not isinstance(patient.status, dict) or not isinstance(patient.record, Record):
        return
    serving = patient.status["serving"]
    for slot, state in patient.record.slots.items():
        if slot in serving:
            yield Finding("model", f"{slot} answers with {serving[slot]}")
        elif state.current is not None:
            advice = "see the reason in `fleetloop agent status --json` and the daemon's log; restart it"
            yield Finding("model", f"{slot} has a model and does not answer", advice)
        if state.reason:
            advice = "the hub shows the same; roll out a version that fits this device"
            yield Finding("installation", f"{slot}: {state.reason}", advice)


def assignments(patient: Patient) -> Iterator[Finding]:
    """Did the daemon accept what the hub wants?"""
    if isinstance(patient.status, dict) and patient.status["reported"]["refused"]:
        advice = "see the hub's audit log; if its director key has changed, get a new claim file"
        yield Finding("assignment", patient.status["reported"]["refused"], advice)


def trust(patient: Patient) -> Iterator[Finding]:
    """How old is the newest metadata that was found fresh?"""
    if not isinstance(patient.status, dict):
        return
    verified_ns = patient.status["reported"]["trust"]["verified_ns"]
    if not verified_ns:
        return
    age_ns = patient.now_ns() - verified_ns
    advice = "nothing new is installed until the hub signs fresh metadata: see the hub's publisher"
    stale = age_ns >= STALE_TRUST_NS
    yield Finding("trust", f"found fresh {age_ns // (3600 * SECOND)} h ago", advice if stale else "")


def _lock_holder(path: Path) -> str:
    """The process that holds the lock; empty when nobody does."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read(32).decode(errors="replace").strip() or "unknown"
    return ""
