"""Trust by TUF: metadata is judged in the installer child, which alone imports python-tuf; signatures by ed25519."""

from collections.abc import Iterable, Mapping

from edge_agent.adapters.child import COMMAND, NoVerdictError, run_child
from edge_agent.core.trust import Given, Judgement, Question, Said
from edge_agent.installer import MAX_ORDER_BYTES, Limits, Order, TrustOrder
from edge_agent.ports import FetchMetadata
from wire.adapters.keys import verifiers
from wire.asks import AskMetadata
from wire.codec import decode, encode
from wire.dsse import Verify
from wire.errors import WireError
from wire.trust import MAX_TARGETS_BYTES

BUILT_NS = 1_795_305_600_000_000_000
"""2026-11-22: this code was not there before, so no clock that says so is right. Moved on with each release."""
CPU_S = 60
ADDRESS_SPACE_BYTES = 1024**3


class TufTrust:
    """Implements `edge_agent.ports.Trust`. `folder` (absolute) is the child's own."""

    def __init__(
        self, root: bytes, folder: str, *, built_ns: int = BUILT_NS, command: tuple[str, ...] = COMMAND
    ) -> None:
        self.root = root
        self.built_ns = built_ns
        self._folder = folder
        self._command = command

    def verifiers(self, directors: Iterable[str]) -> Mapping[str, Verify]:
        """Key id -> verification with that key."""
        return verifiers(directors)

    async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
        """Judge in a fresh process. Raises nothing for what becomes of it: that is a refusal."""
        limits = Limits(cpu_s=CPU_S, address_space_bytes=ADDRESS_SPACE_BYTES, file_bytes=MAX_TARGETS_BYTES)
        order = Order(limits=limits, what=TrustOrder(folder=self._folder, question=question))
        judged: list[Judgement] = []

        async def reply(line: bytes) -> bytes | None:
            said = _read(line)
            if isinstance(said, Judgement):
                judged.append(said)
                return None
            return encode(Given(what=await fetch(said)))

        try:
            await run_child(self._command, order, limit_s, reply, MAX_ORDER_BYTES)
        except NoVerdictError as error:
            return Judgement(refusal=str(error), unable=True, floors=question.floors, files=question.files)
        return judged[0]


def _read(line: bytes) -> AskMetadata | Judgement:
    try:
        return decode(line, Said, limit=MAX_ORDER_BYTES).what
    except WireError as error:
        raise NoVerdictError(f"the installer child said what it cannot mean: {error}") from error
