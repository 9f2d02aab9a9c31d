"""A file as the difference to another one: a zstd frame with that one as its raw dictionary (RFC 8878, section 5).

The window covers both files, so that a match may lie anywhere in either. Unpacking holds to a given length and window,
whatever the frame says of itself. Imported only where a delta is made or unpacked.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final

import zstandard

from wire.errors import MalformedError

MAX_WINDOW_LOG: Final = 27
"""Two objects of the largest size that the contract allows."""
_LEVEL: Final = 9
_MAX_TABLE_LOG: Final = 25
"""Positions of both files that the search remembers, as a logarithm: what its memory depends on."""
_PIECE_BYTES: Final = 1024 * 1024


def pack(base: bytes, target: bytes) -> bytes:
    """What turns `base` into `target`. Takes about 0.05 s per MB and, for long files, 300 MB of memory.

    Slower searches were tried on weights: they take ten times as long and hardly find more.

    Raises MalformedError.
    """
    window_log = window_log_of(len(base) + len(target))
    table_log = min(window_log - 1, _MAX_TABLE_LOG)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=window_log, hash_log=table_log, chain_log=table_log, strategy=zstandard.STRATEGY_LAZY2
    )
    try:
        return zstandard.ZstdCompressor(dict_data=_dictionary(base), compression_params=parameters).compress(target)
    except zstandard.ZstdError as error:
        raise MalformedError(f"the delta cannot be made: {error}") from error


def unpack(base: bytes, delta: BinaryIO, length: int) -> Iterator[bytes]:
    """The target, `length` bytes long, in pieces.

    Raises:
        MalformedError: not a delta, truncated, made for a larger window than both files need, or of another length.
    """
    window = 1 << window_log_of(len(base) + length)
    unpacker = zstandard.ZstdDecompressor(dict_data=_dictionary(base), max_window_size=window)
    left = length
    try:
        with unpacker.stream_reader(delta, closefd=False) as reader:
            while piece := reader.read(min(_PIECE_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise MalformedError(f"the delta unpacks to more than {length} bytes")
                yield piece
    except zstandard.ZstdError as error:
        raise MalformedError(f"the delta cannot be unpacked: {error}") from error
    if left:
        raise MalformedError(f"the delta unpacks to {length - left} bytes, expected {length}")


def window_log_of(both_bytes: int) -> int:
    """Logarithm of the smallest window that holds this many bytes, at least zstd's own minimum."""
    return min(MAX_WINDOW_LOG, max(10, (both_bytes - 1).bit_length()))


def _dictionary(base: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
