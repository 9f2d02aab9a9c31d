"""The `edge_agent.ports.Trust` in one process: the child's own judgement, begun again with each piece that it asks for.

The judgement is a function of its question and of what it fetched, so beginning again with more answers comes to the
same as waiting in the middle. Nothing is faked but the process around it.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge_agent.core.trust import Judgement, Question
from edge_agent.judging import judge
from edge_agent.ports import FetchMetadata
from wire.adapters.keys import verifiers
from wire.asks import AskMetadata, MetadataPiece, Refused
from wire.dsse import Verify


class _MissingError(BaseException):
    """The judgement wants a piece that was not fetched yet. No `except Exception` on the way may take it."""

    def __init__(self, ask: AskMetadata) -> None:
        super().__init__(ask.name)
        self.ask = ask


class InlineTrust:
    """Judges with python-tuf. All of them share a folder, which each judgement empties and removes."""

    built_ns = 0

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._folder = Path(tempfile.gettempdir()) / f"fleetloop-judging-{os.getpid()}"

    def verifiers(self, directors: Iterable[str]) -> Mapping[str, Verify]:
        """Key id -> verification with that key."""
        return verifiers(directors)

    async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
        """The judgement; the deadlines are those of `fetch`."""
        answers: dict[AskMetadata, MetadataPiece | Refused] = {}

        def known(ask: AskMetadata) -> MetadataPiece | Refused:
            if ask not in answers:
                raise _MissingError(ask)
            return answers[ask]

        while True:
            try:
                return judge(question, known, self._folder)
            except _MissingError as missing:
                answers[missing.ask] = await fetch(missing.ask)
