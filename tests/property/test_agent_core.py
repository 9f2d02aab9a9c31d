"""Properties of the agent's pure core: records that cannot be misread, a machine that never loses a working model."""

import contextlib
import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import slot as events
from edge_agent.core.decision import IllegalEventError, Moved, ticket_of
from edge_agent.core.pointer import Record, choose, dump, parse
from edge_agent.core.slot import (
    Assigned,
    Booted,
    CanaryPassed,
    FilesStored,
    HealthWindowPassed,
    ReleaseVerified,
    RuntimeFailed,
    Serve,
    ServeTrial,
    State,
    StepFailed,
    Ticket,
    TimedOut,
    TrialServing,
    Unassigned,
    WindowOpened,
)
from edge_agent.core.trust import Heard
from edge_agent.core.update import decide
from edge_agent.errors import DamagedRecordError, NewerRecordError
from wire.assignment import Execution, Opening, SlotAssignment, Windows
from wire.messages import GoldenResult, InstallFigures, Outcome, Phase
from wire.release import object_ref

GOLDEN = GoldenResult(matched=1, total=1, max_error=0.0)
FILE = object_ref(b"file")
VERSIONS = (1, 2, 3)
RESULTS = ("verified", "stored", "early", "opened", "passed", "serving", "healthy", "failed", "timeout")


def desired(version: int, execution: str) -> SlotAssignment:
    """An assignment of this version; every second execution waits for windows."""
    openings = (Opening(from_ns=1, until_ns=2),)
    windows = Windows(download=openings, install=openings) if execution in ("e2", "e4") else msgspec.UNSET
    return SlotAssignment(
        slot="main",
        model="watch",
        version=version,
        variant="fp32",
        sha256=f"{version:064x}",
        release=object_ref(b"release %d" % version),
        execution=Execution(id=execution, windows=windows),
    )


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What happens, as plain values: kind, a version, an execution."""
    kinds = [*RESULTS, "assign", "unassign", "runtime", "boot", "boot-damaged"]
    one = st.tuples(st.sampled_from(kinds), st.sampled_from(VERSIONS), st.integers(1, 4))
    return draw(st.lists(one, max_size=40))


def event_of(kind: str, version: int, execution: int, state: State) -> events.Event:
    """The event, of the present attempt where results are concerned."""
    ticket = ticket_of(state) or Ticket("none", 1)
    verified = ReleaseVerified(ticket, FILE, FILE, "logits", 0.1)
    every = frozenset(f"{one:064x}" for one in VERSIONS)
    made: dict[str, events.Event] = {
        "assign": Assigned(desired(version, f"e{execution}")),
        "unassign": Unassigned(),
        "verified": verified,
        "stored": FilesStored(ticket, verified, InstallFigures()),
        "early": FilesStored(ticket, verified, InstallFigures(), inside=False),
        "opened": WindowOpened(ticket),
        "passed": CanaryPassed(ticket, GOLDEN, InstallFigures()),
        "serving": TrialServing(ticket),
        "healthy": HealthWindowPassed(ticket),
        "failed": StepFailed(ticket, Outcome.REJECTED, "no"),
        "timeout": TimedOut(ticket),
        "runtime": RuntimeFailed(f"{version:064x}", "broken"),
        "boot": Booted(every),
        "boot-damaged": Booted(every - {f"{version:064x}"}),
    }
    return made[kind]


@given(happenings())
@settings(max_examples=400, deadline=None)
def test_a_slot_that_had_a_committed_model_always_has_one_that_was_committed(story: list[tuple[str, int, int]]) -> None:
    """Unless its file was destroyed and there is no other; and the state can always be stored and read back."""
    state, proven = State(), set()
    for kind, version, execution in story:
        before = state
        with contextlib.suppress(IllegalEventError):
            decision = decide(state, event_of(kind, version, execution, state))
            if isinstance(decision, Moved):
                state = decision.state
                served = [effect for effect in decision.effects if isinstance(effect, Serve | ServeTrial)]
                assert all(one.deployed in (state.current, state.trial) for one in served)
        if state.phase is Phase.COMMITTED and state.current:
            proven.add(state.current.installed.sha256)
        if before.current and kind != "boot-damaged":
            assert state.current is not None
        if state.current:
            assert state.current.installed.sha256 in proven
        assert (state.trial is not None) == (state.phase is Phase.TRIAL)
        assert parse(dump(Record(slots={"main": state}))).slots["main"] == state


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_reading_of_a_record(data: bytes) -> None:
    """They are a record or damaged."""
    with pytest.raises(DamagedRecordError):
        parse(data)


@given(st.data())
def test_an_altered_record_is_never_taken_for_a_good_one(data: st.DataObject) -> None:
    """Cut it anywhere, or alter any byte: it is damaged, or says the same as before."""
    record = Record(
        boot=3,
        heard={"k": Heard(sequence=12)},
        director="k",
        floors={"watch": 4},
        slots={"main": State(desired=desired(1, "e1"))},
    )
    good = dump(record)
    cut = data.draw(st.integers(0, len(good) - 1))
    with pytest.raises(DamagedRecordError):
        parse(good[:cut])
    altered = bytearray(good)
    altered[cut] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DamagedRecordError):
        assert parse(bytes(altered)) == record
    assert choose([bytes(altered), good]) == record


def test_damaged_copies_are_not_taken_for_a_first_start() -> None:
    """That would forget the floors."""
    assert choose([]) == Record()
    with pytest.raises(DamagedRecordError):
        choose([b"", b"{}"])


def test_a_whole_record_of_a_later_agent_is_named_and_no_older_copy_stands_in_for_it() -> None:
    """After a downgrade: the older copy knows lower floors, and nothing is damaged."""
    older = dump(Record(boot=3))
    body = b'{"schema":1,"boot":4,"surprise":true}'
    later = b'{"record":%s,"sha256":"%s"}' % (body, hashlib.sha256(body).hexdigest().encode())
    for copies in ([later, later], [later, older], [older, later]):
        with pytest.raises(NewerRecordError, match="surprise"):
            choose(copies)
    with pytest.raises(NewerRecordError, match="schema 9"):
        parse(dump(Record(schema=9)))


def test_floors_and_sequence_never_fall() -> None:
    """Lower values are kept out."""
    record = Record().with_floor("watch", 5)
    assert record.with_floor("watch", 3) == record
