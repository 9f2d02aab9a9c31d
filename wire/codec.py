"""Control documents are JSON of bounded size with unknown fields refused; this module is the only way in and out."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from wire.errors import MalformedError, OversizeError

SCHEMA = 1
"""Schema of a document that says nothing that a later schema brought. One that does names the schema that did."""

SPEAKS = (1, 2)
"""Lowest and highest schema this build can read. An agent announces its own; the hub writes it nothing beyond."""

MAX_CONTROL_BYTES = 64 * 1024
MAX_ASSIGNMENT_BYTES = 8 * 1024
MAX_RELEASE_BYTES = 256 * 1024

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_decoder: Callable[[Any], msgspec.json.Decoder[Any]] = functools.cache(msgspec.json.Decoder)
"""Made once for each kind: to make one takes longer than to read a small document."""


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every control document: immutable, and a field it does not know is an error, not a surprise."""


def encode(document: object) -> bytes:
    """Serialise a document to compact JSON, fields in order of definition. Signatures cover these very bytes."""
    return _encoder.encode(document)


def decode(payload: bytes, kind: type[T], *, limit: int = MAX_CONTROL_BYTES) -> T:
    """Parse `payload` as a `kind`.

    Raises:
        OversizeError: the payload is longer than `limit` bytes.
        MalformedError: it is not JSON, lacks a field, has an unknown one or a value of the wrong type; says which.
    """
    if len(payload) > limit:
        raise OversizeError(f"{_name(kind)}: {len(payload)} bytes, at most {limit} allowed")
    try:
        document: T = _decoder(kind).decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{_name(kind)}: {error}") from error
    return document


def _name(kind: object) -> str:
    """Of a document, or of the documents that it may be."""
    return getattr(kind, "__name__", str(kind))
