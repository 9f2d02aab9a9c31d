"""Releases that are not quite as they should be, and assignments that name releases by any means."""

from typing import Any

import msgspec

from bench.crash_states.releases import SLOT, Shipped, release
from wire.assignment import Execution, SlotAssignment
from wire.codec import encode
from wire.release import object_ref


def altered(version: int, model: bytes, golden: bytes, **changes: Any) -> Shipped:
    """A release of these files; `changes` alter its document."""
    honest = release(version, model, golden)
    document = msgspec.structs.replace(honest.release, **changes)
    data = encode(document)
    return Shipped(document, {**honest.files, object_ref(data).sha256: data})


def wanted(shipped: Shipped, name: str, **changes: Any) -> SlotAssignment:
    """What an assignment says of the slot; `name` is the execution's."""
    variant = shipped.release.variants[0]
    slot = SlotAssignment(
        slot=SLOT,
        model=shipped.release.model,
        version=shipped.release.version,
        variant=variant.name,
        sha256=variant.file.sha256,
        release=shipped.ref,
        execution=Execution(id=name, step_timeout_s=30.0, total_timeout_s=600.0, health_window_s=1.0),
    )
    return msgspec.structs.replace(slot, **changes)
