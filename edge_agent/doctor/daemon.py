"""Does the daemon run, with a runtime, with the models it should have, and does it hear from the hub?"""

import fcntl
import importlib
from collections.abc import Iterator
from pathlib import Path

from edge_agent.adapters.machine import ThisMachine, read_overrides
from edge_agent.core.pointer import Record
from edge_agent.doctor.patient import Finding, Patient
from edge_agent.errors import SettingsError

START = "start it with `fleetloop agent`, or `systemctl start fleetloop-agent`"


def engines(patient: Patient) -> Iterator[Finding]:
    """Is a runtime installed, and can it be imported here?"""
    try:
        found = ThisMachine(read_overrides(patient.settings.capabilities)).capabilities(0).engines
    except SettingsError as error:
        yield Finding("engine", str(error), "correct the file, or start without --capabilities")
        return
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
    """How old is the newest metadata that was found fresh, and why is there nothing newer?"""
    if not isinstance(patient.record, Record):
        return
    trusted = patient.record.trust
    seen = f"root {trusted.floors.root}, timestamp {trusted.floors.timestamp.version}"
    problem = patient.status["trust_problem"] if isinstance(patient.status, dict) else ""
    stale_s = trusted.stale_s(patient.now_ns()) if trusted.verified_ns else 0.0
    advice = "nothing new is installed meanwhile: see that the hub runs and that its metadata is renewed"
    if problem or stale_s:
        since = f", not fresh for {stale_s / 3600:.1f} h" if stale_s else ""
        yield Finding("trust", problem or f"{seen}{since}", advice)
    else:
        yield Finding("trust", f"{seen}, {'fresh' if trusted.verified_ns else 'none verified yet'}")


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
