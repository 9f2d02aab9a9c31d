"""Properties of the outbox's file format: whatever happens to the bytes, what is read was written."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.spool import Frame, dump, parse

COUNT = st.integers(0, 2**63)


@st.composite
def files(draw: st.DrawFn) -> list[Frame]:
    """Frames with numbers that grow."""
    seqs = sorted(draw(st.sets(st.integers(1, 2**63), max_size=6)))
    return [Frame(seq, draw(st.binary(max_size=40)), draw(COUNT), draw(COUNT)) for seq in seqs]


@given(files())
def test_what_was_written_is_read_back(frames: list[Frame]) -> None:
    """Also behind room that was reserved and not used."""
    data = b"".join(map(dump, frames))
    assert parse(data) == tuple(frames)
    assert parse(data + bytes(100)) == tuple(frames)
    assert sum(frame.size for frame in frames) == len(data)


@given(files(), st.data())
def test_a_file_torn_or_altered_gives_its_beginning(frames: list[Frame], data: st.DataObject) -> None:
    """Never a frame that was not written, and never one after a bad one."""
    whole = b"".join(map(dump, frames))
    at = data.draw(st.integers(0, max(0, len(whole) - 1)))
    torn = parse(whole[:at])
    assert torn == tuple(frames[: len(torn)])
    altered = bytearray(whole)
    if altered:
        altered[at] ^= data.draw(st.integers(1, 255))
        found = parse(bytes(altered))
        assert found == tuple(frames[: len(found)])
        assert len(found) < len(frames)


@given(st.binary(max_size=300))
def test_no_bytes_are_mistaken_for_frames(data: bytes) -> None:
    """A checksum of four bytes lets none of these through."""
    assert parse(data) == ()


def test_frames_out_of_order_end_the_file() -> None:
    """They are left over from an earlier use of the same blocks."""
    data = dump(Frame(7, b"new")) + dump(Frame(3, b"old"))
    assert [frame.seq for frame in parse(data)] == [7]
