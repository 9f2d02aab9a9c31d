"""What must hold whenever a device comes back, and when it has come to rest. The rules are here; that no
record takes anything back is the simulator's rule, too.

A device that had a model has one: the one it had or the one it was getting. What it told the hub stays true: commits,
sequence numbers, floors, start counters, message numbers, its secret. At rest it is where it was to get, what its
record names is whole, and nothing lies around that nobody needs.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from bench.crash_states.cloud import Cloud, Promises
from bench.crash_states.identities import secret_of
from bench.crash_states.life import Device, Judge
from bench.crash_states.recording import sha256_of
from edge_agent.core.identity import Identity
from edge_agent.core.pointer import Record
from edge_agent.core.slot import Deployed, State
from edge_agent.service.courier import BOOT_SHIFT
from edge_agent.service.identity import IDENTITY
from edge_agent.service.objects import FOLDER, path_of
from simulator.invariants.records import taken_back
from wire.codec import decode
from wire.messages import Outcome, Phase


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a slot is to get: the versions that are then current and previous, and how the execution may have ended."""

    current: int | None
    previous: int | None = None
    outcomes: Collection[Outcome] = (Outcome.SUCCEEDED,)
    execution: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is particular to one scenario. `trials` are versions that may answer for a while, `rotten` means that files
    were damaged beyond what power cuts do, so that a device may be without a model until it has fetched it again."""

    endings: Mapping[str, Ending]
    trials: Collection[int] = ()
    rotten: bool = False
    renewed: bool = False
    """It has to come to another certificate."""
    root: int = 1
    """Version of the root that the device has to come to trust."""
    companions: Collection[str] = ()
    """Digests of files that belong to releases beside the model."""


@dataclass(slots=True)
class PromiseKeeper(Judge):
    """Judges one or more lives after a cut by `rules` and by what `cloud` was promised."""

    rules: Rules
    cloud: Cloud
    broken: list[str] = field(default_factory=list)

    def started(self, device: Device) -> None:
        """The record has not gone back, and what was promised to be there is there and answers."""
        promises, record = self.cloud.promises, device.record
        self.broken += _gone_back(promises.record, record)
        for slot, state in promises.record.slots.items():
            if state.current is not None and not self.rules.rotten:
                self.broken += self._lost(device, slot, state.current)

    def answered(self, device: Device, version: int | None) -> None:
        """With a model there is an answer, from a version that may give one."""
        had = self._had()
        if version is None and had and not self.rules.rotten:
            self.broken.append("an application got no answer")
        elif version is not None and version not in {*had, *self._getting(), *self.rules.trials}:
            self.broken.append(f"version {version} answers, which never should")

    def settled(self, device: Device) -> bool:
        """Every slot has ended its execution, and the hub has heard so since this start."""
        reported = self.cloud.promises.reported
        spoke = [reported.seq if reported else 0, self.cloud.promises.seqs.get("telemetry", 0)]
        if reported is None or any(seq >> BOOT_SHIFT != device.record.boot for seq in spoke):
            return False
        if device.record.trust.floors.root < self.rules.root:
            return False
        if self.rules.renewed and _identity(device).csr == self.cloud.promises.admitted[0]:
            return False
        known = {slot.slot: slot for slot in reported.slots}
        for slot, ending in self.rules.endings.items():
            state = device.record.slot(slot)
            if state.phase not in (Phase.COMMITTED, Phase.FAILED) or state.desired is None:
                return False
            if ending.execution not in ("", state.desired.execution.id):
                return False
            if slot not in known or known[slot].outcome != state.outcome or known[slot].phase != state.phase:
                return False
        return True

    def at_rest(self, device: Device) -> None:
        """Everything is where it was to get, whole, and nothing else lies around."""
        self.broken += _lost_telemetry(self.cloud.promises)
        for slot, ending in self.rules.endings.items():
            self.broken += _strayed(slot, device.record.slot(slot), ending)
        for deployed in _deployed(device.record):
            self.broken += _not_whole(device, deployed)
        if secret_of(_identity(device)) not in self.cloud.promises.admitted:
            self.broken.append("identity: the one in force was never admitted")
        self.broken += self._leftovers(device)

    def _lost(self, device: Device, slot: str, had: Deployed) -> Iterator[str]:
        current, ending = device.record.slot(slot).current, self.rules.endings[slot]
        if current is None:
            yield f"slot {slot} lost its model"
            return
        if current.installed.version not in (had.installed.version, ending.current):
            yield f"slot {slot}: commit undone, version {current.installed.version} after {had.installed.version}"
        if device.inference.live(slot) is None:
            yield f"slot {slot}: no model answers after the start"
        yield from _not_whole(device, current)

    def _had(self) -> set[int]:
        slots = self.cloud.promises.record.slots.values()
        return {state.current.installed.version for state in slots if state.current is not None}

    def _getting(self) -> set[int]:
        return {ending.current for ending in self.rules.endings.values() if ending.current is not None}

    def _leftovers(self, device: Device) -> Iterator[str]:
        needed = set(self.rules.companions)
        for state in device.record.slots.values():
            if state.desired is not None:
                needed |= {state.desired.sha256, state.desired.release.sha256}
        for deployed in _deployed(device.record):
            needed |= {deployed.installed.sha256, deployed.release}
        for path in device.disk.paths:
            folder, _, name = path.rpartition("/")
            if folder == FOLDER and name.strip(".").partition(".")[0] not in needed:
                yield f"left over: {path[:24]}"


def _identity(device: Device) -> Identity:
    return decode(device.disk.peek(IDENTITY) or b"", Identity)


def _gone_back(before: Record, now: Record) -> Iterator[str]:
    """What no record may, nor one after another start by a clock that never errs."""
    yield from taken_back(before, now)
    if now.trust.verified_ns < before.trust.verified_ns:
        yield "what was verified before is forgotten"
    if now.boot == before.boot:
        yield f"start {now.boot} comes twice"


def _lost_telemetry(promises: Promises) -> Iterator[str]:
    """Messages that were measured long ago, or before others that arrived, and that nobody says were dropped."""
    measured = promises.measured
    newest = {seq >> BOOT_SHIFT: seq for seq in sorted(measured)}
    passed = {one for boot, last in newest.items() for one in range((boot << BOOT_SHIFT) + 1, last)}
    lost = (passed | set(promises.owed)) - measured.keys()
    if len(lost) > promises.dropped:
        yield f"telemetry: {len(lost)} messages are lost from {min(lost):x} on, {promises.dropped} were dropped"


def _strayed(slot: str, state: State, ending: Ending) -> Iterator[str]:
    current, previous = _version(state.current), _version(state.previous)
    if current != ending.current:
        yield f"slot {slot} ends with version {current} instead of {ending.current}: {state.reason}"
    if previous != ending.previous:
        yield f"slot {slot} ends with version {previous} before it instead of {ending.previous}"
    if state.outcome not in ending.outcomes:
        yield f"slot {slot} ends {state.outcome}: {state.reason}"


def _not_whole(device: Device, deployed: Deployed) -> Iterator[str]:
    for sha256 in (deployed.installed.sha256, deployed.release):
        data = device.disk.peek(path_of(sha256))
        if data is None or sha256_of(data) != sha256:
            yield f"a file of version {deployed.installed.version} is {'missing' if data is None else 'damaged'}"


def _deployed(record: Record) -> Iterator[Deployed]:
    for state in record.slots.values():
        yield from (one for one in (state.current, state.previous) if one is not None)


def _version(deployed: Deployed | None) -> int | None:
    return deployed.installed.version if deployed else None
