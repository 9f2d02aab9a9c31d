"""Which claim a device goes by: the one it was given, kept in the data directory from its first use on."""

from edge_agent.core.trust import founded_on
from edge_agent.errors import DamagedRecordError, EnrolmentError
from edge_agent.ports import Disk
from edge_agent.service.durable import read_if_there, write_atomic
from wire.codec import decode, encode
from wire.errors import WireError
from wire.identity import ClaimFile

CLAIM = "identity/claim.json"


def parse_claim(data: bytes, name: str) -> ClaimFile:
    """Read a claim file. Raises EnrolmentError naming the file and what is wrong with it."""
    try:
        claim = decode(data, ClaimFile)
        founded_on(claim.root)
    except WireError as error:
        raise EnrolmentError(f"{name} is not a claim file: {error}; download it from the hub again") from error
    return claim


async def stored_claim(disk: Disk) -> ClaimFile | None:
    """The claim that was used before. Raises DamagedRecordError."""
    data = await read_if_there(disk, CLAIM)
    try:
        return decode(data, ClaimFile) if data is not None else None
    except WireError as error:
        raise DamagedRecordError(f"{CLAIM}: {error}; start once more with --claim") from error


async def adopt_claim(disk: Disk, given: ClaimFile | None) -> ClaimFile:
    """The claim to go by. A given one replaces the stored one, as when the broker moved, but never the device's name.

    Raises:
        EnrolmentError: there is none, or it is another device's.
    """
    try:
        stored = await stored_claim(disk)
    except DamagedRecordError:
        if given is None:
            raise
        stored = None
    if given is None:
        if stored is None:
            raise EnrolmentError(
                "this device has no identity yet: start it with --claim FILE, a claim file from the hub"
            )
        return stored
    if stored is not None and stored.device != given.device:
        raise EnrolmentError(
            f"this data directory belongs to device {stored.device!r}, the claim is for {given.device!r}; "
            "use another data directory"
        )
    if given != stored:
        await write_atomic(disk, CLAIM, encode(given))
    return given
