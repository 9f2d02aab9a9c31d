"""A cloud for what devices ask about trust: a repository that starts the same every time, and a director's clock."""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from simulator.fakes.tuf_repository import TufRepository
from wire.adapters.keys import SigningKey
from wire.asks import MAX_PIECE_BYTES, Answer, Ask, AskMetadata, AskTime, MetadataPiece, Refused, SignedTime, TimeTold
from wire.codec import encode
from wire.dsse import TIME_TYPE, seal
from wire.ports import SECOND

DIRECTOR, PUBLISHER, STRANGER = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2, 3))
NOW_NS = 1_800_000_000 * SECOND
"""What the director's clock says."""
FOUNDATION = TufRepository((DIRECTOR.public_hex,), NOW_NS)
"""Every repository begins as this one, under the root that the claims hold."""
ROOT = FOUNDATION.root


def fork(repository: TufRepository = FOUNDATION) -> TufRepository:
    """A repository that goes its own way from here."""
    return repository.fork()


def piece(files: dict[str, bytes], ask: AskMetadata, most: int = MAX_PIECE_BYTES) -> MetadataPiece:
    """What an honest server of these files answers."""
    data = files.get(ask.name)
    if data is None:
        return MetadataPiece(found=False)
    part = data[ask.offset : ask.offset + most]
    return MetadataPiece(found=True, total=len(data), offset=ask.offset, data=part)


class Cloud:
    """Answers what a device asks. Everything can be replaced, also while it runs."""

    def __init__(self, repository: TufRepository = FOUNDATION) -> None:
        self.repository = fork(repository)
        self.director = DIRECTOR
        self.now_ns: int | None = repository.now_ns
        """None: it tells no time."""
        self.asked: list[Ask] = []
        self.serve: Callable[[AskMetadata], MetadataPiece | Refused | None] = lambda ask: piece(
            self.repository.files, ask
        )
        """None: no answer."""

    @property
    def names(self) -> list[str]:
        """Metadata that was asked for."""
        return [ask.what.name for ask in self.asked if isinstance(ask.what, AskMetadata)]

    def replay(self, files: dict[str, bytes]) -> None:
        """From now on serve these."""
        self.serve = lambda ask: piece(files, ask)

    def answer(self, ask: Ask, device: str) -> bytes | None:
        """The payload of `dn/{device}/answer`."""
        self.asked.append(ask)
        match ask.what:
            case AskMetadata():
                what = self.serve(ask.what)
            case AskTime():
                what = self._time(ask.what, device)
            case _:
                what = None
        return None if what is None else encode(Answer(id=ask.id, what=what))

    def _time(self, ask: AskTime, device: str) -> TimeTold | None:
        if self.now_ns is None:
            return None
        told = SignedTime(device=device, nonce=ask.nonce, now_ns=self.now_ns)
        return TimeTold(envelope=seal(encode(told), TIME_TYPE, self.director.signers()))
