"""Trust at work: it keeps the repository fresh, follows a new root, and answers devices that ask."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from cloud.core.trust import ROOT
from cloud.errors import ConflictError, UnknownError
from cloud.ports import Notary, Store
from cloud.service import director
from cloud.service.asks import Look
from cloud.service.trust.freshness import due_ns, refresh
from cloud.service.trust.news import newer
from cloud.service.trust.rows import NO_ROOT, file, newest
from wire.asks import MAX_PIECE_BYTES, AskMetadata, AskTime, Holding, MetadataPiece, SignedTime, TimeTold
from wire.codec import encode
from wire.dsse import ASSIGNMENT_TYPE, TIME_TYPE
from wire.ports import SECOND, Clock
from wire.trust import DAY_S, RootKeys

log = logging.getLogger(__name__)

WARN_DAYS = 60

News = dict[str, bytes | None] | UnsetType
"""Files to send along with the time; UNSET: nobody said what he holds."""


class Trust:
    """Everything it knows is in the database; `wake` makes it look there, and a missed wake does no harm for hours."""

    def __init__(self, store: Store, notary: Notary, clock: Clock) -> None:
        self.notary = notary
        self._store = store
        self._clock = clock
        self._bell = asyncio.Event()
        self._said = ""
        self._due_ns = 0
        self._keys: RootKeys | None = None

    def looks(self) -> Mapping[type, Look]:
        """What devices may ask here."""
        return {AskTime: Look(_news, self._time), AskMetadata: Look(_pieces, lambda device, ask, piece: piece)}

    def seal(self, assignment: bytes) -> bytes:
        """The director's signature over an assignment."""
        return self.notary.seal(assignment, ASSIGNMENT_TYPE)

    def wake(self) -> None:
        """There may be a new root, or something due."""
        self._bell.set()

    def remind(self) -> None:
        """Wake it if time alone has brought something, or the key that the root names has been put in its place.

        It is all there is to look at for a hub that nobody shares the database with: whatever it enters, it signs.
        """
        if self._clock.now_ns() > self._due_ns or (self._keys is not None and self.notary.follow(self._keys)):
            self.wake()

    async def woken(self) -> None:
        """Return when there is something to look at."""
        await self._bell.wait()
        self._bell.clear()

    async def follow(self) -> bool:
        """Sign with the keys that the newest root names from now on. Is there a root?"""
        root = await self._store.read(lambda conn: newest(conn, ROOT))
        if root is None:
            self._say(NO_ROOT)
            return False
        if root.expires_ns - self._clock.now_ns() < WARN_DAYS * DAY_S * SECOND:
            self._say(f"the root of trust ends within {WARN_DAYS} days: renew it with `fleetloop keys rotate`")
        self._keys = self.notary.keys_of(root.content)
        self.notary.follow(self._keys)
        return True

    async def look(self) -> None:
        """Sign what is due. After a root that replaced the director's key, issue every assignment anew under it."""
        self._due_ns = 0
        if not await self.follow():
            return
        now_ns = self._clock.now_ns()
        try:
            self._due_ns = await self._store.write(lambda conn: self._look(conn, now_ns))
        except ConflictError as error:
            self._say(str(error))

    def _say(self, trouble: str) -> None:
        """Once, until it is another one."""
        if trouble != self._said:
            log.warning("%s", trouble)
        self._said = trouble

    def _look(self, conn: Connection, now_ns: int) -> int:
        """When to look again."""
        refresh(conn, self.notary, now_ns)
        director.reissue_foreign(conn, self.notary.director, self.seal, now_ns)
        return due_ns(conn)

    def _time(self, device: str, ask: AskTime, files: News) -> TimeTold:
        document = SignedTime(device=device, nonce=ask.nonce, now_ns=self._clock.now_ns())
        return TimeTold(envelope=self.notary.seal(encode(document), TIME_TYPE), files=files)


def _news(conn: Connection, asked: Sequence[AskTime]) -> list[News]:
    """What is newer than what each of them holds, looked up once for all who hold the same."""
    found: dict[bytes, News] = {}
    return [UNSET if ask.holding is UNSET else _once(found, conn, ask.holding) for ask in asked]


def _once(found: dict[bytes, News], conn: Connection, holding: Holding) -> News:
    key = encode(holding)  # what is held is a dictionary, and that no key of another one
    if key not in found:
        found[key] = newer(conn, holding)
    return found[key]


def _pieces(conn: Connection, asked: Sequence[AskMetadata]) -> list[MetadataPiece]:
    """Once for all who ask for the same."""
    found = {ask: _piece(conn, ask) for ask in dict.fromkeys(asked)}
    return [found[ask] for ask in asked]


def _piece(conn: Connection, ask: AskMetadata) -> MetadataPiece:
    try:
        content = file(conn, ask.name)
    except UnknownError:
        return MetadataPiece(found=False)
    piece = content[ask.offset : ask.offset + MAX_PIECE_BYTES]
    return MetadataPiece(found=True, total=len(content), offset=ask.offset, data=piece)
