"""What the publisher vouches for, asked of the cloud and judged in the child; and what time it is.

A judgement takes effect only once what it teaches is durable: version floors, the director's keys, the time told. The
metadata itself is only held to be spared fetching it again. Every fetch has a deadline, and all of them together have
one, so that neither a stall nor a drip holds an installation up for long.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType, structs

from edge_agent.core.pointer import Record
from edge_agent.core.reading import Order, read_assignment, read_time
from edge_agent.core.trust import (
    Judgement,
    Listed,
    Question,
    Trusted,
    dump_files,
    founded_on,
    holding,
    judging_time,
    key_ids,
    parse_files,
)
from edge_agent.errors import DiskError, RefusedError, UnansweredError, UnjudgedError
from edge_agent.ports import Ports
from edge_agent.service.asking import Asking
from edge_agent.service.durable import read_if_there, write_atomic
from wire.asks import AskMetadata, AskTime, Holding, MetadataPiece, Refused, TimeTold
from wire.ports import SECOND, Clock

log = logging.getLogger(__name__)

METADATA = "trust/metadata.json"
TRUST_WORK = "trust/work"
"""The child's own folder; nothing in it outlives a judgement."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the cloud may take, in seconds."""

    time_s: float = 10.0
    """For the time: the longest round trip, and so the most that the time told may lag behind."""
    piece_s: float = 30.0
    """For a piece of metadata, where nobody is more patient."""
    total_s: float = 240.0
    """For all pieces of one judgement."""
    grace_s: float = 30.0
    """For the child to come to its end after that."""


@dataclass(frozen=True, slots=True)
class Told:
    """The time that a director key told, `at_ns` by the clock that goes on while the device is suspended."""

    key: str
    now_ns: int
    at_ns: int


Change = Callable[[Record], Record]


class Trusting:
    """Whom this device believes, and what. `record` and `remember` belong to whoever owns the record."""

    __slots__ = (
        "_alone",
        "_asking",
        "_clock",
        "_deadlines",
        "_device",
        "_ports",
        "_sent_along",
        "_told",
        "_trust",
        "record",
        "remember",
    )

    def __init__(self, ports: Ports, device: str, asking: Asking, deadlines: Deadlines | None = None) -> None:
        self._ports = ports
        self._trust = ports.trust
        self._clock = ports.clock
        self._device = device
        self._asking = asking
        self._deadlines = deadlines or Deadlines()
        self._alone = asyncio.Lock()
        self._told: Told | None = None
        self._sent_along: dict[str, bytes | None] = {}
        self.record: Callable[[], Record] = Record
        self.remember: Callable[[Change], Awaitable[None]]
        """Makes a change of the record durable."""

    def claimed(self) -> Trusted:
        """What the root in the claim says. Raises MalformedError."""
        return founded_on(self._trust.root)

    def read_assignment(self, envelope: bytes) -> Order:
        """The assignment in `envelope`. Raises as `reading.read_assignment`."""
        record = self.record()
        director = self._trust.verifiers(record.trust.directors)
        return read_assignment(envelope, director, self._device, record.heard_of, record.newest)

    def now_ns(self) -> int:
        """The time as far as it is known without asking; never below what was signed before."""
        told_ns = self.told_ns()
        return max(self._clock.now_ns(), self._floor_ns()) if told_ns is None else told_ns

    def told_ns(self) -> int | None:
        """The time by what was signed alone; None while nobody whom we believe has told it since the start."""
        running_ns = self._running_ns()
        return None if running_ns is None else max(running_ns, self._floor_ns())

    async def learn_time(self) -> None:
        """Ask for the time, without insisting on an answer."""
        await self._ask_time()

    async def vouch(self, path: str, patience_s: float) -> Listed:
        """What the publisher's newest metadata says of the target `path`; a piece of it may take `patience_s`.

        Raises:
            RefusedError: it does not list the target, or is not acceptable itself; says why.
            UnansweredError: the cloud did not answer in time.
            UnjudgedError: this device could not judge.
        """
        (listed,) = await self.vouch_all((path,), patience_s)
        return listed

    async def vouch_all(self, paths: tuple[str, ...], patience_s: float | None = None) -> tuple[Listed, ...]:
        """As `vouch`, for several targets of one and the same repository state, in their order."""
        judgement = await self._judge(paths, patience_s or self._deadlines.piece_s)
        found = {target.path: target for target in judgement.targets}
        for path in paths:
            if path not in found:
                raise RefusedError(f"trust: the publisher's metadata does not list {path}")
        return tuple(found[path] for path in paths)

    async def refresh(self) -> None:
        """Learn of new keys and versions. Raises as `vouch` does."""
        await self._judge((), self._deadlines.piece_s)

    async def _judge(self, paths: tuple[str, ...], patience_s: float) -> Judgement:
        """Judge once; and once more if that replaced the director's keys, for a dead key may have told the time.

        One judgement runs at a time, and who has to wait for another has that much less time for its own.
        """
        relay = _Relay(self._asking, self._clock, patience_s, self._deadlines.total_s)
        async with self._alone:
            directors, doubt = self.record().trust.directors, ""
            question = await self._question(paths)
            try:
                now_ns = await self._time(question)
            except RefusedError as error:  # the root may still be learned, and with it who tells the time now
                now_ns, doubt = self._floor_ns(), str(error)
            attempt = await self._attempt(question, relay, now_ns, sure=not doubt)
            if self.record().trust.directors != directors:
                question = await self._question(paths)
                now_ns, doubt = await self._time(question), ""
                attempt = await self._attempt(question, relay, now_ns, sure=True)
        if doubt:
            raise RefusedError(doubt)
        return attempt.verdict()

    async def _question(self, paths: tuple[str, ...]) -> Question:
        """What is to be judged, as far as it is known before the time is."""
        return Question(root=self._trust.root, files=await self._held(), paths=paths, now_ns=0)

    async def _attempt(self, question: Question, relay: "_Relay", now_ns: int, *, sure: bool) -> "_Attempt":
        told, self._sent_along = self._sent_along, {}  # several kilobytes, of no use afterwards
        floors = self.record().trust.floors
        question = structs.replace(question, told=told, floors=floors, now_ns=now_ns)
        relay.unanswered = ""
        judgement = await self._trust.judge(question, relay.fetch, self._deadlines.total_s + self._deadlines.grace_s)
        if judgement.files != question.files:
            await self._hold(judgement.files)
        verified_ns = now_ns if sure else self.record().trust.verified_ns
        await self.remember(lambda record: self._timed(record).with_judgement(judgement, verified_ns))
        return _Attempt(judgement, relay.unanswered)

    def _timed(self, record: Record) -> Record:
        return record if self._told is None else record.with_time(self._told.key, self._told.now_ns)

    async def _held(self) -> dict[str, bytes]:
        try:
            return parse_files(await read_if_there(self._ports.disk, METADATA) or b"")
        except DiskError as error:
            log.warning("trust metadata is fetched again: %s", error)
            return {}

    async def _hold(self, files: dict[str, bytes]) -> None:
        try:
            await write_atomic(self._ports.disk, METADATA, dump_files(files))
        except DiskError as error:
            log.warning("trust metadata is not held: %s", error)

    # The time.

    async def _time(self, question: Question) -> int:
        """The time to judge by, and what is newer than what is held. Raises RefusedError when it is not known."""
        claimed = founded_on(self._trust.root).floors.root
        told_ns = await self._ask_time(holding(claimed, question.files, question.paths))
        return judging_time(told_ns, self._clock.now_ns(), self._floor_ns())

    async def _ask_time(self, held: Holding | UnsetType = UNSET) -> int | None:
        nonce, limit_s = self._ports.ids.new(), self._deadlines.time_s
        director = self._trust.verifiers(self.record().trust.directors)
        self._sent_along = {}
        try:
            answer = await self._asking.ask(AskTime(nonce=nonce, holding=held), limit_s)
            if not isinstance(answer, TimeTold):
                raise RefusedError("time: the answer is to another question")
            self._sent_along = {} if answer.files is UNSET else answer.files
            now_ns, key = read_time(answer.envelope, director, self._device, nonce)
        except (UnansweredError, RefusedError) as error:
            log.info("nobody tells the time: %s", error)
            return self._running_ns()
        self._told = Told(key, now_ns, self._clock.elapsed_ns())
        return now_ns

    def _running_ns(self) -> int | None:
        """The time told last, and what has passed since; None when nobody whom we still believe has told it."""
        told = self._told
        if told is None or told.key not in key_ids(self.record().trust.directors):
            return None
        return told.now_ns + self._clock.elapsed_ns() - told.at_ns

    def _floor_ns(self) -> int:
        return max(self._trust.built_ns, self.record().time_floor_ns)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A judgement, and which fetch of it went unanswered, if one did."""

    judgement: Judgement
    unanswered: str

    def verdict(self) -> Judgement:
        if self.judgement.refusal and self.unanswered:
            raise UnansweredError(f"trust: {self.unanswered}")
        if self.judgement.unable:
            raise UnjudgedError(f"trust: {self.judgement.refusal}")
        if self.judgement.refusal:
            raise RefusedError(f"trust: {self.judgement.refusal}")
        return self.judgement


class _Relay:
    """Asks the cloud for what one judgement needs. Past the deadline it says no at once, so the child ends orderly."""

    __slots__ = ("_asking", "_clock", "_ends_ns", "_patience_s", "_total_s", "unanswered")

    def __init__(self, asking: Asking, clock: Clock, patience_s: float, total_s: float) -> None:
        self._asking = asking
        self._clock = clock
        self._patience_s = patience_s
        self._ends_ns = clock.monotonic_ns() + int(total_s * SECOND)
        self._total_s = total_s
        self.unanswered = ""

    async def fetch(self, ask: AskMetadata) -> MetadataPiece | Refused:
        """One piece."""
        try:
            answer = await self._asking.ask(ask, max(0.0, min(self._patience_s, self._left_s())))
        except UnansweredError as error:
            late = f"the metadata did not arrive within {self._total_s:g} s"
            self.unanswered = str(error) if self._left_s() > 0 else late
            return Refused(reason=self.unanswered)
        except RefusedError as error:
            return Refused(reason=str(error)[:500])
        return answer if isinstance(answer, MetadataPiece) else Refused(reason="the answer is to another question")

    def _left_s(self) -> float:
        return (self._ends_ns - self._clock.monotonic_ns()) / SECOND
