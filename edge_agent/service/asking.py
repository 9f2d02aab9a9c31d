"""Questions to the cloud: asked again until they are answered or given up; answers nobody waits for are dropped."""

import asyncio
import contextlib

from edge_agent.errors import RefusedError, UnansweredError
from edge_agent.service.courier import Uplink
from wire.asks import (
    Answer,
    Ask,
    AskChunks,
    AskMetadata,
    AskRenewal,
    AskTime,
    MetadataPiece,
    Refused,
    Renewed,
    TimeTold,
)
from wire.codec import decode, encode
from wire.errors import WireError
from wire.ports import SECOND, Ids

ASK_AGAIN_NS = 3 * SECOND
LAST_ASK_AGAIN_NS = 24 * SECOND
"""Pauses double up to this: a hub that ten thousand ask at once has no time for asking again."""

Question = AskMetadata | AskTime | AskChunks | AskRenewal
Told = MetadataPiece | TimeTold | Renewed


class Asking:
    """All questions of this device."""

    __slots__ = ("_ids", "_open", "_uplink")

    def __init__(self, uplink: Uplink, ids: Ids) -> None:
        self._uplink = uplink
        self._ids = ids
        self._open: dict[str, asyncio.Future[Told | Refused]] = {}

    def on_answer(self, payload: bytes) -> None:
        """An answer arrived. One that cannot be read, is late or doubled changes nothing."""
        with contextlib.suppress(WireError):
            answer = decode(payload, Answer)
            waiting = self._open.get(answer.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer.what)

    async def ask(self, question: Question, timeout_s: float) -> Told:
        """The answer.

        Raises:
            UnansweredError: none within `timeout_s`; says whether the link was up.
            RefusedError: the cloud says no.
        """
        clock = self._uplink.clock
        deadline_ns = clock.monotonic_ns() + int(timeout_s * SECOND)
        ask = Ask(id=self._ids.new(), what=question)
        waiting = self._open[ask.id] = asyncio.get_running_loop().create_future()
        pause_ns = ASK_AGAIN_NS
        try:
            while not waiting.done():
                left_ns = deadline_ns - clock.monotonic_ns()
                if left_ns <= 0:
                    state = "did not answer" if self._uplink.link.connected else "cannot be reached"
                    raise UnansweredError(f"the hub {state} within {timeout_s:g} s")
                self.put(ask)
                await self._wait(waiting, min(pause_ns, left_ns))
                pause_ns = min(2 * pause_ns, LAST_ASK_AGAIN_NS)
        finally:
            del self._open[ask.id]
        told: Told | Refused = waiting.result()
        if isinstance(told, Refused):
            raise RefusedError(f"the hub refused: {told.reason}")
        return told

    def put(self, ask: Ask) -> None:
        """Put the question once; what gets lost is asked again by whoever waits.

        Nobody waits for its acknowledgement: a broker may be silent for long, and the answer come all the same.
        """
        self._uplink.link.send(self._uplink.topics.up(self._uplink.device, "ask"), encode(ask))

    async def _wait(self, waiting: "asyncio.Future[Told | Refused]", ns: int) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: object = None) -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self._uplink.clock.call_later(ns, wake)
        waiting.add_done_callback(wake)
        try:
            await woken
        finally:
            timer.cancel()
            waiting.remove_done_callback(wake)
