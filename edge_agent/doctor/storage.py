"""Is the data directory there, ours alone, large enough, and are record and models in it whole?"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_agent.core.pointer import Record, parse
from edge_agent.doctor.patient import Finding, Patient
from edge_agent.errors import DamagedRecordError, NewerRecordError
from edge_agent.service.durable import STATE, STATE_COPY
from edge_agent.service.objects import path_of
from edge_agent.service.part_file import SPARE_BYTES

CLOSED = stat.S_IRWXG | stat.S_IRWXO
UNREADABLE = "the floors cannot be trusted any more: enrol again with a new claim, in a new data directory"
NEWER = "install the version of the agent again that ran here before: this one does not know what that one wrote"


def directory(patient: Patient) -> Iterator[Finding]:
    """Is it there, and may we write?"""
    root = patient.root
    if not root.is_dir():
        yield Finding("data directory", f"{root} does not exist", "start the agent once, or correct --data-dir")
    elif not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data directory", f"{root} cannot be read and written", "run as the user who owns it")
    else:
        yield Finding("data directory", str(root))


def permissions(patient: Patient) -> Iterator[Finding]:
    """Secrets are for the agent's user alone."""
    root = patient.root
    if not root.is_dir():
        return
    paths = [root, *sorted((root / "identity").glob("*")), root / "identity"]
    open_ones = [path for path in paths if path.exists() and path.stat().st_mode & CLOSED]
    strange = [path for path in paths if path.exists() and path.stat().st_uid != root.stat().st_uid]
    if open_ones:
        yield Finding("permissions", f"others may reach {open_ones[0]}", f"chmod -R go-rwx {root}")
    elif strange:
        owner = root.stat().st_uid
        yield Finding("permissions", f"{strange[0]} belongs to another user", f"chown -R {owner} {root}")
    else:
        yield Finding("permissions", "for its owner alone")


def space(patient: Patient) -> Iterator[Finding]:
    """Installations need room."""
    if not patient.root.is_dir():
        return
    facts = os.statvfs(patient.root)
    free = facts.f_bavail * facts.f_frsize
    advice = "" if free > SPARE_BYTES else f"make room: installations need more than {SPARE_BYTES} bytes"
    yield Finding("disk space", f"{free} bytes free", advice)
    if facts.f_flag & os.ST_RDONLY:
        yield Finding("disk", "mounted read-only", "see why the system did that (dmesg), and mount it writable")


def record(patient: Patient) -> Iterator[Finding]:
    """Both copies of the pointer record."""
    found = patient.record
    if isinstance(found, Exception):
        yield Finding("record", str(found), NEWER if isinstance(found, NewerRecordError) else UNREADABLE)
        return
    for name in (STATE, STATE_COPY):
        problem = _copy_problem(patient.root / name)
        if problem:
            yield Finding("record", f"{name}: {problem}", "the other copy serves; if it comes again, replace the disk")
    running = [
        f"{name}: {slot.current.installed.version if slot.current else 'no model'}"
        for name, slot in found.slots.items()
    ]
    yield Finding("record", f"sequence {found.sequence}, {', '.join(running) or 'nothing assigned yet'}")


def objects(patient: Patient) -> Iterator[Finding]:
    """Every model that the record names, read and compared with its digest."""
    if not isinstance(patient.record, Record):
        return
    for slot, state in patient.record.slots.items():
        for role, deployed in (("current", state.current), ("previous", state.previous), ("trial", state.trial)):
            if deployed is None:
                continue
            for sha256 in (deployed.installed.sha256, deployed.release):
                yield _object(f"{role} model of {slot}", patient.root / path_of(sha256), sha256)


def _object(what: str, path: Path, sha256: str) -> Finding:
    advice = "restart the agent: it serves the one before and fetches this one again; should it recur, replace the disk"
    try:
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError as error:
        return Finding(what, f"{path.name[:12]}: {error.strerror}", advice)
    return Finding(what, f"{path.name[:12]} is {'whole' if whole else 'damaged'}", "" if whole else advice)


def _copy_problem(path: Path) -> str:
    if not path.exists():
        return "" if not path.with_name(STATE).exists() else "is missing"
    try:
        parse(path.read_bytes())
    except (DamagedRecordError, OSError) as error:
        return str(error)
    return ""
