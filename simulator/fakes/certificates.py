"""Certificates that repeat themselves: the real X.509 of hub and device, with keys, serials and nonces from the seed.

Signatures take their nonces from key and message (RFC 6979), so certificates belong to the digest of a run.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloud.adapters.certificates import authority
from cloud.adapters.device_certificates import DeviceAuthority
from edge_agent.adapters.p256_keys import P256Keys
from simulator.core.memo import Memo
from simulator.core.rng import Rng
from wire.ports import SECOND

SERIAL_BYTES: Final = 16


def seeded_key(draw: Callable[[int], bytes]) -> ec.EllipticCurvePrivateKey:
    """A key on P-256 of 31 random bytes: fewer than its order has, so that all of them make one."""
    return ec.derive_private_key(1 + int.from_bytes(draw(31), "big"), ec.SECP256R1())


class SeededAuthority(DeviceAuthority):
    """The hub's authority, founded at `now_ns`; devices' certificates live for `life_ns`."""

    def __init__(self, rng: Rng, now_ns: int, life_ns: int) -> None:
        self._rng = rng
        self._key = seeded_key(rng.bytes)
        self._life = datetime.timedelta(seconds=life_ns // SECOND)
        founded = datetime.datetime.fromtimestamp(now_ns // SECOND, datetime.UTC)
        self._certificate = self._signed(authority(self._key.public_key(), self._serial(), founded))

    @property
    def pem(self) -> str:
        """Its own certificate."""
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def _serial(self) -> int:
        return 1 + int.from_bytes(self._rng.bytes(SERIAL_BYTES), "big")

    def _signed(self, certificate: x509.CertificateBuilder) -> x509.Certificate:
        return certificate.sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)


class SeededKeys(P256Keys):
    """A device's keys."""

    __slots__ = ("_rng",)

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def _new_key(self) -> ec.EllipticCurvePrivateKey:
        return seeded_key(self._rng.bytes)

    def _signed(
        self, request: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateSigningRequest:
        return request.sign(key, hashes.SHA256(), ecdsa_deterministic=True)

    def _scheme(self) -> ec.ECDSA:
        return ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a broker sees of a certificate that its client shows: whose it is, its serial (hexadecimal), its time."""

    name: str
    serial: str
    begins_ns: int
    ends_ns: int


_SHOWN: Final[Memo[tuple[str, str], Shown | None]] = Memo()


def shown(pem: str, authority_pem: str) -> Shown | None:
    """What a certificate says; None: this authority has not signed it."""
    return _SHOWN.get((pem, authority_pem), lambda: _read(pem, authority_pem))


def _read(pem: str, authority_pem: str) -> Shown | None:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem.encode()))
    except (ValueError, TypeError, InvalidSignature):
        return None
    name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    moments = (int(moment.timestamp()) * SECOND for moment in (begins, ends))
    return Shown(str(name), f"{certificate.serial_number:x}", *moments)
