"""The chunk receiver under loss, duplication, corruption, reordering and restarts: it ends with exactly the object."""

import random
from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import MalformedError
from wire.ports import SECOND
from wire.release import ObjectRef, object_ref
from wire.transfer import bitmap
from wire.transfer.chunks import CHUNK_BYTES, frame, frames, unframe
from wire.transfer.pace import Bucket
from wire.transfer.receiver import (
    GROUP,
    MAX_OVERTAKEN,
    WINDOW,
    Complete,
    Output,
    Receiver,
    Rejected,
    Request,
    Sync,
    Write,
)


@dataclass(frozen=True)
class Hostility:
    """Chances of what can go wrong."""

    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    reordering: float = 0.0
    restart: float = 0.0


class Device:
    """A device on a hostile link. Its power may fail: then only what was synced is left of the object."""

    def __init__(self, data: bytes, hostility: Hostility, rng: random.Random) -> None:
        self._object = data
        self._hostility = hostility
        self._rng = rng
        self._ref = object_ref(data)
        self._have = b""
        self._durable = bytes(len(data))
        self.stored = bytearray(len(data))
        self.writes = self.restarts = self.asked = 0
        self._air: deque[int] = deque()
        self._begin()

    def _begin(self) -> None:
        self.stored[:] = self._durable
        self._air.clear()
        self._receiver = Receiver(self._ref, self._have)
        self._act(self._receiver.start())

    def run(self) -> None:
        """Until the object is there."""
        for _ in range(20_000):
            if self._receiver.complete:
                return
            if self._rng.random() < self._hostility.restart:
                self.restarts += 1
                self._begin()
            elif self._air:
                self._arrive(self._next())
            else:
                self._act(self._receiver.on_silence())
        raise AssertionError("the transfer does not end")

    def _next(self) -> int:
        if self._rng.random() < self._hostility.reordering:
            self._air.rotate(self._rng.randrange(len(self._air)))
        return self._air.popleft()

    def _arrive(self, index: int) -> None:
        if self._rng.random() < self._hostility.loss:
            return
        payload = frame(self._object, index)
        if self._rng.random() < self._hostility.corruption:
            payload = payload[:-1] + bytes([payload[-1] ^ 1])
        for _ in range(1 + (self._rng.random() < self._hostility.duplication)):
            self._act(self._receiver.on_chunk(index, payload))

    def _act(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Request):
                self.asked += len(output.indices)
                self._air.extend(output.indices)
            elif isinstance(output, Sync):
                self._have, self._durable = output.have, bytes(self.stored)
            elif isinstance(output, Write):
                self.writes += 1
                self.stored[output.offset : output.offset + len(output.data)] = output.data
                self._act(self._receiver.on_written(output.index))


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 50 * CHUNK_BYTES),
    seed=st.integers(0, 2**32),
    hostility=st.builds(
        Hostility,
        loss=st.floats(0, 0.6),
        duplication=st.floats(0, 0.5),
        corruption=st.floats(0, 0.5),
        reordering=st.floats(0, 1),
        restart=st.floats(0, 0.03),
    ),
)
def test_ends_with_the_object_and_a_restart_costs_one_group_at_most(size: int, seed: int, hostility: Hostility) -> None:
    """Whatever the link and the power do, the stored bytes are the object's; what was synced is not fetched twice."""
    rng = random.Random(seed)
    data = rng.randbytes(size)
    device = Device(data, hostility, rng)
    device.run()
    assert bytes(device.stored) == data
    assert device.writes <= -(-size // CHUNK_BYTES) + device.restarts * GROUP


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_cut_at_any_chunk_at_most_one_group_is_fetched_again(at: int) -> None:
    """A restart after `at` chunks, exactly."""
    data = random.Random(at).randbytes(40 * CHUNK_BYTES)
    receiver, have = Receiver(object_ref(data)), b""
    todo, written = deque(receiver.start()), 0
    while written < at:
        output = todo.popleft()
        if isinstance(output, Request):
            todo.extend(one for index in output.indices for one in receiver.on_chunk(index, frame(data, index)))
        elif isinstance(output, Write):
            written += 1
            todo.extend(receiver.on_written(output.index))
        elif isinstance(output, Sync):
            have = output.have
    for output in todo:
        have = output.have if isinstance(output, Sync) else have
    assert at - len(bitmap.unpack(have, 40)) < GROUP


def test_a_lossy_link_costs_little_more_than_what_it_loses() -> None:
    """2 % lost: what was overtaken is asked for again, and nothing else is."""
    data = random.Random(1).randbytes(400 * CHUNK_BYTES)
    device = Device(data, Hostility(loss=0.02), random.Random(2))
    device.run()
    assert device.asked <= 400 * 1.05


def received(data: bytes, indices: tuple[int, ...], receiver: Receiver) -> list[Output]:
    """What follows from these chunks, written at once."""
    out: list[Output] = []
    for index in indices:
        for output in receiver.on_chunk(index, frame(data, index)):
            out += receiver.on_written(output.index) if isinstance(output, Write) else [output]
    return out


def test_never_more_than_a_window_outstanding() -> None:
    """Eight chunks are asked for at first, and four more whenever four have come."""
    data = bytes(20 * CHUNK_BYTES)
    receiver = Receiver(object_ref(data))
    assert receiver.start() == [Request(tuple(range(WINDOW)))]
    assert received(data, (0, 1, 2), receiver) == []
    assert received(data, (3,), receiver) == [Request((8, 9, 10, 11))]
    assert receiver.outstanding == tuple(range(4, 12))


def test_an_overtaken_chunk_is_asked_for_again_at_once_but_not_for_ever() -> None:
    """A chunk of a later request came: those of earlier ones that did not are lost, unless the broker mixes them up."""
    data = bytes(60 * CHUNK_BYTES)
    receiver = Receiver(object_ref(data))
    receiver.start()
    assert received(data, (0, 1, 2, 4), receiver) == [Request((8, 9, 10, 11))]
    assert received(data, (5, 6, 7), receiver) == [], "within one request the order says nothing"
    again = [Request((3,))]
    for index in range(8, 8 + 4 * MAX_OVERTAKEN, 4):
        outputs = received(data, (index, index + 1, index + 2, index + 3), receiver)
        again += [one for one in outputs if one == Request((3,))]
    assert len(again) == 1 + MAX_OVERTAKEN


def test_silence_asks_for_the_oldest_chunk_by_turns_retained_and_directly() -> None:
    """Only one, since what is merely slow would come twice; once a direct question was answered, all are direct."""
    data = bytes(20 * CHUNK_BYTES)
    receiver = Receiver(object_ref(data))
    receiver.start()
    assert receiver.on_silence() == [Request((0,))]
    assert receiver.on_silence() == [Request((1,), direct=True)]
    assert receiver.on_silence() == [Request((2,))]
    outputs = receiver.on_chunk(1, frame(data, 1), True)
    assert outputs[1:] == [Request((3, 4, 5, 6, 7, 0), direct=True)]


def test_groups_become_durable_at_their_last_chunk_and_the_end_needs_no_record() -> None:
    """One Sync a group; `Complete` stands for the last one."""
    data = bytes((2 * GROUP) * CHUNK_BYTES)
    receiver = Receiver(object_ref(data))
    receiver.start()
    outputs = received(data, tuple(range(WINDOW)), receiver)
    while not receiver.complete:
        outputs += received(data, receiver.outstanding, receiver)
    syncs = [output for output in outputs if isinstance(output, Sync)]
    assert [len(bitmap.unpack(sync.have, 2 * GROUP)) for sync in syncs] == [GROUP]
    assert outputs[-1] == Complete()


@given(st.integers(1, 1200), st.data())
def test_bitmaps_say_what_went_in(count: int, data: st.DataObject) -> None:
    """And one of another size says nothing."""
    indices = data.draw(st.frozensets(st.integers(0, count - 1)))
    packed = bitmap.pack(indices, count)
    assert bitmap.unpack(packed, count) == indices
    assert bitmap.unpack(packed + b"x", count) == frozenset()


@given(rate=st.integers(1024, 10**8), steps=st.lists(st.integers(0, 5 * SECOND), max_size=60))
def test_the_cap_holds_over_any_time(rate: int, steps: list[int]) -> None:
    """Never more than one second's worth (at least a chunk) above the rate."""
    now_ns = start_ns = 7 * SECOND
    bucket, asked = Bucket(now_ns), 0
    for step in steps:
        now_ns += step
        while not bucket.wait_ns(rate, now_ns):
            bucket.spend()
            asked += CHUNK_BYTES
        assert asked <= max(rate, CHUNK_BYTES) + CHUNK_BYTES + rate * (now_ns - start_ns) / SECOND + 1


@pytest.mark.parametrize("index", [0, 1])
def test_a_chunk_under_a_false_index_is_rejected(index: int) -> None:
    """The frame says which chunk it is; the topic must agree."""
    data = random.Random(1).randbytes(2 * CHUNK_BYTES)
    receiver = Receiver(object_ref(data))
    receiver.start()
    (output,) = receiver.on_chunk(index, frame(data, 1 - index))
    assert isinstance(output, Rejected)
    assert f"chunk {index}" in output.reason


def test_chunk_list_must_fit_the_length() -> None:
    """A reference whose digests do not match its length is malformed."""
    ref = object_ref(bytes(CHUNK_BYTES))
    with pytest.raises(MalformedError, match="chunk digests"):
        Receiver(ObjectRef(sha256=ref.sha256, bytes=3 * CHUNK_BYTES, chunks=ref.chunks))


@given(st.binary(max_size=200))
def test_garbage_frames_are_malformed_never_more(payload: bytes) -> None:
    """Arbitrary bytes either parse or raise MalformedError."""
    try:
        index, count, data = unframe(payload)
    except MalformedError:
        return
    assert index < count
    assert data


def test_a_chunk_is_not_copied_to_be_looked_at() -> None:
    """On its way to the disk each byte is copied once, when what came together is written together."""
    payload = frame(bytes(CHUNK_BYTES), 0)
    view = unframe(payload)[2]
    assert view.obj is payload
    assert len(view) == CHUNK_BYTES


def test_frames_fit_every_broker() -> None:
    """A full chunk with its header is exactly 60 KiB."""
    assert [len(payload) for payload in frames(bytes(CHUNK_BYTES + 1))] == [60 * 1024, 13]
