"""The trust of live devices: the installer child's own judgement, made once for all devices that would make the same.

A judgement is a function of its question, of what was fetched, and of the time, here told to the minute. What it comes
to is remembered by the digest of all that; so is which piece it asks for next.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from edge_agent.core.trust import Judgement, Question
from edge_agent.judging import judge
from edge_agent.ports import FetchMetadata
from wire.adapters.keys import verifiers
from wire.asks import AskMetadata, MetadataPiece, Refused
from wire.codec import encode
from wire.dsse import Verify
from wire.ports import SECOND

TOLD_NS = 60 * SECOND
Answers = dict[AskMetadata, MetadataPiece | Refused]


class _MissingError(BaseException):
    """The judgement wants a piece that was not fetched yet. No `except Exception` on the way may take it."""

    def __init__(self, ask: AskMetadata) -> None:
        super().__init__(ask.name)
        self.ask = ask


class Judgements:
    """Those of all devices of a process."""

    def __init__(self) -> None:
        self.made = 0
        """With python-tuf."""
        self.remembered = 0
        """Known from another device."""
        self._known: dict[bytes, Judgement | AskMetadata] = {}
        self._folder = Path(tempfile.gettempdir()) / f"fleetloop-judging-{os.getpid()}"

    def step(self, key: bytes, question: Question, answers: Answers) -> Judgement | AskMetadata:
        """What comes of the question with these answers: a judgement, or the piece that is wanted next.

        `key` is a digest of both.
        """
        if key in self._known:
            self.remembered += 1
        else:
            self.made += 1
            self._known[key] = self._make(question, answers)
        return self._known[key]

    def _make(self, question: Question, answers: Answers) -> Judgement | AskMetadata:
        def known(ask: AskMetadata) -> MetadataPiece | Refused:
            if ask not in answers:
                raise _MissingError(ask)
            return answers[ask]

        try:
            return judge(question, known, self._folder)
        except _MissingError as missing:
            return missing.ask


class SharedTrust:
    """The `edge_agent.ports.Trust` of one device."""

    __slots__ = ("_judgements", "root")

    built_ns = 0

    def __init__(self, root: bytes, judgements: Judgements) -> None:
        self.root = root
        self._judgements = judgements

    def verifiers(self, directors: Iterable[str]) -> Mapping[str, Verify]:
        """Key id -> verification with that key."""
        return _verifiers(tuple(directors))

    async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
        """The judgement; the deadlines are those of `fetch`."""
        asked = msgspec.structs.replace(question, now_ns=question.now_ns // TOLD_NS * TOLD_NS)
        answers: Answers = {}
        said = hashlib.sha256(encode(asked))
        while True:
            found = self._judgements.step(said.digest(), asked, answers)
            if isinstance(found, Judgement):
                return found
            answer = answers[found] = await fetch(found)
            said.update(encode(found) + encode(answer))


@functools.cache
def _verifiers(directors: tuple[str, ...]) -> Mapping[str, Verify]:
    return verifiers(directors)
