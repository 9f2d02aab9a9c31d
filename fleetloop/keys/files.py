"""Private keys and roots as files: keys are 0600 and made once, roots are `N.root.json` and replaced whole.

A key is either 64 hex digits, as hub and publisher read them, or an encrypted PEM where a passphrase is given.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire.adapters.keys import SigningKey
from wire.errors import MalformedError
from wire.trust import MAX_ROOT_BYTES

PEM_START = b"-----BEGIN"


def make_key(path: Path, passphrase: bytes) -> SigningKey:
    """A new key at `path`, durable before it is used. Raises MalformedError if there is one already."""
    private = Ed25519PrivateKey.generate()
    content = _encrypted(private, passphrase) if passphrase else private.private_bytes_raw().hex().encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise MalformedError(f"key file {path}: {error.strerror}; a key is never overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return SigningKey(private)


def read_key(path: Path, passphrase: bytes) -> SigningKey:
    """The key at `path`. Raises MalformedError; nothing of the file is shown."""
    content = _read(path, "key file")
    try:
        if not content.startswith(PEM_START):
            return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(content.decode().strip())))
        private = serialization.load_pem_private_key(content, passphrase or None)
    except TypeError as error:
        raise MalformedError(f"key file {path} is encrypted: name a passphrase_file") from error
    except ValueError as error:
        raise MalformedError(f"key file {path}: no ed25519 key, or the wrong passphrase") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise MalformedError(f"key file {path}: no ed25519 key")
    return SigningKey(private)


def read_passphrase(path: str) -> bytes:
    """The first line of the file; empty without a file. Raises MalformedError."""
    if not path:
        return b""
    line = _read(Path(path), "passphrase_file").partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise MalformedError(f"passphrase_file {path} is empty")
    return line


def public_keys(texts: Iterable[str]) -> tuple[str, ...]:
    """Public keys, each given as 64 hex digits or as a file with one a line. Raises MalformedError."""
    found: list[str] = []
    for text in texts:
        if len(text) == 64 and not Path(text).exists():
            found.append(text.lower())
        else:
            found += _read(Path(text), "public key").decode(errors="replace").split()
    return tuple(dict.fromkeys(found))


def roots(directory: Path) -> dict[int, Path]:
    """Version -> file of every root in the directory, oldest first."""
    found = {int(path.name.partition(".")[0]): path for path in directory.glob("[1-9]*.root.json")}
    return dict(sorted(found.items()))


def read_root(path: Path) -> bytes:
    """The bytes of a root. Raises MalformedError."""
    return _read(path, "root")


def write_root(path: Path, root: bytes) -> None:
    """Replace the file whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(root)
    temporary.replace(path)


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise MalformedError(f"{what} {path}: {error.strerror}") from error


def _encrypted(private: Ed25519PrivateKey, passphrase: bytes) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
