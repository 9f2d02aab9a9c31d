"""Who connects to a broker, how that changes while the link works, and what the broker says when it breaks."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from wire.ports import LinkError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who connects, by a password or by a certificate for a key (both PEM), whose common name is then the username.

    The client id is the username unless given, so nobody can take another's session over.
    """

    username: str
    password: str = field(default="", repr=False)
    client_id: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection breaks."""

    topic: str
    payload: bytes


class Login:
    """The credentials that a link connects with now. New ones count once the broker has accepted them."""

    __slots__ = ("_answer", "credentials")

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._answer: asyncio.Future[None] | None = None

    async def change(self, credentials: Credentials, log_in_anew: Callable[[], None], timeout_s: float) -> None:
        """Have the link log in anew, and return once the broker has accepted.

        Raises:
            LoginRefusedError: the broker says no. LinkError: it could not be asked. Either way the link logs in with
                the credentials of before.
        """
        before, self.credentials = self.credentials, credentials
        self._answer = asyncio.get_running_loop().create_future()
        log_in_anew()
        try:
            async with asyncio.timeout(timeout_s):
                await self._answer
        except (TimeoutError, LinkError) as error:
            self.credentials = before
            log_in_anew()
            if isinstance(error, LinkError):
                raise
            raise LinkError("the broker did not answer in time") from error
        finally:
            self._answer = None

    def answered(self, failure: LinkError | None) -> None:
        """What came of an attempt with the credentials of now: tells who waits for their change."""
        if self._answer is None or self._answer.done():
            return
        if failure is None:
            self._answer.set_result(None)
        else:
            self._answer.set_exception(failure)
