"""What every TUF document shares: keys, times, signatures, and one way for what is wrong with it to be said.

python-tuf's errors end here: what cannot be read is a MalformedError, what nobody trusted has signed a SignatureError.
"""

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Key, Signature, Signer, SSlibKey
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from wire.adapters.keys import SigningKey
from wire.errors import MalformedError, OversizeError, SignatureError
from wire.ports import SECOND
from wire.trust import Standing

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


def tuf_key(public_hex: str) -> SSlibKey:
    """An ed25519 public key (64 hex digits) as TUF names it. Raises MalformedError."""
    try:
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)))
    except ValueError as error:
        raise MalformedError(f"{public_hex[:80]!r} is not an ed25519 public key (64 hex digits): {error}") from error


def seal(signed: S, *keys: SigningKey, before: Mapping[str, Signature] | None = None) -> bytes:
    """The document with these signatures, beside those it had `before`."""
    document = Metadata(signed, dict(before or {}))
    for key in keys:
        document.sign(_Pen(key), append=True)
    return document.to_bytes()


def load(data: bytes, kind: type[S], name: str, limit: int) -> Metadata[S]:
    """Parse a document of this kind. Raises OversizeError, MalformedError."""
    if len(data) > limit:
        raise OversizeError(f"{name}: {len(data)} bytes, at most {limit} allowed")
    with refusing(name):
        document: Metadata[S] = Metadata.from_bytes(data)
        if document.signed.type != kind.type:
            raise MalformedError(f"{name}: holds {document.signed.type!r} metadata, expected {kind.type!r}")
        return document


def verify(delegator: Root | Targets, document: Metadata[S], role: str) -> None:
    """Do enough keys that `delegator` names for `role` stand behind the document? Raises SignatureError."""
    with refusing(role):
        delegator.verify_delegate(role, document.signed_bytes, document.signatures)


def standing(signed: Signed) -> Standing:
    """Version and expiry."""
    return Standing(signed.version, int(signed.expires.timestamp()) * SECOND)


def datetime_of(at_ns: int) -> datetime.datetime:
    """A moment as TUF writes it: whole seconds, UTC."""
    return datetime.datetime.fromtimestamp(at_ns // SECOND, datetime.UTC)


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn the library's errors about received data into ours."""
    try:
        yield
    except UnsignedMetadataError as error:
        raise SignatureError(f"{name}: no key that may sign it has signed it ({error})") from error
    except (RepositoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MalformedError(f"{name}: {error or type(error).__name__}") from error


class _Pen(Signer):
    """Our key as the library wants it."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self._public = tuf_key(key.public_hex)

    @property
    def public_key(self) -> Key:
        return self._public

    @classmethod
    def from_priv_key_uri(cls, *arguments: object) -> "Signer":
        """Keys come from files of ours, never from a URI."""
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        return Signature(self._public.keyid, self._key.sign(payload).hex())
