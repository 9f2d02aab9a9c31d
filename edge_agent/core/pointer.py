"""The pointer record `state.json`: the one small file that says what this device runs and how far it may go back.

It carries its own checksum, so a torn or altered copy is told from a good one; `choose` picks among the copies kept.
Floors in it never fall: `accepting` and `with_floor` refuse to lower them. Sequence and time are floors of the director
key that signed them: a key that replaces a stolen one starts anew, and what the stolen one signed counts no more.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from edge_agent.core.reading import Newest, Order
from edge_agent.core.slot import State
from edge_agent.core.trust import Heard, Judgement, Trusted, key_ids
from edge_agent.errors import DamagedRecordError, NewerRecordError, RefusedError
from wire.assignment import MAX_SLOTS, CapturePolicy, FederatedPolicy, TransferPolicy
from wire.codec import Document, decode, encode
from wire.errors import WireError
from wire.messages import Phase
from wire.release import Name, Sha256

RECORD_SCHEMA: Final = 1
MAX_RECORD_BYTES: Final = 256 * 1024
MAX_COUNTED: Final = 16
"""Federated tasks that are known by name for having been counted."""
MAX_SHORT_STARTS: Final = 5
"""After so many starts in a row that did not last, the models in use may be why."""


class Record(Document, frozen=True, kw_only=True):
    """Everything the agent must remember over a restart. `boot` counts its starts."""

    schema: int = RECORD_SCHEMA
    boot: int = 0
    short_starts: int = 0
    """Starts in a row, up to now, that have not lasted, with nothing but committed models in use.

    What is in the canary or on trial is suspected first, and its starts are counted in its slot.
    """
    trust: Trusted = Trusted()
    heard: dict[str, Heard] = {}
    """Id of a director key -> the newest it has signed."""
    director: str = ""
    """Id of the director key that signed the newest assignment."""
    digest: str = ""
    """`wire.assignment.assignment_digest` of the newest assignment; empty where an agent of before accepted it."""
    floors: dict[Name, int] = {}
    """Model -> lowest release counter that may still be installed."""
    slots: dict[Name, State] = {}
    capture: CapturePolicy = CapturePolicy()
    federated: FederatedPolicy = FederatedPolicy()
    transfer: TransferPolicy = TransferPolicy()
    updates_accepted: int = 0
    """Federated updates that the cloud took."""
    counted: tuple[str, ...] = ()
    """The newest tasks of these: a copy of one may come late, and have its update trained and taken once more."""

    @property
    def sequence(self) -> int:
        """Sequence of the newest assignment accepted."""
        return self.heard_of(self.director).sequence

    @property
    def newest(self) -> Newest:
        """Which assignment it was."""
        return Newest(self.director, self.digest)

    @property
    def time_floor_ns(self) -> int:
        """Latest time that a present director key has signed: the clock cannot be right below it."""
        return max((self.heard_of(key).time_ns for key in key_ids(self.trust.directors)), default=0)

    def heard_of(self, key: str) -> Heard:
        """The newest that the director key with this id has signed."""
        return self.heard.get(key, Heard())

    def slot(self, name: str) -> State:
        """The state of slot `name`; an idle one if it was never assigned."""
        return self.slots.get(name, State())

    def with_slots(self, states: Mapping[str, State]) -> "Record":
        """The record with these slots replaced."""
        return msgspec.structs.replace(self, slots={**self.slots, **states})

    def check_room(self, names: Collection[str]) -> None:
        """See that the slots which hold a model and these `names` are not too many together. Raises RefusedError."""
        held = {name for name, state in self.slots.items() if _holds_model(state)}
        if len(held | set(names)) > MAX_SLOTS:
            raise RefusedError(f"assignment: {len(held)} slots hold models; there is room for {MAX_SLOTS} in all")

    def forgetting(self, names: Collection[str]) -> "Record":
        """The record without those of these slots that hold no model, where there are too many slots in all."""
        if len(self.slots) <= MAX_SLOTS:
            return self
        kept = {name: state for name, state in self.slots.items() if name not in names or _holds_model(state)}
        return msgspec.structs.replace(self, slots=kept)

    def with_floor(self, model: str, counter: int) -> "Record":
        """The record with the floor of `model` at `counter`, or higher if it was."""
        if counter <= self.floors.get(model, 0):
            return self
        return msgspec.structs.replace(self, floors={**self.floors, model: counter})

    def accepting(self, order: Order) -> "Record":
        """The record with the policies of an assignment, not yet with what it wants."""
        assignment, key = order.assignment, order.key
        if assignment.sequence < self.heard_of(key).sequence:
            raise ValueError(f"sequence {assignment.sequence} is below {self.heard_of(key).sequence}")
        return msgspec.structs.replace(
            self._hearing(key, Heard(sequence=assignment.sequence, time_ns=assignment.issued_ns)),
            director=key,
            digest=order.digest,
            capture=assignment.capture,
            federated=assignment.federated,
            transfer=assignment.transfer,
        )

    def with_time(self, key: str, now_ns: int) -> "Record":
        """The record after director key `key` told the time."""
        return self._hearing(key, Heard(time_ns=now_ns))

    def with_judgement(self, judgement: Judgement, now_ns: int) -> "Record":
        """The record with what a judgement of the trust metadata found, by the time `now_ns`."""
        return msgspec.structs.replace(self, trust=self.trust.learning(judgement, now_ns))

    def founded_on(self, claim: Trusted) -> "Record":
        """The record by the root of the present claim, where that is newer than every root seen so far."""
        return msgspec.structs.replace(self, trust=self.trust.founded(claim))

    def _hearing(self, key: str, said: Heard) -> "Record":
        before = self.heard_of(key)
        newest = Heard(
            sequence=max(before.sequence, said.sequence), time_ns=max(before.time_ns, said.time_ns)
        )  # fmt: skip
        return msgspec.structs.replace(self, heard={**self.heard, key: newest})

    def with_update_accepted(self, task: str) -> "Record":
        """The record after the cloud took the update of this federated task, which counts once."""
        if task in self.counted:
            return self
        counted = (*self.counted[1 - MAX_COUNTED :], task)
        return msgspec.structs.replace(self, updates_accepted=self.updates_accepted + 1, counted=counted)

    def without_finished(self, taken: frozenset[str]) -> "Record":
        """The record without what it remembers of these executions, because the hub has taken it."""
        slots = {
            name: msgspec.structs.replace(
                state, finished=tuple(one for one in state.finished if one.execution not in taken)
            )
            for name, state in self.slots.items()
        }
        return msgspec.structs.replace(self, slots=slots)

    def next_boot(self) -> "Record":
        """The record of one more start."""
        tried = any(state.phase in (Phase.VERIFYING, Phase.TRIAL) for state in self.slots.values())
        return msgspec.structs.replace(self, boot=self.boot + 1, short_starts=self.short_starts + (not tried))

    def lasting(self) -> "Record":
        """The record once a start has lasted, or was blamed on somebody."""
        return msgspec.structs.replace(self, short_starts=0)

    def suspects(self) -> frozenset[str]:
        """Digests of the models that may be why the agent goes down at every start."""
        if self.short_starts < MAX_SHORT_STARTS:
            return frozenset()
        return frozenset(state.current.installed.sha256 for state in self.slots.values() if state.current)


def _holds_model(state: State) -> bool:
    return any(deployed is not None for deployed in (state.current, state.previous, state.trial))


class _Sealed(Document, frozen=True, kw_only=True):
    record: msgspec.Raw
    sha256: Sha256


def dump(record: Record) -> bytes:
    """The bytes of `state.json`."""
    body = encode(record)
    return encode(_Sealed(record=msgspec.Raw(body), sha256=hashlib.sha256(body).hexdigest()))


def parse(data: bytes) -> Record:
    """Read `state.json`.

    Raises:
        NewerRecordError: it is whole, and says what this agent does not know.
        DamagedRecordError: it is torn or altered; says which.
    """
    try:
        sealed = decode(data, _Sealed, limit=MAX_RECORD_BYTES)
    except WireError as error:
        raise DamagedRecordError(f"the record cannot be read: {error}") from error
    body = bytes(sealed.record)
    if hashlib.sha256(body).hexdigest() != sealed.sha256:
        raise DamagedRecordError("the record does not match its checksum")
    try:
        record = decode(body, Record, limit=MAX_RECORD_BYTES)
    except WireError as error:
        raise NewerRecordError(f"the record was written by another version of the agent: {error}") from error
    if record.schema != RECORD_SCHEMA:
        raise NewerRecordError(f"the record has schema {record.schema}, this agent reads {RECORD_SCHEMA}")
    return record


def choose(copies: Iterable[bytes]) -> Record:
    """The newest good copy; a first record when there is no copy at all.

    Raises:
        NewerRecordError: a later version wrote one of them. An older copy beside it knows lower floors.
        DamagedRecordError: there are copies and none can be read. Starting afresh would forget the floors.
    """
    good, problems = [], []
    for copy in copies:
        try:
            good.append(parse(copy))
        except NewerRecordError:
            raise
        except DamagedRecordError as error:
            problems.append(str(error))
    if good:
        return good[0]
    if problems:
        raise DamagedRecordError("; ".join(problems))
    return Record()
