"""safetensors: a JSON header that describes the bytes after it, without gaps or overlaps, and nothing else."""

import struct
from typing import Any, Final

import msgspec
from safetensors import SafetensorError, deserialize

from cloud.inspection.refusal import MAX_NAMES, RefusedError, check_count, shown

MAX_HEADER_BYTES: Final = 4 * 1024 * 1024
_LENGTH: Final = struct.Struct("<Q")


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def is_safetensors(data: bytes) -> bool:
    """Does `data` begin with the length of a header, and that header?"""
    return len(data) > _LENGTH.size and data[_LENGTH.size : _LENGTH.size + 1] == b"{"


def describe(data: bytes) -> dict[str, Any]:
    """Names, shapes and types of its tensors. Raises RefusedError."""
    length = _LENGTH.unpack_from(data)[0]
    if length > min(MAX_HEADER_BYTES, len(data) - _LENGTH.size):
        raise RefusedError(
            f"its safetensors header claims {length} bytes; {MAX_HEADER_BYTES} are allowed, the file has {len(data)}"
        )
    header = data[_LENGTH.size : _LENGTH.size + length]
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        check_count("tensors", len(raw))
        tensors = {name: msgspec.json.decode(one, type=_Tensor) for name, one in raw.items()}
        deserialize(data)  # type: ignore[no-untyped-call]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(f"its safetensors header cannot be understood: {error}") from error
    except SafetensorError as error:
        raise RefusedError(f"it is no valid safetensors file: {shown(error)}") from error
    assert len(tensors) <= MAX_NAMES
    described = sorted(tensors.items())
    return {"tensors": [{"name": name, "shape": one.shape, "dtype": one.dtype} for name, one in described]}
