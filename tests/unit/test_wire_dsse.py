"""Signed envelopes: only the exact bytes, of the exact type, under a trusted key are believed."""

from pathlib import Path

import pytest

from wire.adapters.keys import load_or_create, verifiers
from wire.codec import decode, encode
from wire.dsse import ASSIGNMENT_TYPE, TIME_TYPE, Envelope, payload_of, pre_authentication_encoding, seal, unseal
from wire.errors import MalformedError, OversizeError, SignatureError


@pytest.fixture
def key(tmp_path: Path):
    """A fresh key."""
    return load_or_create(tmp_path / "key")


def test_pre_authentication_encoding_follows_the_specification() -> None:
    """The example of the DSSE v1 specification."""
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_signed_payload_comes_back(key) -> None:
    """Seal, then unseal with the public half."""
    sealed = seal(b"payload", TIME_TYPE, key.signers())
    assert unseal(sealed, TIME_TYPE, verifiers([key.public_hex]), limit=1000) == b"payload"


def test_every_alteration_is_refused(key, tmp_path: Path) -> None:
    """Other payload, other type, other key, no matching key: each with its own reason."""
    trusted = verifiers([key.public_hex])
    envelope = decode(seal(b"payload", TIME_TYPE, key.signers()), Envelope)
    other = decode(seal(b"another", TIME_TYPE, key.signers()), Envelope)
    forged = encode(Envelope(payloadType=TIME_TYPE, payload=other.payload, signatures=envelope.signatures))
    with pytest.raises(SignatureError, match="does not match"):
        unseal(forged, TIME_TYPE, trusted, limit=1000)
    with pytest.raises(SignatureError, match="expected"):
        unseal(encode(envelope), ASSIGNMENT_TYPE, trusted, limit=1000)
    stranger = load_or_create(tmp_path / "stranger")
    with pytest.raises(SignatureError, match="no trusted key"):
        unseal(seal(b"payload", TIME_TYPE, stranger.signers()), TIME_TYPE, trusted, limit=1000)


def test_who_sealed_it_reads_it_without_a_key(key) -> None:
    """The same bytes; what is no envelope, or too much of one, is refused all the same."""
    sealed = seal(b"payload", TIME_TYPE, key.signers())
    assert payload_of(sealed, limit=1000) == b"payload"
    with pytest.raises(MalformedError):
        payload_of(sealed.replace(b"cGF5bG9hZA", b"cGF5bG9hZ_"), limit=1000)
    with pytest.raises(OversizeError):
        payload_of(sealed, limit=10)


def test_garbage_is_malformed_and_excess_is_oversize(key) -> None:
    """Neither gets as far as a signature check."""
    trusted = verifiers([key.public_hex])
    with pytest.raises(MalformedError):
        unseal(b"{}", TIME_TYPE, trusted, limit=1000)
    with pytest.raises(OversizeError):
        unseal(b" " * 1001, TIME_TYPE, trusted, limit=1000)


def test_private_key_file_is_private_and_stable(tmp_path: Path) -> None:
    """Mode 0600; loading again gives the same key; a damaged file is refused, not replaced."""
    path = tmp_path / "keys" / "director"
    first = load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create(path).public == first.public
    path.write_text("not a key")
    with pytest.raises(MalformedError, match="ed25519"):
        load_or_create(path)
    assert path.read_text() == "not a key"
