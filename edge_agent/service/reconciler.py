"""Bringing the device to what its director wants: one item at a time is decided, written down, then acted upon.

Everything that happens enters one mailbox; a task drains it and exists only while there is something in it. Steps that
take time run as one task per slot and come back as events. If the record cannot be written, nothing is acted upon: the
item stays first in line and is tried again, while the models that are loaded go on answering.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import assert_never

from edge_agent.core.decision import Ignored
from edge_agent.core.pointer import Record
from edge_agent.core.resume import ACTIVE, served_meanwhile
from edge_agent.core.slot import (
    AT_REST,
    WAITING,
    Abandon,
    Assigned,
    AwaitWindow,
    Booted,
    CollectGarbage,
    Effect,
    FetchFiles,
    FetchRelease,
    HealthWindowPassed,
    ReleaseVerified,
    RunCanary,
    RuntimeFailed,
    Serve,
    ServeTrial,
    TimedOut,
    TrialServing,
    Unassigned,
    WatchHealth,
)
from edge_agent.core.update import decide
from edge_agent.errors import DiskError, ModelError, RefusedError, UnknownDirectorError
from edge_agent.ports import Ports
from edge_agent.service.durable import Journal
from edge_agent.service.inference import Inference
from edge_agent.service.installation import Installation, Step
from edge_agent.service.mailbox import Desired, Happened, Item, Lasted, Learned, OutcomesTaken
from edge_agent.service.objects import Objects
from edge_agent.service.tasks import Tasks
from edge_agent.service.trusting import Change, Trusting
from edge_agent.service.under_way import UnderWay
from wire.messages import Phase
from wire.ports import SECOND, Timer

log = logging.getLogger(__name__)

WRITE_AGAIN_NS = 5 * SECOND
LASTING_NS = 20 * SECOND
"""A start that lasts so long was not ended by the models in use."""
MAX_REASON = 500


class Reconciler:
    """Owns the record and the running execution of each slot."""

    __slots__ = (
        "_draining",
        "_inference",
        "_journal",
        "_lasting",
        "_mailbox",
        "_objects",
        "_ports",
        "_refused",
        "_retry",
        "_tasks",
        "_trusting",
        "_under_way",
        "_unheard",
        "_unwritten",
        "durable_boot",
        "on_changed",
        "on_unknown_director",
        "record",
    )

    def __init__(
        self, ports: Ports, objects: Objects, installation: Installation, inference: Inference, tasks: Tasks
    ) -> None:
        self._trusting: Trusting = installation.trusting
        self._ports = ports
        self._journal = Journal(ports.disk)
        self._objects = objects
        self._inference = inference
        self._tasks = tasks
        self._mailbox: list[Item] = []  # short; a deque takes 600 bytes when it is empty
        self._draining = False
        self._under_way = UnderWay(ports, installation, tasks, self._put)
        self._retry: Timer | None = None
        self._lasting: Timer | None = None
        self.record = Record()
        self.durable_boot = 0
        """Number of this start once it is written down; 0 until then."""
        self._refused = ""
        self._unwritten = ""
        self._unheard: bytes | None = None
        """Newest assignment by a director key that no root names so far."""
        self.on_changed: Callable[[], None] = lambda: None
        self.on_unknown_director: Callable[[], None] = lambda: None
        self._trusting.record = lambda: self.record
        self._trusting.remember = self.remember
        inference.on_trial_failed = self._trial_failed

    @property
    def refused(self) -> str:
        """Why the newest desired document was not accepted, or cannot be acted upon; empty when all is well."""
        return self._unwritten or self._refused

    @property
    def known_boot(self) -> int:
        """Number of the newest start that the disk knows of: this one, or the one before until it is written down."""
        return self.durable_boot or self.record.boot - 1

    async def boot(self) -> None:
        """Read the record, count the start, serve what is committed, resume what was under way.

        A disk that cannot be written keeps nobody from being served: then the rest of the start is done later.

        Raises:
            DamagedRecordError: the record cannot be read.
            MalformedError: the claim's root of trust cannot be.
        """
        record = (await self._journal.load()).founded_on(self._trusting.claimed())
        booted = Booted(await self._objects.intact(record), record.suspects())
        if booted.suspects:
            log.error("the last %d starts did not last: the models in use are tried anew", record.short_starts)
            record = record.lasting()
        self._lasting = self._ports.clock.call_later(LASTING_NS, partial(self._put, Lasted()))
        items = [Happened(slot, booted) for slot in sorted(record.slots)]
        self._draining = True  # what happens meanwhile waits: until the start is written down, there is no record yet
        try:
            await self._ports.captures.set_policy(record.capture)
            await self._apply(record.next_boot(), items)
        except DiskError as error:
            self.record = record.next_boot()
            for slot, state in record.slots.items():
                await self._serve(slot, Serve(served_meanwhile(state, booted)))
            self._mailbox[:0] = [*items, OutcomesTaken()]
            self._write_later(error)
        finally:
            self._draining = False
        self._kick()

    def on_desired(self, envelope: bytes, ack: Callable[[], None]) -> None:
        """A desired document arrived."""
        self._put(Desired(envelope, ack))

    async def remember(self, change: Change) -> None:
        """Return once `change` of the record is durable."""
        done = asyncio.get_running_loop().create_future()
        self._put(Learned(change, done))
        await done

    def on_outcomes_taken(self, executions: frozenset[str]) -> None:
        """The hub has receipted how these executions ended."""
        taken = OutcomesTaken(executions)
        if executions and taken not in self._mailbox:  # told again while it cannot be written down
            self._put(taken)

    def stop(self) -> None:
        """No more timers; the owner of the tasks ends the tasks."""
        self._mailbox.clear()
        self._under_way.stop()
        for timer in (self._retry, self._lasting):
            if timer is not None:
                timer.cancel()

    # The mailbox.

    def _put(self, item: Item) -> None:
        self._mailbox.append(item)
        self._kick()

    def _kick(self) -> None:
        """Begin, unless that is under way or waits for a disk that refuses to be written."""
        if not self._draining and self._retry is None and self._mailbox:
            self._draining = True
            self._tasks.spawn(self._drain(), "reconcile")

    async def _drain(self) -> None:
        try:
            while self._mailbox:
                item = self._mailbox[0]
                await self._handle(item)
                if self._mailbox:
                    self._mailbox.pop(0)
        except DiskError as error:
            self._write_later(error)
        finally:
            self._draining = False

    def _write_later(self, error: DiskError) -> None:
        """Nothing is tried before the pause is over, and a reason is told once: a report brings a receipt, and that
        something to be written, so that device and hub would go on for ever as fast as messages travel."""
        before, self._unwritten = self._unwritten, f"the state cannot be written: {error}"[:MAX_REASON]
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._ports.clock.call_later(WRITE_AGAIN_NS, self._try_again)
        if self._unwritten != before:
            log.warning("%s", self._unwritten)
            self.on_changed()

    def _try_again(self) -> None:
        self._retry = None
        self._kick()

    async def _handle(self, item: Item) -> None:
        match item:
            case Desired():
                await self._reconcile(item)
            case Happened():
                await self._apply(self.record, [item])
            case Learned():
                await self._learn(item)
            case OutcomesTaken():
                await self._apply(self.record.without_finished(item.executions), [])
            case Lasted():  # nobody need be told, unless this is what could not be written before
                self._lasting = None
                lasting = self.record.lasting()
                await self._journal.save(lasting)
                self.record, self.durable_boot = lasting, lasting.boot
                if self._unwritten:
                    self._unwritten = ""
                    self.on_changed()
                await self._serve_what_was_left_out()
            case _:
                assert_never(item)

    # Deciding.

    async def _reconcile(self, item: Desired) -> None:
        record = self.record
        try:
            order = self._trusting.read_assignment(item.envelope)
            assignment = order.assignment
            record.check_room([slot.slot for slot in assignment.slots])
        except RefusedError as error:
            if isinstance(error, UnknownDirectorError):
                self._unheard = item.envelope
                self.on_unknown_director()
            self._refuse(str(error))
            item.ack()
            return
        if order.key != record.director or assignment.sequence > record.sequence:
            wanted = {slot.slot: slot for slot in assignment.slots}
            events = [Happened(name, Assigned(slot)) for name, slot in wanted.items()]
            events += [Happened(name, Unassigned()) for name in sorted(record.slots) if name not in wanted]
            accepted = record.accepting(order)
            if accepted.capture != record.capture:
                await self._ports.captures.set_policy(accepted.capture)
            await self._apply(accepted, events)
        self._refused = ""
        item.ack()
        self.on_changed()

    async def _learn(self, item: Learned) -> None:
        """With other director keys, the assignment that nobody vouched for is looked at once more."""
        directors = self.record.trust.directors
        await self._apply(item.change(self.record), [])
        if not item.done.done():
            item.done.set_result(None)
        if self._unheard is not None and self.record.trust.directors != directors:
            self._put(Desired(self._unheard, lambda: None))
            self._unheard = None

    async def _apply(self, record: Record, items: Sequence[Happened]) -> None:
        """Decide on each item, write the outcome down, then perform the effects."""
        effects: list[tuple[str, Effect]] = []
        for item in items:
            decision = decide(record.slot(item.slot), item.event)
            if isinstance(decision, Ignored):
                log.debug("slot %s: %s ignored: %s", item.slot, type(item.event).__name__, decision.reason)
                continue
            desired = decision.state.desired
            if isinstance(item.event, ReleaseVerified) and desired is not None:
                record = record.with_floor(desired.model, desired.min_counter)
            record = record.with_slots({item.slot: decision.state})
            effects += [(item.slot, effect) for effect in decision.effects]
        record = record.forgetting({item.slot for item in items if isinstance(item.event, Unassigned)})
        if record != self.record or self._unwritten:
            await self._journal.save(record)
            self._unwritten, self.durable_boot = "", record.boot
            self._log_moves(self.record, record)
            self.record = record
            self.on_changed()
        for slot, effect in effects:
            await self._perform(slot, effect)

    def _refuse(self, reason: str) -> None:
        log.warning("refused: %s", reason)
        self._refused = reason[:MAX_REASON]
        self.on_changed()

    def _log_moves(self, before: Record, after: Record) -> None:
        for name, state in after.slots.items():
            if state.phase is not before.slot(name).phase:
                why = f": {state.outcome.value} {state.reason}" if state.outcome else ""
                log.info("slot %s: %s%s", name, state.phase.value, why)

    # Acting.

    async def _perform(self, slot: str, effect: Effect) -> None:
        match effect:
            case Abandon():
                self._under_way.abandon(slot)
            case FetchRelease():
                self._under_way.later(slot, effect.desired.execution.total_timeout_s, TimedOut(effect.ticket))
                self._under_way.run(slot, effect, self._floor(effect))
            case FetchFiles() | RunCanary():
                self._under_way.run(slot, effect, self._floor(effect))
            case AwaitWindow():
                self._under_way.await_window(slot, effect)
            case ServeTrial():
                await self._serve_trial(slot, effect)
            case WatchHealth():
                self._under_way.later(slot, effect.window_s, HealthWindowPassed(effect.ticket))
            case Serve():
                await self._serve(slot, effect)
            case CollectGarbage():
                await self._collect(slot)
            case _:
                assert_never(effect)

    def _floor(self, step: Step) -> int:
        return self.record.floors.get(step.desired.model, 0)

    async def _serve(self, slot: str, effect: Serve) -> None:
        try:
            await self._inference.serve(slot, effect.deployed)
        except ModelError as error:
            assert effect.deployed is not None
            log.error("slot %s: cannot load %s: %s", slot, effect.deployed.installed.sha256[:12], error)
            self._put(Happened(slot, RuntimeFailed(effect.deployed.installed.sha256, f"cannot be loaded: {error}")))

    async def _serve_what_was_left_out(self) -> None:
        """A suspect without a model before it, unless another is on its way."""
        for slot, state in self.record.slots.items():
            if state.phase in (*AT_REST, *WAITING) and state.current is not None and self._inference.live(slot) is None:
                await self._serve(slot, Serve(state.current))

    async def _serve_trial(self, slot: str, effect: ServeTrial) -> None:
        try:
            await self._inference.serve_trial(slot, effect.deployed)
        except ModelError as error:
            sha256 = effect.deployed.installed.sha256
            self._put(Happened(slot, RuntimeFailed(sha256, f"cannot be loaded: {error}")))
        else:
            self._put(Happened(slot, TrialServing(effect.ticket)))

    async def _collect(self, slot: str) -> None:
        """Only while no other slot is installing, since what that fetched is not in the record yet."""
        if any(state.phase in (*ACTIVE, *WAITING) for name, state in self.record.slots.items() if name != slot):
            return
        try:
            removed = await self._objects.collect(self.record)
        except DiskError as error:
            log.warning("garbage stays for now: %s", error)
        else:
            log.debug("removed %d objects", removed)

    def _trial_failed(self, slot: str, sha256: str, reason: str) -> None:
        if self.record.slot(slot).phase is Phase.TRIAL:
            self._put(Happened(slot, RuntimeFailed(sha256, reason)))
