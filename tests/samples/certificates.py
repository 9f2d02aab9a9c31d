"""A certificate authority for tests: pairs of certificate and key for any life, and a list of revoked ones."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    """The private key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def named(name: str) -> x509.Name:
    """A subject of this common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Authority:
    """Issues what the hub's authority would, and what it would not."""

    def __init__(self, name: str = "test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = named(name)
        self._revoked: list[x509.RevokedCertificate] = []
        self.now = datetime.datetime.now(datetime.UTC)
        builder = self._builder(self._name, self._key.public_key(), -DAY, 100 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def issue(
        self,
        name: str,
        begin: datetime.timedelta = -DAY,
        end: datetime.timedelta = DAY,
        csr: str = "",
        server: bool = False,
    ) -> tuple[str, str]:
        """(certificate, key) as PEM, valid from `begin` to `end` from now; the key is empty for a `csr`."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = x509.load_pem_x509_csr(csr.encode()).public_key() if csr else key.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        builder = self._builder(named(name), public, begin, end)
        if server:
            names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
        return certificate, "" if csr else pem_of(key)

    def revoke(self, certificate: str) -> None:
        """Put it on the list."""
        serial = x509.load_pem_x509_certificate(certificate.encode()).serial_number
        builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self.now)
        self._revoked.append(builder.build())

    def revocations(self) -> bytes:
        """The list (PEM)."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(self.now - DAY).next_update(self.now + DAY)
        for one in self._revoked:
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _builder(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        begin: datetime.timedelta,
        end: datetime.timedelta,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + begin)
            .not_valid_after(self.now + end)
        )
