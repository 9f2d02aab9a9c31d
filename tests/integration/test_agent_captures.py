"""The capture store: bounded by policy, feedback once, counters that a kill cannot lose."""

import asyncio
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.adapters.sqlite_captures import SqliteCaptures
from edge_agent.core.stats import Variant
from edge_agent.errors import DiskError, FeedbackGivenError, RequestError, UnknownPredictionError
from edge_agent.ports import Prediction
from simulator.fakes.offload import InlineOffload
from wire.assignment import CapturePolicy

CLASSES = {"watch": 5, "camera": 9}
FP32, INT8 = Variant("watch", 1, "fp32"), Variant("watch", 2, "int8")


def prediction(number: int, variant: Variant = FP32, predicted: int = 1) -> Prediction:
    """A prediction on a window of 2 x 3 values, all equal to `number`."""
    window = np.full((2, 3), number, np.float32)
    return Prediction(f"id{number}", variant, window.tobytes(), (2, 3), predicted, 0.5, 1_500_000, number)


def store(folder: Path) -> SqliteCaptures:
    """The store in this directory."""
    return SqliteCaptures(folder / "captures.sqlite", InlineOffload())


def test_labelled_windows_come_back_in_capture_order(tmp_path: Path) -> None:
    """Feedback in another order; unlabelled windows stay out."""

    async def scenario() -> None:
        captures = store(tmp_path)
        for number in range(5):
            await captures.record(prediction(number))
        for number in (3, 0, 4):
            await captures.feedback(f"id{number}", number, CLASSES)
        x, y = await captures.samples("watch")
        assert x.shape == (3, 2, 3)
        assert x.dtype == np.float32
        assert x[:, 0, 0].tolist() == [0, 3, 4]
        assert y.tolist() == [0, 3, 4]
        captures.close()

    asyncio.run(scenario())


def test_a_model_learns_from_its_own_windows(tmp_path: Path) -> None:
    """Two slots whose models take inputs of one shape: each has its own truth, whichever answered last."""

    async def scenario() -> None:
        captures = store(tmp_path)
        for number, variant in enumerate((FP32, Variant("pump", 1, "fp32"), INT8, Variant("pump", 1, "fp32"))):
            await captures.record(prediction(number, variant))
            await captures.feedback(f"id{number}", number, CLASSES)
        assert (await captures.samples("watch"))[1].tolist() == [0, 2]
        assert (await captures.samples("pump"))[1].tolist() == [1, 3]
        assert (await captures.samples("none"))[1].tolist() == []
        captures.close()

    asyncio.run(scenario())


def test_the_oldest_windows_go_first_and_counters_stay(tmp_path: Path) -> None:
    """By number and by bytes; feedback still joins a prediction whose window is gone."""

    async def scenario() -> None:
        captures = store(tmp_path)
        await captures.set_policy(CapturePolicy(max_samples=3))
        for number in range(10):
            await captures.record(prediction(number))
        await captures.feedback("id0", 1, CLASSES)
        counts = await captures.counts()
        assert (counts.captured, counts.tallies[0].predictions, counts.tallies[0].correct) == (3, 10, 1)
        await captures.set_policy(CapturePolicy(max_bytes=50))
        assert (await captures.counts()).captured == 2
        await captures.set_policy(CapturePolicy(enabled=False))
        assert (await captures.counts()).captured == 0
        await captures.record(prediction(11))
        assert (await captures.counts()).captured == 0
        captures.close()

    asyncio.run(scenario())


def test_feedback_joins_once_and_only_what_is_known(tmp_path: Path) -> None:
    """Each refusal has its reason and counts nothing."""

    async def scenario() -> None:
        captures = store(tmp_path)
        await captures.record(prediction(1))
        await captures.feedback("id1", 0, CLASSES)
        with pytest.raises(FeedbackGivenError, match="given before: 0"):
            await captures.feedback("id1", 1, CLASSES)
        with pytest.raises(UnknownPredictionError, match="nobody"):
            await captures.feedback("nobody", 1, CLASSES)
        await captures.record(prediction(2))
        with pytest.raises(RequestError, match="label 5 is none of the classes 0 to 4 of watch"):
            await captures.feedback("id2", 5, CLASSES)  # which another model of this device knows
        tally = (await captures.counts()).tallies[0]
        assert (tally.feedback, tally.correct) == (1, 0)
        captures.close()

    asyncio.run(scenario())


def test_counters_are_kept_per_variant_the_last_used_at_the_end(tmp_path: Path) -> None:
    """With latency histograms that add up."""

    async def scenario() -> None:
        captures = store(tmp_path)
        await captures.record(prediction(1, INT8))
        await captures.record(prediction(2, FP32))
        await captures.record(replace(prediction(3, FP32), latency_ns=9_000_000))
        first, last = (await captures.counts()).tallies
        assert (first.variant, last.variant) == (INT8, FP32)
        assert sum(last.latency_us.values()) == last.predictions == 2
        assert last.confidence_sum == pytest.approx(1.0)
        captures.close()

    asyncio.run(scenario())


def test_what_was_acknowledged_survives_a_killed_process(tmp_path: Path) -> None:
    """The process ends without closing anything, right after the last acknowledgement."""
    child = os.fork()
    if child == 0:

        async def scenario() -> None:
            captures = store(tmp_path)
            for number in range(50):
                await captures.record(prediction(number))
                await captures.feedback(f"id{number}", 1, CLASSES)
            os._exit(0)

        asyncio.run(scenario())
    assert os.waitpid(child, 0)[1] == 0

    async def after() -> None:
        captures = store(tmp_path)
        counts = await captures.counts()
        assert (counts.captured, counts.tallies[0].predictions, counts.tallies[0].correct) == (50, 50, 50)
        assert len((await captures.samples("watch"))[1]) == 50
        captures.close()

    asyncio.run(after())


def test_a_damaged_store_is_put_aside(tmp_path: Path) -> None:
    """The agent must start."""
    (tmp_path / "captures.sqlite").write_bytes(b"this is no database" * 100)

    async def scenario() -> None:
        captures = store(tmp_path)
        await captures.record(prediction(1))
        assert (await captures.counts()).captured == 1
        captures.close()

    asyncio.run(scenario())
    assert (tmp_path / "captures.damaged").exists()


def test_a_store_that_cannot_be_opened_is_replaced_by_memory(tmp_path: Path) -> None:
    """A full or read-only disk must not keep the agent from answering; what it counts then is forgotten at its end."""

    async def scenario() -> None:
        captures = store(tmp_path / "nowhere")
        await captures.record(prediction(1))
        await captures.feedback("id1", 1, CLASSES)
        counts = await captures.counts()
        assert (counts.captured, counts.tallies[0].correct) == (1, 1)
        captures.close()

    asyncio.run(scenario())


def test_damage_inside_the_store_is_found_when_it_is_opened(tmp_path: Path) -> None:
    """Not at a later prediction: the header is whole, the tables are not."""

    async def scenario() -> None:
        captures = store(tmp_path)
        for number in range(200):
            await captures.record(prediction(number))
        captures.close()
        path = tmp_path / "captures.sqlite"
        data = path.read_bytes()
        path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
        captures = store(tmp_path)
        await captures.record(prediction(1))
        assert (await captures.counts()).captured == 1
        captures.close()

    asyncio.run(scenario())


def test_a_write_that_sqlite_took_back_itself_leaves_the_counts_right(tmp_path: Path) -> None:
    """As when the disk is full: the error is the disk's, nothing was counted, and the next prediction is kept."""

    async def scenario() -> None:
        captures = store(tmp_path)
        await captures.record(prediction(1))

        def fail() -> None:
            captures._record(prediction(2))
            captures._db.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")

        with pytest.raises(DiskError, match="disk is full"):
            await captures._write(fail)
        assert (await captures.counts()).captured == 1
        await captures.record(prediction(3))
        assert (await captures.counts()).captured == 2
        captures.close()

    asyncio.run(scenario())
