"""Who may see the live page: whoever holds an API key that sees the whole fleet, for as long as it is good."""

import logging

from cloud.api.context import Context, usable_key
from cloud.api.problems import TO_THE_LOG, status_of
from cloud.core.identity import digest
from cloud.errors import HubError
from cloud.service import keys
from cloud.web.gate import DoorError

log = logging.getLogger(__name__)


class PageDoor:
    """The `cloud.web.gate.Door` of a hub: the same keys, and the same patience with guesses, as at its API."""

    def __init__(self, hub: Context) -> None:
        self._hub = hub

    async def enter(self, address: str, key: str) -> str:
        """The id of this API key, shown from `address`. Raises DoorError."""
        try:
            row = await usable_key(self._hub, address, digest(key))
        except HubError as error:
            raise _told(error) from error
        if keys.reach_of(row).bounded:
            raise DoorError(403, "This API key reaches only a part of the fleet, and the page shows all of it.")
        return str(row.id)

    async def is_good(self, key: str) -> bool:
        """Does the API key with this id still open the page? Raises DoorError when that cannot be told now."""
        now_ns = self._hub.clock.now_ns()
        try:
            return await self._hub.read(lambda conn: keys.is_usable(conn, key, now_ns))
        except HubError as error:
            raise _told(error) from error


def _told(error: HubError) -> DoorError:
    """As the API would tell it."""
    told = TO_THE_LOG.get(type(error))
    if told is not None:
        log.warning("nobody can be let in to the page now: %s", error)
    return DoorError(status_of(error), f"{told or error}.")
