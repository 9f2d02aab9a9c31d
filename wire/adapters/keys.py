"""Ed25519 keys on disk (private ones with mode 0600) and as the sign / verify functions that `wire.dsse` wants."""

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wire.dsse import Sign, Verify, keyid
from wire.errors import MalformedError


class SigningKey:
    """A private key. Its hexadecimal public half is safe to show."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()

    @property
    def public_hex(self) -> str:
        """The 32 public bytes as 64 hex digits."""
        return self.public.hex()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return self._private.sign(message)

    def signers(self) -> dict[str, Sign]:
        """This key in the form `wire.dsse.seal` takes."""
        return {keyid(self.public): self.sign}


def load_or_create(path: Path) -> SigningKey:
    """Read the key at `path`, or make one there (mode 0600, durable before it is used).

    Raises:
        MalformedError: the file is not a 32-byte ed25519 key in hexadecimal.
    """
    if not path.exists():
        _write_private(path, Ed25519PrivateKey.generate().private_bytes_raw().hex().encode() + b"\n")
    try:
        return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip())))
    except ValueError as error:
        raise MalformedError(f"{path}: not an ed25519 private key (64 hex digits): {error}") from error


def verifiers(public_keys_hex: Iterable[str]) -> dict[str, Verify]:
    """Public keys (64 hex digits each) in the form `wire.dsse.unseal` takes.

    Raises:
        MalformedError: one of them is not such a key.
    """
    return dict(_verifier(text) for text in public_keys_hex)


def _verifier(text: str) -> tuple[str, Verify]:
    try:
        raw = bytes.fromhex(text)
        key = Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise MalformedError(f"{text[:80]!r} is not an ed25519 public key (64 hex digits): {error}") from error

    def verify(signature: bytes, message: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return keyid(raw), verify


def _write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
