"""What devices say, taken in batches: one transaction, then receipts, then MQTT acknowledgements.

What is refused changes nothing but the device's `last_refusal`. Every channel has rules and a module of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from cloud.service import reports, statuses, telemetry
from cloud.service.effects import NOTHING, Effects
from cloud.service.enrolment import Door
from wire.errors import WireError
from wire.topics import Enrolment, Parsed, Topics, Upward


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came from the broker."""

    topic: str
    payload: bytes


def apply(conn: Connection, batch: Sequence[Received], now_ns: int, door: Door) -> Effects:
    """Take a batch, what one device said in order. Never raises on what a device sent."""
    effects = NOTHING
    for run in _runs([(_parse(door.topics, message.topic), message.payload) for message in batch]):
        if isinstance(run, _Run):
            effects += _BATCHES[run.channel](conn, run.told, now_ns, door.topics)
        else:
            effects += door.answer(conn, run[0].client, run[1], now_ns)
    return effects


@dataclass(frozen=True, slots=True)
class _Run:
    """What devices said on one channel: (device, payload)."""

    channel: str
    told: list[tuple[str, bytes]]


def _runs(parsed: Sequence[tuple[Parsed | None, bytes]]) -> list[_Run | tuple[Enrolment, bytes]]:
    """As few as there can be while every device is heard in its own order. Whoever enrols parts before from after."""
    runs: list[_Run | tuple[Enrolment, bytes]] = []
    newest: dict[str, int] = {}
    last: dict[str, int] = {}
    for topic, payload in parsed:
        if isinstance(topic, Enrolment) and topic.direction == "up":
            runs.append((topic, payload))
            newest.clear()
        elif isinstance(topic, Upward) and topic.channel in _BATCHES:  # federated traffic belongs to the aggregator
            at = newest.get(topic.channel, -1)
            if at < last.get(topic.device, 0):
                newest[topic.channel] = at = len(runs)
                runs.append(_Run(topic.channel, []))
            last[topic.device] = at
            run = runs[at]
            assert isinstance(run, _Run)
            run.told.append((topic.device, payload))
    return runs


def _parse(topics: Topics, topic: str) -> Parsed | None:
    """None: it is not of this contract, and there is nobody to blame it on."""
    try:
        return topics.parse(topic)
    except WireError:
        return None


_BATCHES = {"telemetry": telemetry.take, "reported": reports.take, "status": statuses.take}
"""Channels whose messages are taken together."""
