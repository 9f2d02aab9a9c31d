"""The memory of one run: a SQLite file in its directory. Every method is one transaction, durable when it returns.

Locked for one process: a second aggregator on the same run is refused. All writes take about a millisecond and happen
on the event loop, so that "durable before acknowledged" is plain program order.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from federated.core.issue import Answer, Instruction, Issue, Verdict
from federated.core.report import Measured, RoundReport
from federated.core.rounds import Phase, Position
from federated.records import ARRAYS, Array, from_object, load_arrays, save_arrays
from wire.codec import MAX_CONTROL_BYTES, decode, encode
from wire.federated import Reply, Task

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS position (
    one INTEGER PRIMARY KEY CHECK (one = 1), spec_sha256 TEXT NOT NULL, phase TEXT NOT NULL, round INTEGER NOT NULL,
    attempt INTEGER NOT NULL, issued INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS learned (
    one INTEGER PRIMARY KEY CHECK (one = 1), arrays BLOB NOT NULL, tree BLOB NOT NULL, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS instruction (
    place INTEGER PRIMARY KEY, task TEXT NOT NULL UNIQUE, device TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS object (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answer (
    task TEXT PRIMARY KEY, device TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, reply BLOB,
    arrays BLOB NOT NULL, trained INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS published (sha256 TEXT PRIMARY KEY, chunks INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS report (round INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS measured (phase TEXT NOT NULL, device TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (phase, device));
"""


class RunStoreError(Exception):
    """The run's file cannot be used; the message says why and what to do."""


class RunStore:
    """Everything that a killed aggregator needs to go on where it was."""

    @classmethod
    def open(cls, path: Path, spec_sha256: str) -> "RunStore":
        """Open or create the file. Raises RunStoreError as the constructor does."""
        try:
            db = sqlite3.connect(path, isolation_level=None, timeout=2.0)
        except sqlite3.Error as error:
            raise RunStoreError(f"{path}: {error}") from error
        return cls(db, spec_sha256, str(path))

    def __init__(self, db: sqlite3.Connection, spec_sha256: str, name: str = "the run's memory") -> None:
        """Use the database, which commits by itself (`isolation_level` None). `spec_sha256` ties it to one
        specification; `name` is what messages call it.

        Raises:
            RunStoreError: another process has it open, it is damaged, or belongs to another specification.
        """
        self._db = db
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)
            self._db.execute(
                "INSERT OR IGNORE INTO position VALUES (1, ?, ?, 0, 1, 0)", (spec_sha256, Phase.BEFORE.value)
            )
        except sqlite3.Error as error:
            raise RunStoreError(f"{name}: {error}; is another aggregator working on this run?") from error
        if self._one("SELECT spec_sha256 FROM position")[0] != spec_sha256:
            self._db.close()
            raise RunStoreError(f"{name} belongs to another specification; use a fresh run directory")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Where the run stands, and what it has learnt.

    def position(self) -> Position:
        """The step being taken."""
        phase, round_number, attempt = self._one("SELECT phase, round, attempt FROM position")
        return Position(Phase(phase), round_number, attempt)

    def learned(self) -> tuple[dict[str, Array], bytes, bytes] | None:
        """Global arrays and the strategy's state (tree, arrays), None before the first step."""
        row = self._db.execute("SELECT arrays, tree, state FROM learned").fetchone()
        return None if row is None else (load_arrays(row[0]), row[1], row[2])

    def start(self, arrays: Mapping[str, Array], tree: bytes, state: bytes) -> None:
        """The starting parameters and the fresh strategy's state."""
        self._db.execute("INSERT OR REPLACE INTO learned VALUES (1, ?, ?, ?)", (save_arrays(arrays), tree, state))

    # A step: issued, answered, closed.

    def save_issue(self, issue: Issue, tree: bytes, state: bytes) -> None:
        """The step's instructions, before any is published, with the strategy's state after configuring them."""
        rows = [(one.task.task, one.device, encode(one.task)) for one in issue.instructions]
        with _transaction(self._db):
            self._db.executemany("INSERT INTO instruction (task, device, payload) VALUES (?, ?, ?)", rows)
            self._db.executemany("INSERT OR IGNORE INTO object VALUES (?, ?)", issue.objects.items())
            self._db.execute("UPDATE learned SET tree = ?, state = ?", (tree, state))
            self._db.execute("UPDATE position SET issued = 1")

    def issue(self) -> Issue | None:
        """The step's instructions; None when it has none yet."""
        if not self._one("SELECT issued FROM position")[0]:
            return None
        objects: dict[str, bytes] = dict(self._db.execute("SELECT sha256, data FROM object"))
        sent: dict[str, dict[str, Array]] = {}
        instructions = []
        for device, payload in self._db.execute("SELECT device, payload FROM instruction ORDER BY place"):
            task = decode(payload, Task, limit=4 * MAX_CONTROL_BYTES)
            sha = "" if task.arrays is None else task.arrays.sha256
            if sha and sha not in sent:
                sent[sha] = from_object(objects[sha], task.records).get(ARRAYS, {})
            instructions.append(Instruction(device, task, sent.get(sha, {})))
        return Issue(tuple(instructions), objects)

    def keep(self, answer: Answer) -> None:
        """An answer, before its device is told. Who could not be reached gets another chance after a restart."""
        if answer.verdict is Verdict.UNREACHABLE:
            return
        reply = None if answer.reply is None else encode(answer.reply)
        trained = len(answer.arrays) > 0
        row = (answer.task, answer.device, answer.verdict.value, answer.reason, reply, answer.arrays, trained)
        self._db.execute("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def answers(self) -> dict[str, Answer]:
        """All answers by task: those of the current step in full, earlier ones without their arrays."""
        rows = self._db.execute("SELECT task, device, verdict, reason, reply, arrays FROM answer")
        return {row[0]: _answer(row) for row in rows}

    def close_step(
        self,
        following: Position,
        learned: tuple[Mapping[str, Array], bytes, bytes],
        report: RoundReport | None,
        measured: Iterable[tuple[Phase, Measured]] = (),
    ) -> None:
        """The step's outcome and the next position, as one."""
        arrays, tree, state = learned
        with _transaction(self._db):
            self._db.execute("DELETE FROM instruction")
            self._db.execute("DELETE FROM object")
            self._db.execute("UPDATE answer SET arrays = x''")
            self._db.execute("UPDATE learned SET arrays = ?, tree = ?, state = ?", (save_arrays(arrays), tree, state))
            if report is not None:
                self._db.execute("INSERT OR REPLACE INTO report VALUES (?, ?)", (report.round, encode(report)))
            rows = [(phase.value, one.device, encode(one)) for phase, one in measured]
            self._db.executemany("INSERT OR REPLACE INTO measured VALUES (?, ?, ?)", rows)
            self._db.execute(
                "UPDATE position SET phase = ?, round = ?, attempt = ?, issued = 0",
                (following.phase.value, following.round, following.attempt),
            )

    # What the run has to tell.

    def reports(self) -> dict[int, RoundReport]:
        """Reports of the rounds so far, by round."""
        rows = self._db.execute("SELECT round, body FROM report ORDER BY round")
        return {number: decode(body, RoundReport, limit=4 * MAX_CONTROL_BYTES) for number, body in rows}

    def measured(self, phase: Phase) -> dict[str, Measured]:
        """What each device measured before or after."""
        rows = self._db.execute("SELECT device, body FROM measured WHERE phase = ?", (phase.value,))
        return {device: decode(body, Measured) for device, body in rows}

    def updates_by_device(self) -> dict[str, int]:
        """Device -> trained updates that were accepted."""
        query = "SELECT device, count(*) FROM answer WHERE trained AND verdict = ? GROUP BY device"
        return dict(self._db.execute(query, (Verdict.ACCEPTED.value,)))

    # The ledger of retained objects.

    def published(self) -> dict[str, int]:
        """Digest -> chunks of the objects that may lie retained on the broker."""
        return dict(self._db.execute("SELECT sha256, chunks FROM published"))

    def add_published(self, sha256: str, chunks: int) -> None:
        """Note before publishing."""
        self._db.execute("INSERT OR REPLACE INTO published VALUES (?, ?)", (sha256, chunks))

    def remove_published(self, sha256: str) -> None:
        """Note after clearing."""
        self._db.execute("DELETE FROM published WHERE sha256 = ?", (sha256,))

    def _one(self, query: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(query).fetchone()
        return row


class _transaction:  # noqa: N801 - reads as a statement
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when the block raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _answer(row: tuple[str, str, str, str, bytes | None, bytes]) -> Answer:
    task, device, verdict, reason, reply, arrays = row
    return Answer(device, task, Verdict(verdict), reason, None if reply is None else decode(reply, Reply), arrays)
