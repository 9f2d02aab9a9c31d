"""What mosquitto is told: its configuration, access rules, the enrolment password and the revoked certificates.

The rules are those of `cloud.core.access`. One listener takes client certificates of the hub's authority and makes
their common names usernames and client ids; the other takes the enrolment password and reaches its topics only.

Nothing is kept on disk (`persistence`): every message that matters comes again from the hub or from a device. Queues
are bounded by large numbers: the defaults drop acknowledged messages in silence, and 0 is broken in some versions.
"""

import base64
import hashlib
import os
import pwd
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud.adapters.certificates import TlsFiles
from cloud.core.access import AGGREGATOR, AGGREGATOR_USER, DEVICE, ENROL_USER, ENROLMENT, HUB, HUB_USER, Access

CONFIGURATION = "mosquitto.conf"
ACCESS, ENROLMENT_ACCESS = "access.acl", "enrolment.acl"
PASSWORDS, REVOKED = "enrolment.passwd", "revoked.pem"
HASH_ROUNDS: Final = 101
"""mosquitto's own number. The password is 256 random bits, so more rounds would add nothing."""

_GENERAL: Final = """\
# Written by the hub at every start; changes made here are lost.
{user}per_listener_settings true
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages false
persistence false
persistent_client_expiration 1d
max_inflight_messages 1000
max_queued_messages 100000
max_queued_bytes 268435456
max_packet_size 131072
set_tcp_nodelay true

"""
_LISTENERS: Final = """\
listener {port} {bind}
certfile {certificate}
keyfile {key}
cafile {authority}
crlfile {directory}/{revoked}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {directory}/{access}

listener {enrol_port} {bind}
certfile {certificate}
keyfile {key}
allow_anonymous false
allow_zero_length_clientid false
password_file {directory}/{passwords}
acl_file {directory}/{enrolment_access}
"""


@dataclass(frozen=True)
class Seat:
    """Where mosquitto listens, under which name devices find it, and where its files are."""

    bind: str
    port: int
    enrol_port: int
    advertised: str
    tls: TlsFiles
    directory: Path
    topic_root: str
    own_host: str = ""
    """Where the hub itself finds it; empty = where devices do."""


def general() -> str:
    """What is said of all listeners. As root, mosquitto would become another user, who cannot read the hub's files."""
    return _GENERAL.format(user=f"user {pwd.getpwuid(0).pw_name}\n" if os.getuid() == 0 else "")


def configuration(seat: Seat) -> str:
    """mosquitto.conf."""
    return general() + _LISTENERS.format(
        bind=seat.bind,
        port=seat.port,
        enrol_port=seat.enrol_port,
        certificate=seat.tls.certificate,
        key=seat.tls.key,
        authority=seat.tls.authority,
        directory=seat.directory,
        revoked=REVOKED,
        access=ACCESS,
        passwords=PASSWORDS,
        enrolment_access=ENROLMENT_ACCESS,
    )


def access_rules(root: str, barred: Iterable[str]) -> str:
    """Rules of the listener for certificates. Denials come first and hold for live connections after a reload."""
    denied = [f"user {name}\ntopic deny #\n" for name in sorted(barred)]
    programs = [
        f"user {name}\n{_lines('topic', root, access, client=name)}"
        for name, access in ((HUB_USER, HUB), (AGGREGATOR_USER, AGGREGATOR))
    ]
    return "\n".join([*denied, *programs, _lines("pattern", root, DEVICE, client="%u")])


def enrolment_rules(root: str) -> str:
    """Rules of the listener for the enrolment password."""
    return _lines("pattern", root, ENROLMENT, client="%c")


def password_line(password: str) -> str:
    """The enrolment login in mosquitto's own form: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, HASH_ROUNDS)
    encoded = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"{ENROL_USER}:$7${HASH_ROUNDS}${'$'.join(encoded)}\n"


def _lines(kind: str, root: str, access: Access, client: str) -> str:
    rules = [("write", pattern) for pattern in access.publish] + [("read", pattern) for pattern in access.receive]
    return "".join(
        f"{kind} {verb} {root}/{pattern.replace('{client}', client).replace('*', '+')}\n" for verb, pattern in rules
    )
