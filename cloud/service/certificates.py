"""Certificates of devices: issued, renewed and recovered in one transaction each, so that what exists is on record.

The same request gets the same certificate again while that one is valid, because answers get lost.
"""

import logging

from sqlalchemy import Connection, bindparam, func, insert, select, update

from cloud.core import identity
from cloud.core.identity import Denied
from cloud.ports import Authority, Certificate, RevokedCertificate, SigningRequestError, Store
from cloud.service import audit
from cloud.tables import ENROLLED, certificates, devices
from wire.asks import AskRenewal, Refused, Renewed
from wire.identity import RecoverRequest
from wire.ports import Clock

log = logging.getLogger(__name__)

_VALID = (
    (certificates.c.device == bindparam("name"))
    & certificates.c.revoked_ns.is_(None)
    & (certificates.c.expires_ns > bindparam("now_ns"))
)
_HOW_MANY = select(func.count()).select_from(certificates).where(_VALID)
_FOR_KEY = (
    select(certificates)
    .where(_VALID, certificates.c.key_sha256 == bindparam("key"))
    .order_by(certificates.c.issued_ns.desc())
    .limit(1)
)
_ENTER = insert(certificates)
_REVOKE = (
    update(certificates)
    .where(certificates.c.device == bindparam("name"), certificates.c.revoked_ns.is_(None))
    .values(revoked_ns=bindparam("now_ns"))
)
_NEWEST = (
    update(devices)
    .where(devices.c.name == bindparam("given_name"))
    .values(certificate_serial=bindparam("serial"), certificate_expires_ns=bindparam("expires_ns"))
)


class Renewals:
    """Answers `wire.asks.AskRenewal`. Who asks is known: only the holder of a valid certificate reaches that topic."""

    def __init__(self, store: Store, clock: Clock, authority: Authority | None) -> None:
        self._store = store
        self._clock = clock
        self._authority = authority

    async def answer(self, device: str, question: AskRenewal) -> Renewed | Refused:
        """A certificate for the key in the signing request."""
        authority, now_ns = self._authority, self._clock.now_ns()
        if authority is None:
            return Refused(reason="devices of this fleet log in with passwords")
        try:
            issued = await self._store.write(lambda conn: renewed(conn, authority, device, question.csr, now_ns))
        except SigningRequestError as error:
            return Refused(reason=str(error)[:500])
        return Refused(reason=issued.reason) if isinstance(issued, Denied) else Renewed(certificate=issued.pem)


def issue(conn: Connection, authority: Authority, device: str, csr: str, now_ns: int) -> Certificate:
    """A certificate, on record as the device's newest. Raises SigningRequestError."""
    key = authority.key_of(csr)
    known = _valid_for(conn, device, key, now_ns)
    if known is not None:
        return known
    made = authority.issue(device, csr, now_ns)
    term = {"issued_ns": now_ns, "expires_ns": made.expires_ns}
    conn.execute(_ENTER, {"serial": made.serial, "device": device, "pem": made.pem, "key_sha256": key} | term)
    conn.execute(_NEWEST, {"given_name": device, "serial": made.serial, "expires_ns": made.expires_ns})
    return made


def renewed(conn: Connection, authority: Authority, device: str, csr: str, now_ns: int) -> Certificate | Denied:
    """The next certificate of an enrolled device, or why there is none. Raises SigningRequestError."""
    if conn.scalar(select(devices.c.name).where(devices.c.name == device, ENROLLED)) is None:
        return Denied("this device is not enrolled")
    known = _valid_for(conn, device, authority.key_of(csr), now_ns)
    if known is not None:
        return known
    denied = identity.renew(conn.execute(_HOW_MANY, {"name": device, "now_ns": now_ns}).scalar_one())
    return denied or issue(conn, authority, device, csr, now_ns)


def recovered(conn: Connection, authority: Authority, request: RecoverRequest, now_ns: int) -> Certificate | Denied:
    """A new certificate for the holder of an old one that has ended. Raises SigningRequestError."""
    old = authority.proven(request)
    revoked = select(certificates.c.revoked_ns).where(certificates.c.serial == old.serial)
    denied = identity.recover(old.expires_ns, conn.scalar(revoked) is not None, now_ns)
    if denied is not None:
        return denied
    issued = renewed(conn, authority, old.device, request.csr, now_ns)
    if not isinstance(issued, Denied):
        audit.record(conn, now_ns, f"device:{old.device}", ("device.recover", old.device), serial=issued.serial)
    return issued


def is_for_key(conn: Connection, device: str, key: str, now_ns: int) -> bool:
    """Does the device have a valid certificate for this public key (SHA-256, hex)?"""
    return _valid_for(conn, device, key, now_ns) is not None


def revoke_all(conn: Connection, device: str, now_ns: int) -> None:
    """None of the certificates that the device has so far counts any more."""
    conn.execute(_REVOKE, {"name": device, "now_ns": now_ns})


def revoked(conn: Connection, now_ns: int) -> tuple[RevokedCertificate, ...]:
    """What a broker must refuse: revoked and not expired, in order of serial."""
    query = (
        select(certificates.c.serial, certificates.c.device, certificates.c.revoked_ns)
        .where(certificates.c.revoked_ns.is_not(None), certificates.c.expires_ns > now_ns)
        .order_by(certificates.c.serial)
    )
    return tuple(RevokedCertificate(row.serial, row.device, row.revoked_ns) for row in conn.execute(query))


def _valid_for(conn: Connection, device: str, key: str, now_ns: int) -> Certificate | None:
    row = conn.execute(_FOR_KEY, {"name": device, "key": key, "now_ns": now_ns}).one_or_none()
    return None if row is None else Certificate(row.serial, row.device, row.pem, row.expires_ns)
