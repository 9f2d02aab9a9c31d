"""Certificates for devices and for the hub's own programs on a broker, and the list of those that were revoked (X.509).

Of a signing request only the key counts: P-256, and the request signed by it. The name is the hub's to give. What is
issued serves TLS clients only, and names the device as its common name, which is what a broker takes for the username.
"""

import datetime
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.adapters.certificates import AUTHORITY_FILE, AUTHORITY_KEY_FILE, BACKDATE, builder, pem
from cloud.ports import Certificate, RevokedCertificate, SigningRequestError
from wire.identity import PROOF_CONTEXT, RecoverRequest
from wire.ports import SECOND

LIST_LIFE = datetime.timedelta(days=3650)
"""A list that has expired would lock everybody out; the hub writes a new one whenever it changes and at every start."""


class DeviceAuthority:
    """The `cloud.ports.Authority` with the key in `directory` (`cloud.adapters.certificates` makes it).

    Where serials and nonces come from can be replaced: a simulation has to repeat itself.
    """

    def __init__(self, directory: Path, life: datetime.timedelta) -> None:
        self._key, self._certificate, self._life = *_read(directory), life

    def key_of(self, csr: str) -> str:
        """SHA-256 (hex) of the requested key's SubjectPublicKeyInfo. Raises SigningRequestError."""
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(_requested(csr).public_bytes(serialization.Encoding.DER, spki)).hexdigest()

    def issue(self, device: str, csr: str, now_ns: int) -> Certificate:
        """A client certificate that names `device`. Raises SigningRequestError."""
        made = self._sign(device, _requested(csr), _time(now_ns), self._life)
        return _described(made)

    def proven(self, request: RecoverRequest) -> Certificate:
        """Check that the certificate is ours and its key signed the request. Raises SigningRequestError."""
        try:
            old = x509.load_pem_x509_certificate(request.certificate.encode())
            old.verify_directly_issued_by(self._certificate)
            described = _described(old)
            key = old.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)  # we issue for no other
            key.verify(request.proof, PROOF_CONTEXT + request.csr.encode(), ec.ECDSA(hashes.SHA256()))
        except (ValueError, TypeError, IndexError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
            raise SigningRequestError(f"the certificate is none of this fleet: {error}") from error
        except InvalidSignature as error:
            raise SigningRequestError("the proof is not by the key of a certificate of this fleet") from error
        return described

    def login(self, name: str, life: datetime.timedelta, now: datetime.datetime) -> tuple[str, str]:
        """Certificate and key (PEM) for a program of the hub's own."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._sign(name, key.public_key(), now, life)
        return made.public_bytes(serialization.Encoding.PEM).decode(), pem(key).decode()

    def revocation_list(self, revoked: Iterable[RevokedCertificate], now: datetime.datetime) -> bytes:
        """The list (PEM) that a broker checks certificates against."""
        made = x509.CertificateRevocationListBuilder(self._certificate.subject, now - BACKDATE, now + LIST_LIFE)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder(int(one.serial, 16), _time(one.revoked_ns)).build()
            made = made.add_revoked_certificate(entry)
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _sign(
        self, name: str, key: ec.EllipticCurvePublicKey, now: datetime.datetime, life: datetime.timedelta
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return self._signed(
            builder(subject, self._certificate.subject, key, self._serial(), (now, life))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(issuer_id, critical=False)
        )

    def _serial(self) -> int:
        return x509.random_serial_number()

    def _signed(self, certificate: x509.CertificateBuilder) -> x509.Certificate:
        return certificate.sign(self._key, hashes.SHA256())


def _read(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = serialization.load_pem_private_key((directory / AUTHORITY_KEY_FILE).read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key, x509.load_pem_x509_certificate((directory / AUTHORITY_FILE).read_bytes())


@functools.lru_cache(maxsize=8)  # looked at several times while it is being answered
def _requested(csr: str) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key, signed = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningRequestError(f"not a signing request (PKCS #10, PEM) for P-256: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SigningRequestError("the key of a device has to be on the curve P-256")
    if not signed:
        raise SigningRequestError("the signing request is not signed by its own key")
    return key


def _described(certificate: x509.Certificate) -> Certificate:
    """Raises ExtensionNotFound or ValueError when it is not a device's."""
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if list(usage) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise ValueError("not for a client")
    name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    expires_ns = int(certificate.not_valid_after_utc.timestamp()) * SECOND
    return Certificate(f"{certificate.serial_number:x}", str(name), text, expires_ns)


def _time(ns: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ns // SECOND, datetime.UTC)
