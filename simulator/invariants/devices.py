"""Watches a device: every record that it writes, every model that it loads, and what its application gets.

No record takes anything back (`records`); a slot that had a model has one, and only a tried or an earlier one may
take its place; nothing runs that the publisher has not signed, or below the floor; nothing goes beyond its budget.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge_agent.core.pointer import MAX_SHORT_STARTS, Record, parse
from edge_agent.core.resume import MAX_RESTARTS, MAX_TRIES
from edge_agent.core.slot import Deployed, State
from edge_agent.errors import DamagedRecordError
from edge_agent.service.durable import STATE, parent
from edge_agent.service.objects import path_of
from edge_agent.service.reconciler import LASTING_NS
from simulator.device import BrokenPromiseError, Device
from simulator.invariants.records import taken_back
from wire.release import Release

MAX_DISK_BYTES = 8 * 1024 * 1024
"""What an agent may need: the outbox, its records, and three versions of a simulated model."""


@dataclass(slots=True)
class Signed:
    """What the publisher has vouched for: digest of a variant -> counter of its release."""

    counters: dict[str, int] = field(default_factory=dict)

    def add(self, release: Release) -> None:
        """It was signed."""
        for variant in release.variants:
            self.counters[variant.file.sha256] = release.counter


@dataclass(slots=True)
class DeviceWatch:
    """Watches `device` from before it is switched on."""

    device: Device
    signed: Signed
    fail: Callable[[BaseException], None]
    record: Record = field(default_factory=Record)
    """The newest that was written."""
    promised: Record = field(default_factory=Record)
    """The newest that is durable: no power cut may take it back."""
    started: int = 0
    """Number of the newest start that got as far as to serve."""
    had_model: bool = False
    started_ns: int = 0

    def __post_init__(self) -> None:
        self.record = self.promised = self.device.record()
        self.started = self.record.boot
        self.device.disk.on_renamed = self.written
        self.device.disk.on_synced = self.synced
        self.device.on_loaded = self.loaded
        self.device.on_cut = self.cut

    def written(self, path: str) -> None:
        """A file got its name. Only the record is of interest."""
        if path != STATE:
            return
        before, data = self.record, self.device.disk.peek(path)
        try:
            self.record = parse(data or b"")
        except DamagedRecordError as error:
            self._broken([str(error)])
            return
        self._broken(record_problems(before, self.record, self.signed))
        for slot, state in self.record.slots.items():
            if state.current is not None and state.current != before.slot(slot).current:
                self._broken(self._not_whole(slot, state.current))
        used = self.device.disk.used_bytes
        if used > MAX_DISK_BYTES:
            self._broken([f"{used} bytes of the disk are used, {MAX_DISK_BYTES} may be"])

    def synced(self, folder: str) -> None:
        """The names in a folder are durable."""
        if folder == parent(STATE):
            self.promised = self.record

    def cut(self) -> None:
        """The power went; this is what it left."""
        self.record = self.device.record()
        self._broken(record_problems(self.promised, self.record, self.signed))
        self.promised = self.record

    def loaded(self, sha256: str) -> None:
        """The agent loads a model with this digest."""
        if sha256 not in self.signed.counters:
            self._broken([f"runs a model that nobody has signed: {sha256[:12]}"])

    def start(self) -> None:
        """The agent serves. While the disk fails, its start may not be written down, and has no number of its own."""
        now, fails = self.device.record(), self.device.disk.fails
        if now.boot and now.boot <= self.started and not fails:
            self._broken([f"start {now.boot} comes after start {self.started}"])
        self.started = max(self.started, self.promised.boot if fails else now.boot)
        self.had_model = any(state.current is not None for state in now.slots.values())
        self.started_ns = self.device.world.clock.monotonic_ns()

    def unanswered(self) -> None:
        """The application was told that there is no model. A suspect may be left out until the start has lasted."""
        lasted = self.device.world.clock.monotonic_ns() - self.started_ns > 2 * LASTING_NS
        if self.had_model and not self.device.disk.fails and (lasted or self.device.reboots < MAX_SHORT_STARTS):
            self._broken(["no model answers, though there was one when the agent started"])

    def at_rest(self) -> Iterator[str]:
        """What must be there once nothing is under way."""
        for slot, state in self.record.slots.items():
            for deployed in (state.current, state.previous):
                if deployed is not None:
                    yield from self._not_whole(slot, deployed)
            if state.current is None and self.had_model:
                yield f"slot {slot} is without a model"

    def _not_whole(self, slot: str, deployed: Deployed) -> Iterator[str]:
        for sha256 in (deployed.installed.sha256, deployed.release):
            data = self.device.disk.peek(path_of(sha256))
            if data is None or hashlib.sha256(data).hexdigest() != sha256:
                what = "missing" if data is None else "damaged"
                yield f"a file of version {deployed.installed.version} in slot {slot} is {what}"

    def _broken(self, problems: "Iterator[str] | list[str]") -> None:
        found = list(problems)
        if found:
            self.fail(BrokenPromiseError(f"{self.device.name}: {'; '.join(found)}"))


def record_problems(before: Record, now: Record, signed: Signed) -> Iterator[str]:
    """What a record may not say after the one before it."""
    yield from taken_back(before, now)
    for slot, state in now.slots.items():
        yield from _slot_problems(slot, before.slot(slot), state, now, signed)


def _slot_problems(slot: str, before: State, now: State, record: Record, signed: Signed) -> Iterator[str]:
    if before.current is not None and now.current is None:
        yield f"slot {slot} gave its only model up"
    if now.current not in (before.current, before.trial, before.previous):
        yield f"slot {slot} has a model that was neither on trial nor there before"
    if now.tries > MAX_TRIES + 1:
        yield f"slot {slot}: start {now.tries} with the same model under test"
    if now.restarts > MAX_RESTARTS + 1:
        yield f"slot {slot}: {now.restarts} restarts within one installation"
    if now.trial is not None:
        installed = now.trial.installed
        if signed.counters.get(installed.sha256, 0) < record.floors.get(installed.model, 0):
            yield f"slot {slot} tries a release below the floor"
