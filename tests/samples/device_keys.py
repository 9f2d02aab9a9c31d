"""What a device has of its own: a key, signing requests for it, and the proof that it holds it."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloud.adapters.certificates import TlsFiles, ensure
from cloud.adapters.device_certificates import DeviceAuthority
from wire.identity import PROOF_CONTEXT, RecoverRequest

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """As a device makes it."""
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Key, name: str = "anything") -> str:
    """A signing request (PEM)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, digest)
    return request.public_bytes(Encoding.PEM).decode()


def pem(key: Key) -> str:
    """The key itself (PEM)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def recovery(old: ec.EllipticCurvePrivateKey, certificate: str, request: str) -> RecoverRequest:
    """The request of a device whose certificate has ended."""
    proof = old.sign(PROOF_CONTEXT + request.encode(), ec.ECDSA(hashes.SHA256()))
    return RecoverRequest(certificate=certificate, csr=request, proof=proof)


def hub_authority(directory: Path, days: float = 14) -> tuple[TlsFiles, DeviceAuthority]:
    """The hub's server files and its authority, in `directory`."""
    tls = ensure(directory, ("127.0.0.1", "localhost"), datetime.datetime.now(datetime.UTC))
    return tls, DeviceAuthority(directory, datetime.timedelta(days=days))
