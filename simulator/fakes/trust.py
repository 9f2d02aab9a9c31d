"""The `edge_agent.ports.Trust` in one process: the child's own judgement, begun again with each piece that it asks for.

The judgement is a function of its question and of what it fetched, so beginning again with more answers comes to the
same as waiting in the middle. Nothing is faked but the process around it. A fleet asks the same question over and over,
at other times: time counts only by which of the documents at hand have expired by then.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.core.trust import Floors, Judgement, Question
from edge_agent.judging import judge
from edge_agent.ports import FetchMetadata
from simulator.core.memo import Memo
from wire.adapters.keys import SigningKey, verifiers
from wire.asks import AskMetadata, MetadataPiece, Refused
from wire.dsse import Verify, keyid
from wire.ports import SECOND

_EXPIRES: Final = re.compile(rb'"expires":\s*"([^"]{1,40})"')

Answers = tuple[tuple[AskMetadata, MetadataPiece | Refused], ...]
_Files = tuple[tuple[str, bytes | None], ...]
_Key = tuple[bytes, _Files, _Files, Floors, tuple[str, ...], Answers, int]


class _MissingError(BaseException):
    """The judgement wants a piece that was not fetched yet. No `except Exception` on the way may take it."""

    def __init__(self, ask: AskMetadata) -> None:
        super().__init__(ask.name)
        self.ask = ask


def _comparable(outcome: Judgement | AskMetadata) -> object:
    """The memory that judging took is not part of the judgement."""
    return msgspec.structs.replace(outcome, rss_bytes=0) if isinstance(outcome, Judgement) else outcome


_JUDGED: Final[Memo[_Key, Judgement | AskMetadata]] = Memo(512, like=_comparable, sample_every=512)
_EXPIRIES: Final[Memo[bytes, tuple[int, ...]]] = Memo(1_024)
_SIGNATURES: Final[Memo[tuple[str, bytes, bytes], bool]] = Memo(8_192)
"""Key id, signature and message -> does it hold?"""
_VERIFIERS: Final[Memo[tuple[str, ...], Mapping[str, Verify]]] = Memo(64, like=tuple)


class RememberedKey(SigningKey):
    """A private key of the hub, whose signatures need no proof in the process in which they were made."""

    def sign(self, message: bytes) -> bytes:
        """Sign, and know that it holds."""
        signature = super().sign(message)
        _SIGNATURES.put((keyid(self.public), signature, message), True)
        return signature


def _remembering(name: str, verify: Verify) -> Verify:
    return lambda signature, message: _SIGNATURES.get((name, signature, message), lambda: verify(signature, message))


def folder() -> Path:
    """Where this process judges: each judgement empties and removes it."""
    return Path(tempfile.gettempdir()) / f"fleetloop-judging-{os.getpid()}"


class InlineTrust:
    """Judges with python-tuf. All of them share a folder."""

    built_ns = 0
    __slots__ = ("root",)

    def __init__(self, root: bytes) -> None:
        self.root = root

    def verifiers(self, directors: Iterable[str]) -> Mapping[str, Verify]:
        """Key id -> verification with that key."""
        keys = tuple(directors)
        return _VERIFIERS.get(keys, lambda: {name: _remembering(name, one) for name, one in verifiers(keys).items()})

    async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
        """The judgement; the deadlines are those of `fetch`."""
        answers: Answers = ()
        while True:
            outcome = self._outcome(question, answers)
            if isinstance(outcome, Judgement):
                return outcome
            answers = (*answers, (outcome, await fetch(outcome)))

    def _outcome(self, question: Question, answers: Answers) -> Judgement | AskMetadata:
        """The judgement, or what it lacks."""
        files, told = tuple(sorted(question.files.items())), tuple(sorted(question.told.items()))
        documents = (question.root, *question.files.values(), *filter(None, question.told.values()))
        expired = _expired((*documents, *_documents(answers)), question.now_ns)
        key = (question.root, files, told, question.floors, question.paths, answers, expired)
        return _JUDGED.get(key, lambda: self._judge(question, answers))

    def _judge(self, question: Question, answers: Answers) -> Judgement | AskMetadata:
        known = dict(answers)

        def fetch(ask: AskMetadata) -> MetadataPiece | Refused:
            if ask not in known:
                raise _MissingError(ask)
            return known[ask]

        try:
            return judge(question, fetch, folder())
        except _MissingError as missing:
            return missing.ask


def _documents(answers: Answers) -> tuple[bytes, ...]:
    """What was fetched, its pieces put together."""
    found: dict[str, bytes] = {}
    for ask, answer in answers:
        if isinstance(answer, MetadataPiece):
            found[ask.name] = found.get(ask.name, b"") + answer.data
    return tuple(found.values())


def _expired(documents: Iterable[bytes], now_ns: int) -> int:
    """How many of the documents' dates have passed."""
    return sum(at_s <= now_ns // SECOND for data in documents for at_s in _expiries(data))


def _expiries(data: bytes) -> tuple[int, ...]:
    return _EXPIRIES.get(data, lambda: tuple(map(_seconds, _EXPIRES.findall(data))))


def _seconds(date: bytes) -> int:
    """A date that is none makes the document invalid at any time."""
    try:
        return int(datetime.fromisoformat(date.decode()).timestamp())
    except ValueError:
        return 0
