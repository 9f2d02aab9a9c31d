"""The federated client of a device: takes tasks, does one at a time, repeats its answers until the cloud has them.

A task is answered once: what was answered is remembered durably before it is sent, and sent again whenever the task,
the connection or a timer asks for it. At rest there is no asyncio task and no timer.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import Final

from federated.device.bench import Bench, Finished, Stop
from federated.device.ports import Host, HostError
from wire.codec import decode
from wire.errors import WireError
from wire.federated import Done, Down, Reply, Task
from wire.messages import Want
from wire.ports import SECOND, Clock, Link, LinkError, Offload, Timer
from wire.topics import Topics
from wire.transfer.chunks import count, frame

log = logging.getLogger(__name__)

MAX_WAITING: Final = 8
MAX_UNSETTLED: Final = 16
MAX_OUTGOING: Final = 256
FIRST_REPEAT_NS: Final = 5 * SECOND
LAST_REPEAT_NS: Final = 60 * SECOND
REPEATS: Final = 60
"""An answer that nobody wanted this often (about an hour) is dropped."""
KEEP_KIT_NS: Final = 120 * SECOND
"""Sessions and windows are dropped when a run has been silent for so long."""

_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(slots=True)
class _Unsettled:
    """An answer that the cloud has not confirmed."""

    answer: Finished
    sha256: str
    pause_ns: int = FIRST_REPEAT_NS
    repeats: int = 0
    due_ns: int = 0


class FederatedClient:
    """Feed it what arrives on `dn/{device}/fed` and `dn/{device}/want`, on the event loop; it never blocks there."""

    __slots__ = (
        "_bench",
        "_clock",
        "_closed",
        "_current",
        "_device",
        "_host",
        "_letting_go",
        "_link",
        "_outgoing",
        "_post",
        "_repeat",
        "_stop",
        "_topics",
        "_unsettled",
        "_work",
        "_worker",
    )

    def __init__(self, device: str, topics: Topics, link: Link, clock: Clock, offload: Offload, host: Host) -> None:
        self._device = device
        self._topics = topics
        self._link = link
        self._clock = clock
        self._host = host
        self._bench = Bench(device, offload, host)
        self._work: list[Task | Done] = []  # short ones; a deque takes 600 bytes when it is empty
        self._current: Task | None = None
        self._stop = Stop()
        self._worker: asyncio.Task[None] | None = None
        self._unsettled: dict[str, _Unsettled] = {}
        self._outgoing: list[tuple[str, bytes]] = []
        self._post: asyncio.Task[None] | None = None
        self._repeat: Timer | None = None
        self._letting_go: Timer | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Is there a task being done or waiting?"""
        return self._current is not None or bool(self._work)

    def on_fed(self, payload: bytes) -> None:
        """A message on `dn/{device}/fed`. What it does not understand is logged and ignored."""
        try:
            down = decode(payload, Down)
        except WireError as error:
            log.warning("federated message ignored: %s", error)
            return
        if down.task is not None:
            self._on_task(down.task)
        if down.done is not None:
            self._on_done(down.done)

    def on_want(self, payload: bytes) -> None:
        """A message on `dn/{device}/want`: chunks of an unconfirmed update are asked for."""
        try:
            want = decode(payload, Want)
        except WireError as error:
            log.warning("want ignored: %s", error)
            return
        data = next((one.answer.arrays for one in self._unsettled.values() if one.sha256 == want.sha256), b"")
        for index in want.indices:
            if data and 0 <= index < count(len(data)):
                self._send(self._topics.up_chunk(self._device, want.sha256, index), frame(data, index))

    def on_up(self) -> None:
        """The link is up (again): repeat what is unconfirmed."""
        for one in self._unsettled.values():
            self._send_reply(one)

    async def close(self) -> None:
        """Stop working; answers stay remembered by the host."""
        self._closed = True
        self._stop.set()
        for timer in (self._repeat, self._letting_go):
            if timer is not None:
                timer.cancel()
        running = [task for task in (self._worker, self._post) if task is not None and not task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._bench.let_go()

    # Tasks and their end.

    def _on_task(self, task: Task) -> None:
        known = self._unsettled.get(task.task)
        if known is not None:
            self._send_reply(known)
        elif _TASK_ID.fullmatch(task.task) is None:
            log.warning("federated task ignored: its id is not a plain word")
        elif self._current is None or self._current.task != task.task:
            self._drop_waiting(task.task)  # the newer copy may have a later deadline
            if len(self._work) < MAX_WAITING:
                self._enqueue(task)

    def _on_done(self, done: Done) -> None:
        if self._unsettled.pop(done.task, None) is not None:
            self._schedule_repeat()
        if self._current is not None and self._current.task == done.task:
            self._stop.set()
        self._drop_waiting(done.task)
        self._enqueue(done)

    def _drop_waiting(self, task: str) -> None:
        self._work = [one for one in self._work if not (isinstance(one, Task) and one.task == task)]

    def _enqueue(self, one: Task | Done) -> None:
        if self._closed:
            return
        self._work.append(one)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._run(), name="federated-worker")

    async def _run(self) -> None:
        while self._work:
            one = self._work.pop(0)
            try:
                await (self._forget(one) if isinstance(one, Done) else self._answer(one))
            except HostError as error:  # nothing was sent, so the cloud will ask again
                log.warning("federated task %s: %s", one.task, error)
        self._keep_kit_for_a_while()

    async def _forget(self, done: Done) -> None:
        remembered = await self._host.recall(done.task)
        if remembered is not None:
            await self._host.forget(done.task, update_accepted=done.accepted and bool(remembered.arrays))

    async def _answer(self, task: Task) -> None:
        self._current, self._stop = task, Stop()
        try:
            answer = await self._recall(task.task)
            if answer is None:
                answer = await self._bench.perform(task, self._stop)
                if answer.ok and not self._stop.is_set:
                    await self._host.remember(task.task, answer.reply, answer.arrays)
            if not self._stop.is_set:
                self._settle_later(task.task, answer)
        finally:
            self._current = None

    async def _recall(self, task: str) -> Finished | None:
        """The answer given before. One that was damaged on the disk is dropped: the task is done again."""
        remembered = await self._host.recall(task)
        if remembered is None:
            return None
        try:
            decode(remembered.reply, Reply)
        except WireError as error:
            log.warning("federated task %s: the answer kept is damaged: %s", task, error)
            await self._host.forget(task, update_accepted=False)
            return None
        return Finished(True, remembered.reply, remembered.arrays)

    # Answers on their way.

    def _settle_later(self, task: str, answer: Finished) -> None:
        reply = decode(answer.reply, Reply)
        one = _Unsettled(answer, reply.arrays.sha256 if reply.arrays is not None else "")
        self._unsettled[task] = one
        while len(self._unsettled) > MAX_UNSETTLED:
            del self._unsettled[next(iter(self._unsettled))]
        self._send_reply(one)

    def _send_reply(self, one: _Unsettled) -> None:
        one.due_ns = self._clock.monotonic_ns() + one.pause_ns
        self._send(self._topics.up(self._device, "fed"), one.answer.reply)
        self._schedule_repeat()

    def _schedule_repeat(self) -> None:
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None
        if self._unsettled and not self._closed:
            due = min(one.due_ns for one in self._unsettled.values())
            self._repeat = self._clock.call_later(max(0, due - self._clock.monotonic_ns()), self._repeat_due)

    def _repeat_due(self) -> None:
        now = self._clock.monotonic_ns()
        for task, one in list(self._unsettled.items()):
            if one.due_ns > now:
                continue
            one.repeats += 1
            one.pause_ns = min(LAST_REPEAT_NS, one.pause_ns * 2)
            if one.repeats > REPEATS:
                del self._unsettled[task]
            else:
                self._send_reply(one)
        self._schedule_repeat()

    def _send(self, topic: str, payload: bytes) -> None:
        if self._closed or len(self._outgoing) >= MAX_OUTGOING:
            return
        self._outgoing.append((topic, payload))
        if self._post is None or self._post.done():
            self._post = asyncio.get_running_loop().create_task(self._deliver(), name="federated-post")

    async def _deliver(self) -> None:
        """What cannot be sent now is sent again by `on_up`, a timer, or because the cloud asks again."""
        while self._outgoing:
            topic, payload = self._outgoing.pop(0)
            try:
                await self._link.publish(topic, payload)
            except LinkError as error:
                log.debug("federated: %s", error)
                self._outgoing.clear()

    def _keep_kit_for_a_while(self) -> None:
        if self._letting_go is not None:
            self._letting_go.cancel()
        self._letting_go = self._clock.call_later(KEEP_KIT_NS, self._let_go)

    def _let_go(self) -> None:
        self._letting_go = None
        if not self.busy:
            self._bench.let_go()
