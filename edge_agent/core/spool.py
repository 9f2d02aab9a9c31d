"""The outbox's file format: frames one after the other; the first that is torn, altered or out of order ends the file.

Every frame also says how far things were when it was written, so that the newest one on the disk tells a restarted
agent what need not be sent again and how much was ever dropped.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

_LENGTH = struct.Struct("<II")
"""Bytes that follow, and their CRC-32."""
_COUNTERS = struct.Struct("<QQQ")
"""`seq`, `done`, `dropped`; then the payload."""
OVERHEAD_BYTES: Final = _LENGTH.size + _COUNTERS.size


@dataclass(frozen=True, slots=True)
class Frame:
    """One message in the outbox. Numbers grow from frame to frame."""

    seq: int
    payload: bytes
    done: int = 0
    """Everything up to this number had been receipted or dropped."""
    dropped: int = 0
    """Messages dropped, ever."""

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return OVERHEAD_BYTES + len(self.payload)


def dump(frame: Frame) -> bytes:
    """The bytes of a frame."""
    body = _COUNTERS.pack(frame.seq, frame.done, frame.dropped) + frame.payload
    return _LENGTH.pack(len(body), zlib.crc32(body)) + body


def parse(data: bytes) -> tuple[Frame, ...]:
    """The frames at the beginning of `data`, up to the first that is not whole. Never raises."""
    frames: list[Frame] = []
    at, last = 0, 0
    while at + OVERHEAD_BYTES <= len(data):
        length, checksum = _LENGTH.unpack_from(data, at)
        body = data[at + _LENGTH.size : at + _LENGTH.size + length]
        if length < _COUNTERS.size or len(body) != length or zlib.crc32(body) != checksum:
            break
        seq, done, dropped = _COUNTERS.unpack_from(body)
        if seq <= last:
            break
        frames.append(Frame(seq, body[_COUNTERS.size :], done, dropped))
        at, last = at + _LENGTH.size + length, seq
    return tuple(frames)
