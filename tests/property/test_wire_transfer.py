"""The chunk receiver under loss, duplication, corruption, reordering and restarts: it ends with exactly the object."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import MalformedError
from wire.release import ObjectRef, object_ref
from wire.transfer.chunks import CHUNK_BYTES, frame, frames, unframe
from wire.transfer.receiver import Complete, Receiver, Rejected, Request, Write


class Store:
    """What a device has on disk: bytes and the set of durable chunks."""

    def __init__(self, length: int) -> None:
        self.data = bytearray(length)
        self.have: set[int] = set()


def transfer(data: bytes, rng: random.Random, loss: float, corrupt: float, restart: float) -> Store:
    """Drive a receiver to its end over a hostile link, with restarts that keep only what is durable."""
    ref, store = object_ref(data), Store(len(data))
    receiver = Receiver(ref)
    queue = receiver.start()
    for _ in range(10_000):
        if any(isinstance(output, Complete) for output in queue):
            return store
        if rng.random() < restart:
            receiver = Receiver(ref, store.have)
            queue = receiver.start()
        wanted = [index for output in queue if isinstance(output, Request) for index in output.indices]
        arrivals = [(index, frame(data, index)) for index in wanted for _ in range(rng.choice((1, 1, 2)))]
        rng.shuffle(arrivals)
        queue = []
        for index, payload in arrivals:
            if rng.random() < loss:
                continue
            damaged = payload[:-1] + bytes([payload[-1] ^ 1])
            queue += step(receiver, store, index, damaged if rng.random() < corrupt else payload)
        queue = queue or receiver.on_timeout()
    raise AssertionError("the transfer does not end")


def step(receiver: Receiver, store: Store, index: int, payload: bytes) -> list[object]:
    """Deliver one payload; perform the write it causes."""
    out: list[object] = []
    for output in receiver.on_chunk(index, payload):
        if isinstance(output, Write):
            store.data[output.offset : output.offset + len(output.data)] = output.data
            store.have.add(output.index)
            out += receiver.on_written(output.index)
        else:
            out.append(output)
    return out


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 20 * CHUNK_BYTES),
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.6),
    corrupt=st.floats(0, 0.5),
    restart=st.floats(0, 0.2),
)
def test_ends_with_the_object(size: int, seed: int, loss: float, corrupt: float, restart: float) -> None:
    """Whatever the link does, the stored bytes are the object's."""
    rng = random.Random(seed)
    data = rng.randbytes(size)
    store = transfer(data, rng, loss, corrupt, restart)
    assert hashlib.sha256(store.data).digest() == hashlib.sha256(data).digest()


def test_never_more_than_a_window_outstanding() -> None:
    """Eight chunks are asked for at a time, and one more for each that became durable."""
    data = bytes(20 * CHUNK_BYTES)
    receiver = Receiver(object_ref(data))
    assert receiver.start() == [Request(tuple(range(8)))]
    (write,) = receiver.on_chunk(3, frame(data, 3))
    assert isinstance(write, Write)
    assert receiver.on_written(3) == [Request((8,))]
    assert len(receiver.outstanding) == 8


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


def test_frames_fit_every_broker() -> None:
    """A full chunk with its header is exactly 60 KiB."""
    assert [len(payload) for payload in frames(bytes(CHUNK_BYTES + 1))] == [60 * 1024, 13]
