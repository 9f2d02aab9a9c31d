"""Attacks with trust metadata that does not end, does not come, or is none."""

import itertools
import json
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import msgspec
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONDeserializer

from bench.attack_cases.attack import Outcome
from bench.attack_cases.guards import case
from bench.attack_cases.scene import Scene, piece
from bench.crash_states.releases import ship
from bench.fuzzing.mutation import Mutator
from bench.replacing import replaced, together
from edge_agent import judging
from edge_agent.service import trusting
from wire.asks import AskMetadata, MetadataPiece, Refused

GOOD, NEXT = ship(1), ship(2)
ENDLESS, SLOW = "endless data, metadata and model", "slow retrieval"


async def _endless(scene: Scene) -> Outcome:
    """A timestamp without end."""
    most = 512 * 1024
    served = itertools.count()

    def serve(ask: AskMetadata) -> MetadataPiece:
        if ask.name != "timestamp.json" or ask.offset > most:
            return scene.cloud.honestly(ask)
        next(served)
        return MetadataPiece(found=True, total=1 << 40, offset=ask.offset, data=b" " * 24_000)

    scene.cloud.serve = serve
    await scene.cloud.publish(GOOD)
    await scene.cloud.assign(GOOD)
    await scene.settle(300)
    return Outcome(next(served) * 24_000 > most, scene.device.says())


async def _drip(scene: Scene) -> Outcome:
    """A byte at a time, each just before patience ends."""

    def serve(ask: AskMetadata) -> MetadataPiece | None:
        whole = scene.cloud.honestly(ask)
        if not whole.found:
            return whole
        return msgspec.structs.replace(whole, data=whole.data[:1])

    scene.cloud.serve, scene.cloud.delay_s = serve, 20.0
    return await _still_at_it(scene, 450)


async def _stall(scene: Scene) -> Outcome:
    """The answer never comes."""
    scene.cloud.serve = lambda ask: None
    return await _still_at_it(scene, 200)


async def _still_at_it(scene: Scene, seconds: float) -> Outcome:
    await scene.cloud.publish(GOOD)
    await scene.cloud.assign(GOOD)
    await scene.wait(seconds)
    return Outcome(scene.device.state.outcome is None, scene.device.says())


def _endless_patience() -> AbstractContextManager[None]:
    vouch = trusting.Trusting.vouch
    patient = partial(trusting.Deadlines, piece_s=1e6, total_s=1e6)
    return together(
        replaced(trusting.Trusting, vouch=lambda self, path, patience_s: vouch(self, path, 1e6)),
        replaced(trusting, Deadlines=patient),
    )


async def _hostile_bytes(scene: Scene) -> Outcome:
    """Every file damaged in many ways, while an installation asks for it."""
    await scene.install(GOOD)
    await scene.cloud.publish(NEXT)
    mutants = iter(Mutator([scene.cloud.repository.files["timestamp.json"], scene.cloud.repository.root], 1))

    def serve(ask: AskMetadata) -> MetadataPiece | Refused:
        data = b"[" * 30_000 if ask.name == "2.root.json" else next(mutants)[:4_000]
        return piece({ask.name: data}, ask)

    scene.cloud.serve = serve
    for _ in range(20):
        await scene.cloud.assign(NEXT)
        await scene.settle(100)
    return scene.judged(NEXT)


def _uncaught() -> AbstractContextManager[None]:
    from simulator.fakes import trust

    def parse(self: JSONDeserializer, raw_data: bytes) -> Metadata[Any]:
        return Metadata.from_dict(json.loads(raw_data))

    return together(replaced(trust, judge=judging._judge), replaced(JSONDeserializer, deserialize=parse))


ATTACKS = (
    case("timestamp without end", ENDLESS, "length cap of metadata", "longer than",
         _endless, lambda: replaced(judging, MAX_TIMESTAMP_BYTES=1 << 40)),
    case("metadata drips", SLOW, "deadline of a judgement", "did not arrive within", _drip, _endless_patience),
    case("metadata stalls", SLOW, "deadline of an answer", "did not answer within", _stall, _endless_patience),
    case("hostile bytes for metadata", "hostile metadata bytes", "a judgement is the only outcome", "",
         _hostile_bytes, _uncaught),
)  # fmt: skip
