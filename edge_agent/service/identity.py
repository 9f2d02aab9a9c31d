"""What the device logs in with, and how the next identity replaces it.

`identity.json` is in force. `candidate.json` is the next one: its secret is durable before anybody hears of it, so that
a request cut off at any point is repeated word for word; then it holds what the hub granted; and only when the broker
has accepted it is it renamed over the one in force.
"""

import logging

import msgspec

from edge_agent.core.identity import Identity, claim_digest
from edge_agent.errors import RefusedError
from edge_agent.ports import Disk, Keys
from edge_agent.service.durable import read_if_there, write_atomic
from wire.codec import decode, encode
from wire.errors import WireError
from wire.identity import ClaimFile, EnrolReply
from wire.ports import Ids

log = logging.getLogger(__name__)

IDENTITY = "identity/identity.json"
CANDIDATE = "identity/candidate.json"
FOLDER = "identity"


async def load_identity(disk: Disk, keys: Keys, claim: ClaimFile) -> Identity | None:
    """The one in force, if there is one.

    One that is damaged is a login that nobody accepts: the device goes on answering and says that it needs a claim.
    """
    try:
        identity = await _load(disk, IDENTITY)
    except WireError as error:
        log.error("%s: %s", IDENTITY, error)
        return Identity(username=claim.device, claim="")
    if identity is not None and identity.csr and not keys.fit(identity.certificate, identity.key):
        log.error("%s: the certificate is not for the key", IDENTITY)
        return Identity(username=claim.device, claim="")
    return identity


async def load_candidate(disk: Disk, claim: str) -> Identity | None:
    """The one being obtained for this claim. One that cannot be read or is for another claim is none."""
    try:
        candidate = await _load(disk, CANDIDATE)
    except WireError:
        return None
    return candidate if candidate is not None and candidate.claim == claim else None


async def new_candidate(disk: Disk, keys: Keys, ids: Ids, claim: ClaimFile) -> Identity:
    """A fresh secret, durable."""
    blank = Identity(username=claim.device, claim=claim_digest(claim))
    if claim.credential == "password":
        candidate = msgspec.structs.replace(blank, password=ids.secret())
    else:
        made = keys.make(claim.device)
        candidate = msgspec.structs.replace(blank, key=made.key, csr=made.csr)
    await save_candidate(disk, candidate)
    return candidate


async def save_candidate(disk: Disk, candidate: Identity) -> None:
    """Make it durable."""
    await write_atomic(disk, CANDIDATE, encode(candidate))


async def promote(disk: Disk) -> None:
    """The candidate is in force from now on."""
    await disk.rename(CANDIDATE, IDENTITY)
    await disk.fsync_dir(FOLDER)


async def discard_candidate(disk: Disk) -> None:
    """Forget it."""
    await disk.unlink(CANDIDATE)
    await disk.fsync_dir(FOLDER)


def granted(candidate: Identity, reply: EnrolReply, keys: Keys) -> Identity:
    """The candidate as the hub granted it. Raises RefusedError: the certificate is not for its key."""
    if candidate.csr and not keys.fit(reply.certificate, candidate.key):
        raise RefusedError("the certificate that the hub sent is not for this device's key")
    return msgspec.structs.replace(
        candidate, username=reply.username, certificate=reply.certificate, enrolled=True
    )  # fmt: skip


async def _load(disk: Disk, path: str) -> Identity | None:
    data = await read_if_there(disk, path)
    return decode(data, Identity) if data is not None else None
