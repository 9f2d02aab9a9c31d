"""Does the device know who it is: claim, login, certificate, and a clock that can judge them?"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.core.identity import Identity, claim_digest
from edge_agent.core.pointer import Record
from edge_agent.doctor.patient import Finding, Patient
from wire.identity import ClaimFile
from wire.ports import SECOND

GET_CLAIM = "start the agent with --claim FILE, a claim file from the hub"


def claim(patient: Patient) -> Iterator[Finding]:
    """The claim file, given or kept."""
    if isinstance(patient.claim, str):
        yield Finding("claim", patient.claim, GET_CLAIM)
    else:
        yield Finding("claim", f"device {patient.claim.device}")


def login(patient: Patient) -> Iterator[Finding]:
    """The identity in force, and whether it is the claim's."""
    found = patient.identity
    if isinstance(found, str):
        advice = "remove it and enrol again with a new claim" if found != "none yet" else GET_CLAIM
        yield Finding("identity", found, advice)
        return
    kind = "certificate" if found.certificate else "password"
    yield Finding("identity", f"{found.username}, enrolled, logs in with a {kind}")
    if isinstance(patient.claim, ClaimFile) and claim_digest(patient.claim) != found.claim:
        seen = "the hub has not turned the newest claim into an identity yet"
        yield Finding("new claim", seen, "see `fleetloop agent status`: the claim may be spent; then get a new one")


def certificate(patient: Patient) -> Iterator[Finding]:
    """Is it for our key, from the hub's authority, and in its time?"""
    found = patient.identity
    if not isinstance(found, Identity) or not found.certificate:
        return
    keys = P256Keys()
    if not keys.fit(found.certificate, found.key):
        advice = "enrol again with a new claim: --claim FILE"
        yield Finding("certificate", "not for this device's key, or unreadable", advice)
        return
    if isinstance(patient.claim, ClaimFile) and not keys.issued_by(found.certificate, patient.claim.broker.ca_pem):
        advice = "the hub has another authority now: enrol again with a new claim file"
        yield Finding("certificate", "not signed by the claim's authority", advice)
    lifetime, now_ns = keys.lifetime(found.certificate), patient.now_ns()
    ends = _date(lifetime.ends_ns)
    if lifetime.over(now_ns):
        advice = "the running agent recovers by itself; if the hub refuses, start it with a new claim: --claim FILE"
        yield Finding("certificate", f"expired on {ends}", advice)
    elif now_ns < lifetime.begins_ns:
        yield Finding("certificate", f"begins on {_date(lifetime.begins_ns)}, which is to come", "set the clock (NTP)")
    elif now_ns > (lifetime.renewal_ns + lifetime.ends_ns) // 2:
        advice = "see `fleetloop agent status` and the hub's audit log for why it is not renewed"
        yield Finding("certificate", f"ends on {ends}, its renewal is overdue", advice)
    else:
        yield Finding("certificate", f"good until {ends}, renewed from {_date(lifetime.renewal_ns)} on")


def clock(patient: Patient) -> Iterator[Finding]:
    """A clock below the latest time that the director has signed is wrong."""
    if not isinstance(patient.record, Record):
        return
    behind_s = (patient.record.time_floor_ns - time.time_ns()) / SECOND
    if behind_s > 0:
        yield Finding("clock", f"{behind_s:.0f} s behind what the director signed", "set the clock (NTP)")
    else:
        yield Finding("clock", "not behind what the director signed")


def _date(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns / SECOND, UTC):%Y-%m-%d %H:%M} UTC"
