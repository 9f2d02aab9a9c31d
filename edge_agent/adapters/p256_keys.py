"""Device keys and certificates with `cryptography`: P-256, PKCS #10 requests, ECDSA proofs."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from edge_agent.core.lifetime import Lifetime
from edge_agent.ports import KeyRequest
from wire.ports import SECOND


class P256Keys:
    """Implements `edge_agent.ports.Keys`. Where keys and nonces come from can be replaced: a simulation has to repeat
    itself."""

    def make(self, name: str) -> KeyRequest:
        """A new key and the request for a certificate for it."""
        key = self._new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        csr = self._signed(x509.CertificateSigningRequestBuilder().subject_name(subject), key)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return KeyRequest(pem.decode(), csr.public_bytes(Encoding.PEM).decode())

    def proof(self, key: str, message: bytes) -> bytes:
        """ECDSA (SHA-256, DER) of `message`."""
        return _private(key).sign(message, self._scheme())

    def fit(self, certificate: str, key: str) -> bool:
        """Is this a certificate for this key?"""
        try:
            return x509.load_pem_x509_certificate(certificate.encode()).public_key() == _private(key).public_key()
        except ValueError:
            return False

    def issued_by(self, certificate: str, ca_pem: str) -> bool:
        """Did the authority of `ca_pem` sign it?"""
        try:
            authority = x509.load_pem_x509_certificate(ca_pem.encode())
            x509.load_pem_x509_certificate(certificate.encode()).verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def lifetime(self, certificate: str) -> Lifetime:
        """First and last moment of a certificate."""
        read = x509.load_pem_x509_certificate(certificate.encode())
        begins, ends = read.not_valid_before_utc, read.not_valid_after_utc
        return Lifetime(int(begins.timestamp()) * SECOND, int(ends.timestamp()) * SECOND)

    def _new_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    def _signed(
        self, request: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateSigningRequest:
        return request.sign(key, hashes.SHA256())

    def _scheme(self) -> ec.ECDSA:
        return ec.ECDSA(hashes.SHA256())


def _private(key: str) -> ec.EllipticCurvePrivateKey:
    private = load_pem_private_key(key.encode(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")
    return private
