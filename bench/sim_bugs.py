"""Ways to get hub and agent wrong, each of which random faults have to bring to light: what is never seen to fail
proves nothing.

A bug is one or more small functions of the programs, or of the simulated disk, that are replaced while lives are
played. Nothing in the programs knows of them.
"""

import importlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import Connection, true, update

from bench.replacing import replaced, together
from cloud.core.gates.judge import rules
from cloud.core.rollout import machine
from cloud.core.rollout.members import Status, count
from cloud.core.rollout.retry import next_try_ns
from cloud.service import inbox, reports, restraints
from cloud.service.effects import Effects
from cloud.service.rollouts import joining, leaving, ledger, orders, outcomes
from cloud.service.rollouts.plans import plan_of
from cloud.tables import members
from edge_agent.core.pointer import Record
from edge_agent.core.spool import Frame
from edge_agent.service.courier import Courier
from edge_agent.service.delivery import Delivery
from edge_agent.service.learning import LearningHost
from edge_agent.service.mailbox import Desired
from edge_agent.service.objects import Objects
from edge_agent.service.reconciler import Reconciler
from simulator.memory_disk import MemoryDisk
from wire.ports import SECOND

tick = importlib.import_module("cloud.service.rollouts.tick")  # the package has a function of this name
_SEND, _COLLECT, _RECONCILE, _NEXT_BOOT = (
    Delivery._send_window,
    Objects.collect,
    Reconciler._reconcile,
    Record.next_boot,
)
_EVALUATE, _CHANGE, _CANDIDATES, _ONE = machine.evaluate, ledger.change, tick._candidates, reports._one
_COMMITTED = inbox.Inbox._committed


@dataclass(frozen=True)
class Bug:
    """What is wrong. `replaced`: (owner, name of its attribute, what is there instead)."""

    name: str
    replaced: tuple[tuple[Any, str, object], ...]

    def seeded(self) -> AbstractContextManager[None]:
        """The programs with the bug, until the context is left."""
        return together(*(replaced(owner, **{name: by}) for owner, name, by in self.replaced))


# The device.


async def _no_fsync(self: MemoryDisk, path: str) -> None:
    """Contents are never made durable."""


async def _no_fsync_dir(self: MemoryDisk, path: str) -> None:
    self.on_synced(path)


def _acknowledged_is_done(self: Delivery, frames: list[Frame]) -> None:
    _SEND(self, frames)
    if self._outstanding:
        self._outbox.receipted(self._outstanding[-1])


def _told_once(self: Courier, ns: int, call: Any) -> None:
    """Nobody waits for the receipt."""


async def _without_current(self: Objects, record: Record) -> int:
    installing = any(state.outcome is None and state.desired is not None for state in record.slots.values())
    if not installing:
        return await _COLLECT(self, record)
    slots = {name: msgspec.structs.replace(state, current=None, previous=None) for name, state in record.slots.items()}
    return await _COLLECT(self, record.with_slots(slots))


async def _in_any_order(self: Reconciler, item: Desired) -> None:
    self.record = msgspec.structs.replace(self.record, heard={})
    await _RECONCILE(self, item)


def _counted_once(self: Record) -> Record:
    return self if self.boot else _NEXT_BOOT(self)


async def _counted_when_said(self: LearningHost, task: str, *, update_accepted: bool) -> None:
    """The answer stays, and the cloud's word that it was taken counts whenever it comes."""
    if update_accepted:
        await self._reconciler.remember(
            lambda record: msgspec.structs.replace(record, updates_accepted=record.updates_accepted + 1)
        )


# The hub.


def _stale(sender: Any, payload: bytes, reported: Any, known: Any) -> None:
    if reported.seq < sender.mark:
        sender.mark = 0
    _ONE(sender, payload, reported, known)


async def _receipt_first(self: inbox.Inbox, call: Any) -> Effects:
    """What the batch leads to is told to devices, and only then made durable."""

    class UndoneError(Exception):
        pass

    found: list[Effects] = []

    def dry(conn: Connection) -> None:
        found.append(call(conn))
        raise UndoneError

    try:
        await self._store.write(dry)
    except UndoneError:
        self._outbox.post(found[0])
    await self._clock.sleep(2 * SECOND)
    await _COMMITTED(self, call)
    return Effects()


def _assign_first(plan: Any, facts: Any, now_ns: int) -> tuple[machine.Decision, ...]:
    chosen = machine.pick(plan, facts, now_ns) if facts.state == "running" else ()
    return (machine.Assign(chosen),) if chosen else _EVALUATE(plan, facts, now_ns)


def _two_waves(plan: Any, facts: Any, now_ns: int) -> tuple[machine.Decision, ...]:
    def farther(one: machine.Decision) -> machine.Decision:
        last = len(plan.waves) - 1
        return machine.StartWave(min(last, one.wave + 1)) if isinstance(one, machine.StartWave) else one

    return tuple(farther(one) for one in _EVALUATE(plan, facts, now_ns))


def _next_wave_too(conn: Connection, row: Any, full: Any, now_ns: int) -> Any:
    ahead = type("Row", (), {"id": row.id, "wave": row.wave + 1})
    return _CANDIDATES(conn, ahead, full, now_ns)


def _counted_twice(conn: Connection, rollout: Any, changes: Any, now_ns: int) -> None:
    _CHANGE(conn, rollout, changes, now_ns)
    again = [(row, values) for row, values in changes if values.get("status") == Status.ENDED]
    if again:
        asked = rules(plan_of(rollout).gates)
        ledger._add(conn, rollout, count([ledger.member_of(*one) for one in again], asked), ended_ns=now_ns)


def _without_end(plan: Any, outcome: Any, attempt: int, used: int, now_ns: int) -> int | None:
    return next_try_ns(replace(plan, retry=replace(plan.retry, attempts=99, budget=99)), outcome, attempt, used, now_ns)


def _acknowledges_all(conn: Connection, row: Any, now_ns: int) -> None:
    conn.execute(update(members).where(members.c.rollout == row.id).values(acknowledged=True))


def _stays(conn: Connection, device: str, which: Any) -> None:
    """A held device goes on waiting for its turn."""


def _into_the_past(rollout: str, plan: Any, open_wave: int, device: str, labels: Any) -> int | None:
    return 0


BUGS = (
    Bug("contents are not synced", ((MemoryDisk, "fsync", _no_fsync),)),
    Bug("names are not synced", ((MemoryDisk, "fsync_dir", _no_fsync_dir),)),
    Bug("what the broker acknowledged counts as received", ((Delivery, "_send_window", _acknowledged_is_done),)),
    Bug("a report is told once", ((Courier, "_arm", _told_once),)),
    Bug("garbage is collected before the commit", ((Objects, "collect", _without_current),)),
    Bug("the floor of the sequence is forgotten", ((Reconciler, "_reconcile", _in_any_order),)),
    Bug("starts are not counted", ((Record, "next_boot", _counted_once),)),
    Bug("a federated update is counted whenever it is said", ((LearningHost, "forget", _counted_when_said),)),
    Bug("a stale report is accepted", ((reports, "_one", _stale),)),
    Bug("the receipt goes out before the commit", ((inbox.Inbox, "_committed", _receipt_first),)),
    Bug("devices are assigned before the gate is judged", ((machine, "evaluate", _assign_first),)),
    Bug("two waves at once", ((machine, "evaluate", _two_waves),)),
    Bug("the next wave is let in", ((tick, "_candidates", _next_wave_too),)),
    Bug("a late joiner slips past the gate", ((joining, "late_joiner", _into_the_past),)),
    Bug("an outcome is counted twice", ((ledger, "change", _counted_twice),)),
    Bug("repeated without a budget", ((outcomes, "next_try_ns", _without_end),)),
    Bug("resuming forgives what is to come", ((orders, "_acknowledge", _acknowledges_all),)),
    Bug(
        "holds are ignored", ((restraints, "free", lambda slot, model, version: true()), (leaving, "step_out", _stays))
    ),
    Bug("the halt of the fleet is ignored", ((restraints, "halted", lambda conn: ""),)),
)
