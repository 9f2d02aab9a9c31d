"""The hub's own certificate authority and server certificate, made at the first start (P-256, `cryptography`).

A server's certificate is good for servers only and a device's (`device_certificates`) for clients only, so none of the
fleet can pose as its broker.
"""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = datetime.timedelta(days=3650)
SERVER_LIFE = datetime.timedelta(days=825)
BACKDATE = datetime.timedelta(days=1)
"""Devices' clocks may be behind."""
AUTHORITY_FILE, AUTHORITY_KEY_FILE = "ca.pem", "ca.key"


@dataclass(frozen=True)
class TlsFiles:
    """What a TLS server needs, and the authority that its clients trust."""

    certificate: Path
    key: Path
    authority: Path
    ca_pem: str


def ensure(directory: Path, hosts: tuple[str, ...], now: datetime.datetime) -> TlsFiles:
    """The TLS files in `directory`; made when they are missing, made anew when `hosts` has grown or expiry is near.

    Only the server certificate is ever replaced: the authority stays, so devices keep trusting it.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_path, ca_key_path = directory / AUTHORITY_FILE, directory / AUTHORITY_KEY_FILE
    if not ca_path.exists():
        _make_authority(ca_path, ca_key_path, now)
    files = TlsFiles(directory / "server.pem", directory / "server.key", ca_path, ca_path.read_text())
    if not _still_good(files, hosts, now):
        _make_server(files, ca_key_path, hosts, now)
    return files


def _still_good(files: TlsFiles, hosts: tuple[str, ...], now: datetime.datetime) -> bool:
    if not (files.certificate.exists() and files.key.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    lasts = certificate.not_valid_after_utc - now > SERVER_LIFE / 3
    return lasts and set(_names(hosts)) <= set(names) and _belong_together(files, certificate)


def _belong_together(files: TlsFiles, certificate: x509.Certificate) -> bool:
    """Not after a power cut between writing the key and the certificate, or when only some files were put back."""
    try:
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files.ca_pem.encode()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return key.public_key() == certificate.public_key()


def _make_authority(path: Path, key_path: Path, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority(key.public_key(), x509.random_serial_number(), now).sign(key, hashes.SHA256())
    write(key_path, pem(key), 0o600)
    write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def authority(key: ec.EllipticCurvePublicKey, serial: int, now: datetime.datetime) -> x509.CertificateBuilder:
    """The authority's own certificate, not signed yet."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fleetloop hub CA")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        builder(name, name, key, serial, (now, CA_LIFE))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _make_server(files: TlsFiles, ca_key_path: Path, hosts: tuple[str, ...], now: datetime.datetime) -> None:
    issuer = x509.load_pem_x509_certificate(files.ca_pem.encode())
    ca_key = serialization.load_pem_private_key(ca_key_path.read_bytes(), password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        builder(subject, issuer.subject, key.public_key(), x509.random_serial_number(), (now, SERVER_LIFE))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write(files.key, pem(key), 0o600)
    write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    serial: int,
    valid: tuple[datetime.datetime, datetime.timedelta],
) -> x509.CertificateBuilder:
    """What every certificate has. `valid`: from when on, and for how long."""
    now, life = valid
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
    )


def _names(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    return [_general_name(host) for host in hosts]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
