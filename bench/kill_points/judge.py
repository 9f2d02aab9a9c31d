"""What must hold of a data directory whenever its agent is not running, and of where the device gets to."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from bench.crash_states.promises import Ending
from bench.kill_points.hub import Talk
from edge_agent.core.pointer import Record, choose
from edge_agent.core.slot import Deployed, State
from edge_agent.errors import DamagedRecordError
from edge_agent.service.durable import STATE, STATE_COPY
from edge_agent.service.objects import FOLDER, path_of
from wire.messages import Outcome, Phase, Reported

SLOT = "main"


def between(directory: Path, had: int | None, talk: Talk) -> Iterator[str]:
    """The agent is dead: what is broken of what was promised? `had` is the version that was committed before."""
    try:
        record = load(directory)
    except DamagedRecordError as error:
        yield f"the record is damaged: {error}"
        return
    state = record.slot(SLOT)
    if had is not None and state.current is None:
        yield "the device lost its model"
    yield from _whole(directory, state)
    if talk.reports:
        yield from _gone_back(record, talk.reports[-1])


def may_try_again(directory: Path) -> bool:
    """Did the attempt end because of the device's disk? Then the hub assigns another."""
    return load(directory).slot(SLOT).outcome is Outcome.FAILED_NO_CHANGE


def at_rest(directory: Path, ending: Ending) -> Iterator[str]:
    """The device is where it was to get: is it that, whole, and nothing else?"""
    state = load(directory).slot(SLOT)
    if _version(state.current) != ending.current:
        yield f"ends with version {_version(state.current)} instead of {ending.current}: {state.reason}"
    if _version(state.previous) != ending.previous:
        yield f"ends with version {_version(state.previous)} before it instead of {ending.previous}"
    if state.outcome not in ending.outcomes:
        yield f"ends {state.outcome}: {state.reason}"
    yield from _whole(directory, state)


def settled(report: Reported, sequence: int) -> bool:
    """Does the report say that what this assignment wanted has ended?"""
    ended = all(slot.phase in (Phase.COMMITTED, Phase.FAILED) for slot in report.slots)
    return report.sequence >= sequence and bool(report.slots) and ended


def load(directory: Path) -> Record:
    """The record as the agent would find it. Raises DamagedRecordError."""
    copies = [directory / name for name in (STATE, STATE_COPY)]
    return choose([path.read_bytes() for path in copies if path.exists()])


def _gone_back(record: Record, told: Reported) -> Iterator[str]:
    if record.sequence < told.sequence:
        yield f"the sequence fell from {told.sequence} to {record.sequence}"
    if record.boot < told.seq >> 32:
        yield f"start {record.boot} after start {told.seq >> 32}"
    for slot in told.slots:
        state = record.slot(slot.slot)
        same = state.desired is not None and state.desired.execution.id == slot.execution
        if slot.phase is Phase.COMMITTED and same and state.phase is not Phase.COMMITTED:
            yield "a commit that was reported is undone"


def _whole(directory: Path, state: State) -> Iterator[str]:
    for deployed in (state.current, state.previous):
        if deployed is not None:
            yield from _not_whole(directory, deployed)


def _not_whole(directory: Path, deployed: Deployed) -> Iterator[str]:
    for sha256 in (deployed.installed.sha256, deployed.release):
        path = directory / path_of(sha256)
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            yield f"a file of version {deployed.installed.version} is missing or damaged in {FOLDER}"


def _version(deployed: Deployed | None) -> int | None:
    return deployed.installed.version if deployed else None
