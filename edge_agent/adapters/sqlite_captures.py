"""Captures in one SQLite file (WAL): windows bounded by policy, oldest first out; counters in the same transaction.

What a call has returned for survives a killed process; only the last moments before a power cut may be missing. A
window and its counters are written together, so the counters never drift from what the application was told.
"""

import logging
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge_agent.core.stats import Classes, Tally, Variant, check_label, latency_bucket
from edge_agent.errors import DiskError, DiskFullError, FeedbackGivenError, UnknownPredictionError
from edge_agent.ports import Counts, Prediction
from wire.assignment import CapturePolicy
from wire.ports import Offload

if TYPE_CHECKING:
    from edge_agent.ports import Floats, Labels

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_OPEN = 20_000
"""Predictions that feedback can still join, with or without a window."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tally (
    key INTEGER PRIMARY KEY, model TEXT NOT NULL, version INTEGER NOT NULL, variant TEXT NOT NULL,
    predictions INTEGER NOT NULL DEFAULT 0, feedback INTEGER NOT NULL DEFAULT 0, correct INTEGER NOT NULL DEFAULT 0,
    confidence_sum REAL NOT NULL DEFAULT 0, used INTEGER NOT NULL DEFAULT 0, UNIQUE (model, version, variant)
);
CREATE TABLE IF NOT EXISTS latency (
    tally INTEGER NOT NULL, bucket INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (tally, bucket)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prediction (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tally INTEGER NOT NULL, predicted INTEGER NOT NULL,
    confidence REAL NOT NULL, latency_us INTEGER NOT NULL, at_ns INTEGER NOT NULL, label INTEGER,
    shape TEXT NOT NULL, window BLOB
);
CREATE INDEX IF NOT EXISTS kept ON prediction (seq) WHERE window IS NOT NULL;
"""
_KEPT = "SELECT COUNT(*), COALESCE(SUM(LENGTH(window)), 0) FROM prediction WHERE window NOT NULL"


class SqliteCaptures:
    """Implements `edge_agent.ports.Captures`. One connection, used by one offload thread at a time."""

    def __init__(self, path: Path, offload: Offload) -> None:
        self._offload = offload
        self._policy = CapturePolicy()
        try:
            self._db = _open_or_replace(path)
        except (sqlite3.OperationalError, OSError) as error:  # a full or read-only disk
            log.error("%s cannot be used (%s): captures stay in memory until the next start", path, error)
            self._db = _open(":memory:")
        self._count, self._bytes = self._db.execute(_KEPT).fetchone()

    async def set_policy(self, policy: CapturePolicy) -> None:
        """Bounds from now on."""

        def apply() -> None:
            self._policy = policy
            self._evict()

        await self._write(apply)

    async def record(self, prediction: Prediction) -> None:
        """Count a prediction, keep its window."""
        await self._write(lambda: self._record(prediction))

    async def feedback(self, prediction_id: str, label: int, classes: Classes) -> None:
        """Join the truth, once."""
        await self._write(lambda: self._feedback(prediction_id, label, classes))

    async def samples(self, model: str) -> "tuple[Floats, Labels]":
        """Labelled windows of this model, of the shape that it was shown last, in capture order."""
        return await self._read(lambda: self._samples(model))

    async def counts(self) -> Counts:
        """The counters, the variant used last at the end."""
        return await self._read(lambda: Counts(tuple(self._tallies()), self._count))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _record(self, prediction: Prediction) -> None:
        key = self._tally_key(prediction.variant)
        self._db.execute(
            "UPDATE tally SET predictions = predictions + 1, confidence_sum = confidence_sum + ?, used = ?"
            " WHERE key = ?",
            (prediction.confidence, prediction.at_ns, key),
        )
        self._db.execute(
            "INSERT INTO latency VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
            (key, latency_bucket(prediction.latency_ns)),
        )
        window = prediction.window if self._policy.enabled else None
        shape = ",".join(map(str, prediction.shape))
        self._db.execute(
            "INSERT INTO prediction (id, tally, predicted, confidence, latency_us, at_ns, shape, window)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                prediction.id, key, prediction.predicted, prediction.confidence, prediction.latency_ns // 1_000,
                prediction.at_ns, shape, window,
            ),
        )  # fmt: skip
        if window is not None:
            self._count, self._bytes = self._count + 1, self._bytes + len(window)
        self._evict()
        newest = self._db.execute("SELECT MAX(seq) FROM prediction").fetchone()[0]
        self._db.execute("DELETE FROM prediction WHERE seq <= ? AND window IS NULL", (newest - MAX_OPEN,))

    def _tally_key(self, variant: Variant) -> int:
        identity = (variant.model, variant.version, variant.variant)
        self._db.execute("INSERT OR IGNORE INTO tally (model, version, variant) VALUES (?, ?, ?)", identity)
        found = self._db.execute("SELECT key FROM tally WHERE model = ? AND version = ? AND variant = ?", identity)
        return int(found.fetchone()[0])

    def _feedback(self, prediction_id: str, label: int, classes: Classes) -> None:
        answer = "SELECT seq, tally, model, predicted, label FROM prediction JOIN tally ON key = tally WHERE id = ?"
        found = self._db.execute(answer, (prediction_id,)).fetchone()
        if found is None:
            raise UnknownPredictionError(f"no prediction {prediction_id[:64]!r} is known (any more)")
        seq, key, model, predicted, known = found
        if known is not None:
            raise FeedbackGivenError(f"feedback for {prediction_id} was given before: {known}")
        check_label(label, model, classes)
        self._db.execute("UPDATE prediction SET label = ? WHERE seq = ?", (label, seq))
        self._db.execute(
            "UPDATE tally SET feedback = feedback + 1, correct = correct + ? WHERE key = ?", (predicted == label, key)
        )

    def _evict(self) -> None:
        """Drop the windows of the oldest predictions until the policy is met."""
        policy = self._policy
        most = policy.max_samples if policy.enabled else 0
        while self._count > most or (self._bytes > policy.max_bytes and self._count):
            oldest = "SELECT seq, LENGTH(window) FROM prediction WHERE window IS NOT NULL ORDER BY seq LIMIT ?"
            rows = self._db.execute(oldest, (max(1, self._count - most),)).fetchall()
            self._db.execute(
                "UPDATE prediction SET window = NULL WHERE window IS NOT NULL AND seq <= ?", (rows[-1][0],)
            )
            self._count -= len(rows)
            self._bytes -= sum(size for _, size in rows)

    def _samples(self, model: str) -> "tuple[Floats, Labels]":
        import numpy as np

        kept = "FROM prediction WHERE window NOT NULL AND tally IN (SELECT key FROM tally WHERE model = ?)"
        last = self._db.execute(f"SELECT shape {kept} ORDER BY seq DESC LIMIT 1", (model,)).fetchone()
        shape = tuple(int(part) for part in last[0].split(",")) if last else (0,)
        where = f"{kept} AND label NOT NULL AND shape = ?"
        key = (model, last[0] if last else "")
        total = self._db.execute(f"SELECT COUNT(*) {where}", key).fetchone()[0]
        x = np.empty((total, math.prod(shape)), dtype=np.float32)
        y = np.empty(total, dtype=np.int64)
        rows = self._db.execute(f"SELECT window, label {where} ORDER BY seq", key)
        for index, (window, label) in enumerate(rows):
            x[index] = np.frombuffer(window, dtype="<f4")
            y[index] = label
        return x.reshape(total, *shape), y

    def _tallies(self) -> list[Tally]:
        histograms: dict[int, dict[int, int]] = {}
        for key, bucket, count in self._db.execute("SELECT tally, bucket, count FROM latency ORDER BY tally, bucket"):
            histograms.setdefault(key, {})[bucket] = count
        rows = self._db.execute(
            "SELECT key, model, version, variant, predictions, feedback, correct, confidence_sum FROM tally"
            " ORDER BY used, key"
        )
        return [
            Tally(Variant(model, version, variant), predictions, feedback, correct, total, histograms.get(key, {}))
            for key, model, version, variant, predictions, feedback, correct, total in rows
        ]

    async def _write(self, call: Callable[[], T]) -> T:
        """All of `call` in one transaction, or nothing."""

        def transact() -> T:
            before = (self._count, self._bytes)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = call()
                self._db.execute("COMMIT")
            except BaseException:
                self._count, self._bytes = before
                if self._db.in_transaction:  # SQLite rolls back by itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise
            return result

        return await self._read(transact)

    async def _read(self, call: Callable[[], T]) -> T:
        try:
            return await self._offload.run(call)
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            raise (DiskFullError if full else DiskError)(f"captures: {error}") from error


def _open_or_replace(path: Path) -> sqlite3.Connection:
    """A damaged store is put aside: captures can be missed, answers cannot. Raises OperationalError, OSError."""
    try:
        return _open(path)
    except sqlite3.OperationalError:
        raise  # the disk's fault, not the file's
    except sqlite3.DatabaseError as error:
        log.error("%s is damaged (%s): put aside, starting an empty one", path, error)
        path.replace(path.with_suffix(".damaged"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _open(path)


def _open(path: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -1024", "wal_autocheckpoint = 256"):
        db.execute(f"PRAGMA {pragma}")
    db.executescript(_SCHEMA)
    db.execute(_KEPT).fetchone()  # damage beyond the first page shows here
    return db
