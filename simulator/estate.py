"""What outlives every process of a fleet: from this, another world can take up where one left off.

It is all that a hub and its publisher keep, and the disks of the devices. Nothing of it is shared between worlds: the
values are read only, and who begins with them makes copies. What devices have captured is not part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wire.adapters.keys import SigningKey
from wire.identity import ClaimFile


@dataclass(frozen=True, slots=True)
class HubEstate:
    """`database`: the whole of it; `objects`: by digest; `signed`: the publisher's newest document of every role."""

    database: bytes = b""
    objects: Mapping[str, bytes] = field(default_factory=dict)
    keys: Mapping[str, SigningKey] = field(default_factory=dict)
    passwords: Mapping[str, str] = field(default_factory=dict)
    signed: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceEstate:
    """A device that is switched off: its claim, and the files on its disk."""

    claim: ClaimFile
    files: Mapping[str, bytes]


NEVER_WAS = HubEstate()


@dataclass(frozen=True, slots=True)
class FleetEstate:
    """Hub and devices, `age_ns` nanoseconds after the fleet began."""

    age_ns: int = 0
    hub: HubEstate = NEVER_WAS
    devices: tuple[DeviceEstate, ...] = ()


NEW_FLEET = FleetEstate()
