"""DSSE envelopes (Dead Simple Signing Envelope v1.0): how a document and its signatures travel together.

No key and no cryptography library is known here: signing and verifying are functions that an adapter passes in.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import msgspec

from wire.codec import Document, decode, encode
from wire.errors import MalformedError, SignatureError, UnknownSignerError

ASSIGNMENT_TYPE = "application/vnd.fleetloop.assignment+json"
TIME_TYPE = "application/vnd.fleetloop.time+json"

Verify = Callable[[bytes, bytes], bool]
"""(signature, message) -> does it hold?"""
Sign = Callable[[bytes], bytes]


class Signature(Document, frozen=True, kw_only=True):
    """One signature, base64, with the id of the key that made it."""

    keyid: Annotated[str, msgspec.Meta(max_length=64)]
    sig: Annotated[str, msgspec.Meta(max_length=1024)]


class Envelope(Document, frozen=True, kw_only=True):
    """A payload (base64) of a named type and the signatures over both."""

    payloadType: str  # noqa: N815 - the field names are the specification's
    payload: str
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=8)]


class Unsealed(NamedTuple):
    """A payload, and the id of the trusted key that signed it."""

    payload: bytes
    keyid: str


def keyid(public_key: bytes) -> str:
    """Id of an ed25519 key: the first 16 hex digits of the SHA-256 over its 32 raw bytes."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: type and payload, each with its length, so neither can pose as the other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, payload_type: str, signers: Mapping[str, Sign]) -> bytes:
    """Sign `payload` with every key of `signers` (key id -> sign function) and return the envelope's bytes."""
    message = pre_authentication_encoding(payload_type, payload)
    signatures = tuple(
        Signature(keyid=key, sig=base64.b64encode(sign(message)).decode()) for key, sign in signers.items()
    )
    body = base64.b64encode(payload).decode()
    return encode(Envelope(payloadType=payload_type, payload=body, signatures=signatures))


def unseal(envelope: bytes, payload_type: str, trusted: Mapping[str, Verify], *, limit: int) -> bytes:
    """Return the payload if one trusted key signed it as a `payload_type`. Raises as `unseal_by` does."""
    return unseal_by(envelope, payload_type, trusted, limit=limit).payload


def unseal_by(envelope: bytes, payload_type: str, trusted: Mapping[str, Verify], *, limit: int) -> Unsealed:
    """Return the payload and who signed it, if one trusted key signed it as a `payload_type`.

    Raises:
        OversizeError, MalformedError: not an envelope of at most `limit` bytes.
        UnknownSignerError: no trusted key is named in it.
        SignatureError: other type, or a signature that does not hold.
    """
    document = decode(envelope, Envelope, limit=limit)
    if document.payloadType != payload_type:
        raise SignatureError(f"envelope holds {document.payloadType!r}, expected {payload_type!r}")
    payload = _unbase64(document.payload, "payload")
    message = pre_authentication_encoding(payload_type, payload)
    known = [signature for signature in document.signatures if signature.keyid in trusted]
    if not known:
        names = ", ".join(sorted({signature.keyid for signature in document.signatures}))
        raise UnknownSignerError(f"no trusted key signed this {payload_type} (signed by: {names})")
    for signature in known:
        if trusted[signature.keyid](_unbase64(signature.sig, "signature"), message):
            return Unsealed(payload, signature.keyid)
    raise SignatureError(f"the signature by key {known[0].keyid} does not match the {payload_type}")


def payload_of(envelope: bytes, *, limit: int) -> bytes:
    """Return the payload whoever signed it: for who has kept what he sealed himself.

    Raises OversizeError or MalformedError: not an envelope of at most `limit` bytes.
    """
    return _unbase64(decode(envelope, Envelope, limit=limit).payload, "payload")


def _unbase64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"envelope {what} is not base64: {error}") from error
