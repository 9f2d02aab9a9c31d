"""A broker that somebody else runs: the hub keeps its list of revoked certificates in a file, and manages nothing.

What the broker's operator has to configure stands in docs/identity.md.
"""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloud.adapters.certificates import write
from cloud.adapters.device_certificates import DeviceAuthority
from cloud.adapters.mosquitto_files import REVOKED
from cloud.ports import BrokerError, Roster
from wire.identity import Broker


@dataclass
class ExternalBroker:
    """The `cloud.ports.BrokerControl` for any broker that takes client certificates of the hub's authority."""

    endpoint: Broker
    enrolment: Broker
    authority: DeviceAuthority
    directory: Path
    credential: Literal["certificate"] = "certificate"

    async def admit(self, roster: Roster) -> None:
        """Write the list of revoked certificates. Raises BrokerError."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.directory / REVOKED
        try:
            write(path, self.authority.revocation_list(roster.revoked, datetime.datetime.now(datetime.UTC)), 0o644)
        except OSError as error:
            raise BrokerError(f"cannot write {path}: {error.strerror}") from error
