"""What a device refuses, assignment, release or model, changes nothing, and the hub hears the reason."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from simulator.fakes.runtime import MemoryInstaller
from simulator.memory_disk import MemoryDisk
from tests.scenes.agent_scenes import ONE, TWO, air_with, failed, gear, run
from tests.worlds.agent_world import DIRECTOR, assign, committed, device, ship, wanted
from tests.worlds.trust_world import STRANGER
from wire.adapters.system import SystemClock
from wire.dsse import ASSIGNMENT_TYPE, seal
from wire.messages import Outcome

BAD_DESIRED = {
    "another signer": (assign(5, wanted(TWO), key=STRANGER), "no trusted key"),
    "another device": (assign(5, wanted(TWO), device="p02-left"), "meant for device 'p02-left'"),
    "an older sequence": (assign(1, wanted(TWO)), "sequence 1 is older than 2"),
    "another one with the same sequence": (assign(2, wanted(TWO, "e2")), "another one with the same sequence 2"),
    "not an envelope": (b"{}", "missing required field"),
    "truncated": (assign(5, wanted(TWO))[:-20], "truncated"),
    "too large": (b" " * 20_000, "20000 bytes, at most"),
    "an unknown field": (
        seal(b'{"device":"p01-left","sequence":5,"issued_ns":1,"surprise":1}', ASSIGNMENT_TYPE, DIRECTOR.signers()),
        "surprise",
    ),
    "a slot named twice": (assign(5, wanted(TWO), wanted(TWO)), "names a slot twice"),
    "a sequence that no database holds": (
        seal(
            b'{"device":"p01-left","sequence":9223372036854775808,"issued_ns":1}', ASSIGNMENT_TYPE, DIRECTOR.signers()
        ),
        "Expected `int` <= 9223372036854775807",
    ),
    "another schema": (
        seal(b'{"schema":9,"device":"p01-left","sequence":5,"issued_ns":1}', ASSIGNMENT_TYPE, DIRECTOR.signers()),
        "schema 9",
    ),
}


@pytest.mark.parametrize("case", BAD_DESIRED)
def test_bad_desired_documents_are_refused_with_their_reason_and_change_nothing(case: str) -> None:
    """The model, the record and the floor stay; the report says why."""
    document, reason = BAD_DESIRED[case]

    async def scenario() -> None:
        air = air_with()
        async with device(gear(air)) as unit:
            air.desire(assign(2, wanted(ONE, "e1")))
            await air.slot(committed(1))
            before = unit.reconciler.record
            air.desire(document)
            report = await air.report(lambda one: bool(one.refused))
            assert reason in report.refused
            assert report.sequence == 2
            assert unit.reconciler.record == before
            air.desire(assign(6, wanted(TWO, "e2")))
            assert (await air.report(lambda one: committed(2)(one.slots[0]))).refused == ""

    run(scenario)


BAD_RELEASES = {
    "another version": (lambda: ship(3), {"version": 2}, "does not list watch/2.json"),
    "below the floor": (lambda: ship(2, counter=1), {"min_counter": 2}, "counter 1 is below the floor 2"),
    "another file": (lambda: TWO, {"sha256": "ab" * 32}, "is another file"),
    "no such variant": (lambda: TWO, {"variant": "int9"}, "no variant 'int9'"),
    "needs a newer opset": (
        lambda: ship(
            2,
            variants=(
                msgspec.structs.replace(
                    TWO.release.variants[0],
                    needs=msgspec.structs.replace(TWO.release.variants[0].needs, opset=99),
                ),
            ),
        ),
        {},
        "opset 99",
    ),
}


@pytest.mark.parametrize("case", BAD_RELEASES)
def test_bad_releases_are_rejected_with_their_reason_and_the_model_stays(case: str) -> None:
    """Director and publisher must agree, and the device must be able."""
    make, changes, reason = BAD_RELEASES[case]

    async def scenario() -> None:
        shipped = make()
        air = air_with(ONE, shipped)
        async with device(gear(air)) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            air.desire(assign(2, wanted(shipped, "e2", **changes)))
            report = await air.slot(failed)
            assert report.outcome is Outcome.REJECTED
            assert reason in report.reason
            assert report.current is not None
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1

    run(scenario)


def test_a_model_that_fails_its_golden_vectors_is_rejected_and_reports_what_was_seen() -> None:
    """The canary's verdict travels."""

    async def scenario() -> None:
        air = air_with()
        disk = MemoryDisk()
        unfit = {TWO.release.variants[0].file.sha256}
        with_bad = replace(gear(air, disk), installer=MemoryInstaller(disk, SystemClock(), unfit))
        async with device(with_bad) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            air.desire(assign(2, wanted(TWO, "e2")))
            report = await air.slot(failed)
            assert report.outcome is Outcome.REJECTED
            assert "golden inputs" in report.reason
            assert report.golden is not None
            assert report.golden.matched < report.golden.total
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1

    run(scenario)
