"""Who still has to answer: every instruction on its way, from the first publish to its one answer. Sans-IO.

Facts come in as calls with the time, what to do goes out as effects in the order they must happen: an answer is kept
before the device is told that it may forget it. An instruction always ends in exactly one answer: accepted, refused by
a check, failed on the device, or unreachable (offline for longer than the grace, or past its deadline).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, assert_never

from federated.core.issue import Answer, Instruction, Verdict
from federated.core.replies import Limits, check_offer, check_update
from federated.records import ARRAYS, from_object
from wire.errors import MalformedError
from wire.federated import Done, Reply, Task
from wire.messages import Want
from wire.ports import SECOND
from wire.release import ObjectRef
from wire.transfer.receiver import Complete, Output, Receiver, Rejected, Request, Sync, Write

REMEMBERED: Final = 4096
"""Answered tasks that are remembered, to repeat Done to a device that missed it."""
STALLED: Final = 3
"""Wants in vain after which a pull no longer keeps others from starting; it goes on until its deadline."""


@dataclass(frozen=True, slots=True)
class SendTask:
    """Publish the task."""

    device: str
    task: Task


@dataclass(frozen=True, slots=True)
class SendWant:
    """Ask the device for chunks."""

    device: str
    want: Want


@dataclass(frozen=True, slots=True)
class Keep:
    """Make the answer durable before any later effect."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class SendDone:
    """Tell the device that it may forget the task."""

    device: str
    done: Done


Effect = SendTask | SendWant | Keep | SendDone


@dataclass(frozen=True, slots=True)
class Pace:
    """Timing in nanoseconds, and how many updates are pulled at a time."""

    resend_ns: int = 5 * SECOND
    want_again_ns: int = 2 * SECOND
    offline_grace_ns: int = 15 * SECOND
    pulls: int = 8


@dataclass(slots=True)
class _Flight:
    instruction: Instruction
    deadline_ns: int
    resend_at_ns: int
    offline_since_ns: int | None
    reply: Reply | None = None
    pull: "_Pull | None" = None


@dataclass(slots=True)
class _Pull:
    receiver: Receiver
    ref: ObjectRef
    again_at_ns: int
    in_vain: int = 0
    parts: dict[int, memoryview] = field(default_factory=dict)


class Collection:
    """All instructions of one run that have no answer yet."""

    def __init__(self, run: str, limits: Limits, pace: Pace) -> None:
        self._run = run
        self._limits = limits
        self._pace = pace
        self._online: set[str] = set()
        self._flights: dict[str, _Flight] = {}
        self._answered: OrderedDict[str, Done] = OrderedDict()

    @property
    def online(self) -> frozenset[str]:
        """Devices whose last status was online."""
        return frozenset(self._online)

    def outstanding(self, tasks: Iterable[str]) -> bool:
        """Is one of these without an answer?"""
        return any(task in self._flights for task in tasks)

    def remember(self, answers: Iterable[Answer]) -> None:
        """Answers of before a restart: a device that repeats one is told how it was taken."""
        for answer in answers:
            self._note(answer.task, answer.verdict, answer.reason)

    def offer(self, instructions: Iterable[Instruction], deadline_ns: int, now_ns: int) -> list[Effect]:
        """Take on instructions that shall be answered by `deadline_ns` (monotonic, like `now_ns`)."""
        effects: list[Effect] = []
        for one in instructions:
            offline = None if one.device in self._online else now_ns
            self._answered.pop(one.task.task, None)
            self._flights[one.task.task] = _Flight(one, deadline_ns, now_ns + self._pace.resend_ns, offline)
            effects.append(SendTask(one.device, one.task))
        return effects

    def on_status(self, device: str, online: bool, now_ns: int) -> list[Effect]:
        """A device came or went. One that came (back) is sent its tasks again."""
        if not online:
            self._online.discard(device)
        else:
            self._online.add(device)
        effects: list[Effect] = []
        for flight in self._flights.values():
            if flight.instruction.device != device:
                continue
            if online:
                flight.offline_since_ns = None
                effects += self._resend(flight, now_ns)
            elif flight.offline_since_ns is None:
                flight.offline_since_ns = now_ns
        return effects

    def on_reply(self, device: str, reply: Reply, now_ns: int) -> list[Effect]:
        """A device answers or offers its update. Repeats, strangers and other runs do no harm."""
        if reply.run != self._run:
            return []
        flight = self._flights.get(reply.task)
        if flight is None:
            return [SendDone(device, self._answered.get(reply.task) or self._unwanted(reply.task))]
        if flight.instruction.device != device or flight.reply == reply:
            return []
        if not reply.ok:
            return self._end(flight, Verdict.FAILED, reply.reason or "the device gave no reason")
        problem = check_offer(flight.instruction.task, reply, self._limits)
        if problem:
            return self._end(flight, Verdict.REFUSED, problem)
        flight.reply, flight.pull = reply, None  # another offer than before: the device had to do the task again
        if reply.arrays is None:
            return self._end(flight, Verdict.ACCEPTED)
        return self._start_pulls(now_ns)

    def on_chunk(self, device: str, sha256: str, index: int, payload: bytes, now_ns: int) -> list[Effect]:
        """A chunk of an update arrived."""
        for flight in list(self._flights.values()):
            pull = flight.pull
            if pull is not None and flight.instruction.device == device and pull.ref.sha256 == sha256:
                outputs = pull.receiver.on_chunk(index, payload)
                if outputs:  # not a repeat, which brings nothing
                    pull.again_at_ns, pull.in_vain = now_ns + self._pace.want_again_ns, 0
                return self._apply(flight, pull, outputs, now_ns)
        return []

    def on_tick(self, now_ns: int) -> list[Effect]:
        """Time has passed: repeat what was not answered, give up on what cannot be answered any more."""
        effects: list[Effect] = []
        for flight in list(self._flights.values()):
            effects += self._on_tick(flight, now_ns)
        return effects + self._start_pulls(now_ns)

    def abandon(self, tasks: Iterable[str], reason: str) -> list[Effect]:
        """Stop waiting for these: they end as unreachable."""
        flights = [self._flights[task] for task in tasks if task in self._flights]
        return [effect for flight in flights for effect in self._end(flight, Verdict.UNREACHABLE, reason)]

    def _on_tick(self, flight: _Flight, now_ns: int) -> list[Effect]:
        away = flight.offline_since_ns
        if now_ns >= flight.deadline_ns:
            return self._end(flight, Verdict.UNREACHABLE, "no answer before the deadline")
        if away is not None and now_ns >= away + self._pace.offline_grace_ns:
            return self._end(flight, Verdict.UNREACHABLE, "the device went offline")
        if flight.pull is not None and now_ns >= flight.pull.again_at_ns:
            flight.pull.again_at_ns = now_ns + self._pace.want_again_ns
            flight.pull.in_vain += 1
            return self._apply(flight, flight.pull, flight.pull.receiver.on_silence(), now_ns)
        return self._resend(flight, now_ns) if now_ns >= flight.resend_at_ns else []

    def _resend(self, flight: _Flight, now_ns: int) -> list[Effect]:
        """Also while an update is pulled: a device that was restarted remembers it only when asked for the task."""
        flight.resend_at_ns = now_ns + self._pace.resend_ns
        return [SendTask(flight.instruction.device, flight.instruction.task)]

    def _start_pulls(self, now_ns: int) -> list[Effect]:
        pulls = (flight.pull for flight in self._flights.values())
        room = self._pace.pulls - sum(1 for pull in pulls if pull is not None and pull.in_vain < STALLED)
        effects: list[Effect] = []
        for flight in list(self._flights.values()):
            if room > 0 and flight.pull is None and flight.reply is not None and flight.reply.arrays is not None:
                room -= 1
                effects += self._start_pull(flight, flight.reply.arrays, now_ns)
        return effects

    def _start_pull(self, flight: _Flight, ref: ObjectRef, now_ns: int) -> list[Effect]:
        try:
            receiver = Receiver(ref)
        except MalformedError as error:
            return self._end(flight, Verdict.REFUSED, str(error))
        flight.pull = _Pull(receiver, ref, now_ns + self._pace.want_again_ns)
        return self._apply(flight, flight.pull, receiver.start(), now_ns)

    def _apply(self, flight: _Flight, pull: _Pull, outputs: list[Output], now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        for output in outputs:
            match output:
                case Request(indices, _):
                    effects.append(SendWant(flight.instruction.device, Want(sha256=pull.ref.sha256, indices=indices)))
                case Write(index, _, data):
                    pull.parts[index] = data
                    effects += self._apply(flight, pull, pull.receiver.on_written(index), now_ns)
                case Rejected(reason):
                    return effects + self._end(flight, Verdict.REFUSED, reason) + self._start_pulls(now_ns)
                case Sync():
                    pass  # parts are in memory until the update is whole
                case Complete():
                    return effects + self._judge(flight, pull) + self._start_pulls(now_ns)
                case _:
                    assert_never(output)
        return effects

    def _judge(self, flight: _Flight, pull: _Pull) -> list[Effect]:
        data = b"".join(pull.parts[index] for index in sorted(pull.parts))
        problem = self._problem(flight, pull.ref, data)
        if problem:
            return self._end(flight, Verdict.REFUSED, problem)
        return self._end(flight, Verdict.ACCEPTED, arrays=data)

    def _problem(self, flight: _Flight, ref: ObjectRef, data: bytes) -> str:
        if len(data) != ref.bytes or hashlib.sha256(data).hexdigest() != ref.sha256:
            return "the update does not match its digest"
        assert flight.reply is not None
        try:
            got = from_object(data, flight.reply.records)
        except MalformedError as error:
            return str(error)
        return check_update(flight.instruction.sent, got.get(ARRAYS, {}), self._limits)

    def _end(self, flight: _Flight, verdict: Verdict, reason: str = "", arrays: bytes = b"") -> list[Effect]:
        device, task = flight.instruction.device, flight.instruction.task.task
        del self._flights[task]
        done = self._note(task, verdict, reason)
        reply = flight.reply if verdict is Verdict.ACCEPTED else None
        return [Keep(Answer(device, task, verdict, reason, reply, arrays)), SendDone(device, done)]

    def _note(self, task: str, verdict: Verdict, reason: str) -> Done:
        done = Done(run=self._run, task=task, accepted=verdict is Verdict.ACCEPTED, reason=reason)
        self._answered[task] = done
        while len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)
        return done

    def _unwanted(self, task: str) -> Done:
        return Done(run=self._run, task=task, accepted=False, reason="this answer is no longer wanted")
