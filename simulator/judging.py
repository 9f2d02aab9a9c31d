"""Looks whether a scenario's expectations are so, by the hub's database and the devices' own disks."""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from sqlalchemy import func, select

from cloud.tables import ENROLLED, certificates, devices, slots
from simulator.device import Device
from simulator.durations import nanoseconds
from simulator.faults.fault import Among
from simulator.federation import Federation
from simulator.fleet import Fleet
from simulator.observer import Observer
from simulator.report import Expectation
from simulator.scenario.expectations import (
    AnyExpectation,
    Bounds,
    Certified,
    Converged,
    Ended,
    Exposed,
    FederatedAccuracy,
    FederatedEnds,
    NoRefusals,
    Refused,
    RolloutEnds,
    Run,
    TrustRoot,
    UpdatesRefused,
)
from simulator.settlers import Settlers
from wire.codec import decode
from wire.messages import Reported
from wire.ports import SECOND

NAMES_SAID = 3
Told = dict[str, dict[str, tuple[str, int]]]
"""Device -> slot -> model and version that it said it runs."""


class Judge:
    """Judges one run. `settled_s` is how long it took until hub and devices agreed; None: they did not."""

    def __init__(self, fleet: Fleet, settlers: Settlers, observer: Observer) -> None:
        self.settled_s: float | None = None
        self._fleet = fleet
        self._settlers = settlers
        self._observer = observer
        self._federation = Federation(fleet, observer)

    def judge(self, one: AnyExpectation) -> Expectation:
        """Is it so?"""
        match one:
            case RolloutEnds():
                return self._rollout(one)
            case Run():
                return self._run(one)
            case Exposed():
                return self._exposed(one)
            case Ended():
                return self._ended(one)
            case Converged():
                return self._converged(one)
            case NoRefusals():
                refused = self._fleet.world.broker.refused
                said = "; ".join(refused[:NAMES_SAID]) or "no refusals"
                return _made("nobody reaches beyond its access rights", not refused, said)
            case TrustRoot() | Certified():
                return self._certified(one) if isinstance(one, Certified) else self._trusts(one)
            case Refused():
                return self._refused(one)
            case FederatedEnds() | FederatedAccuracy() | UpdatesRefused():
                return self._federation.judge(
                    one, lambda what, found, asked: self._counted(what, found, asked.devices, asked.number)
                )
            case _:
                assert_never(one)

    def agreeing(self) -> tuple[int, bool]:
        """Of how many devices does the hub know what they run, and have they accepted what is desired? Is that all?"""
        query = select(slots.c.device, slots.c.slot, slots.c.model, slots.c.version)
        behind = select(devices.c.name).where(devices.c.reported_sequence < devices.c.desired_sequence)
        here = select(devices.c.name).where(ENROLLED)
        told, late, present = self._fleet.hub.look(
            lambda conn: (
                _by_device(conn.execute(query)),
                set(conn.execute(behind).scalars()),
                set(conn.execute(here).scalars()),
            )
        )
        asked = [one for one in self._fleet.devices if one.name in present and one.network.reachable]
        good = sum(device.name not in late and _as_told(device, told) for device in asked)
        return good, good == len(asked)

    def _rollout(self, one: RolloutEnds) -> Expectation:
        row = next((row for row in self._observer.rollouts() if row.id == one.rollout), None)
        name = f"rollout {one.rollout} is {one.state}" + (f" within {one.within}" if one.within else "")
        if row is None:
            return _made(name, False, "it was never begun")
        seconds = (row.updated_ns - row.created_ns) / SECOND
        in_time = one.within is None or seconds * SECOND <= nanoseconds(one.within)
        said = f"{row.state} after {seconds:.0f} s" + (f": {row.reason}" if row.reason else "")
        return _made(name, row.state == one.state and one.reason in row.reason and in_time, said)

    def _run(self, one: Run) -> Expectation:
        found = [device.name for device in self._meant(one.devices) if _version(device, one.slot) == one.version]
        what = f"version {one.version} runs" if one.version else "no version runs"
        return self._counted(what, found, one.devices, one.number)

    def _exposed(self, one: Exposed) -> Expectation:
        assigned = {row.device for row in self._observer.rows(one.rollout) if row.assigned_ns is not None}
        found = [device.name for device in self._meant(one.devices) if device.name in assigned]
        return self._counted(f"rollout {one.rollout} reaches", found, one.devices, one.number)

    def _ended(self, one: Ended) -> Expectation:
        rows = {row.device: row for row in self._observer.rows(one.rollout)}
        asked = [device.name for device in self._meant(one.devices) if device.name in rows]
        found = [name for name in asked if rows[name].outcome == one.outcome and one.reason in rows[name].reason]
        what = f"in {one.rollout}, {one.outcome}" + (f" ({one.reason})" if one.reason else "")
        return self._counted(what, found, one.devices, one.number)

    def _converged(self, one: Converged) -> Expectation:
        count, _ = self.agreeing()
        passed = self.settled_s is not None and self.settled_s * SECOND <= nanoseconds(one.within)
        said = f"{count} of {len(self._fleet.devices)} do"
        if self.settled_s is not None:
            said += f", {self.settled_s:.0f} s after the rest"
        return _made(f"hub and devices agree within {one.within}", passed, said)

    def _refused(self, one: Refused) -> Expectation:
        query = select(devices.c.name, devices.c.reported).where(devices.c.reported.is_not(None))
        told = self._fleet.hub.look(lambda conn: {row.name: row.reported for row in conn.execute(query)})
        found = []
        for device in self._meant(one.devices):
            said = decode(told[device.name], Reported).refused if device.name in told else ""
            if said and one.reason in said:
                found.append(device.name)
        what = "a desired document was refused" + (f" ({one.reason})" if one.reason else "")
        return self._counted(what, found, one.devices, one.number)

    def _trusts(self, one: TrustRoot) -> Expectation:
        found = [device.name for device in self._meant(one.devices) if _root(device) == one.version]
        return self._counted(f"root {one.version} is verified", found, one.devices, one.number)

    def _certified(self, one: Certified) -> Expectation:
        held = certificates.c
        good = held.revoked_ns.is_(None) & (held.expires_ns > self._fleet.world.clock.now_ns())
        first = select(func.min(held.issued_ns).label("issued_ns"), held.device).group_by(held.device).subquery()
        query = select(held.pem).join(first, first.c.device == held.device).where(good)
        if one.renewed:
            query = query.where(held.issued_ns > first.c.issued_ns)
        pems = self._fleet.hub.look(lambda conn: set(conn.execute(query).scalars()))
        found = [device.name for device in self._meant(one.devices) if device.certificate in pems]
        what = "a valid certificate is in use" + (", and not the first one" if one.renewed else "")
        return self._counted(what, found, one.devices, one.number)

    def _meant(self, among: Among) -> list[Device]:
        return self._settlers.meant(among, "expectation")

    def _counted(self, what: str, found: Sequence[str], among: Among, number: Bounds) -> Expectation:
        asked = self._meant(among)
        problem = number.why_not(len(found), len(asked))
        said = f"{len(found)} of {len(asked)}" + (f", {problem}" if problem else "")
        if problem:
            odd = [device.name for device in asked if (device.name in found) == (number.at_most is not None)]
            said += f" (such as {', '.join(odd[:NAMES_SAID])})" if odd else ""
        return _made(f"{what}: {number}, {_whom(among)}", not problem, said)


def _made(name: str, passed: bool, detail: str) -> Expectation:
    return Expectation(name=name, passed=passed, detail=detail)


def _whom(among: Among) -> str:
    whom = f"class {among.device_class}" if among.device_class else "the fleet"
    whom = f"{', '.join(among.names)}" if among.names else whom
    return whom if among.count is None and among.share == 1 else f"some of {whom}"


def _version(device: Device, slot: str) -> int:
    deployed = device.current(slot)
    return deployed.installed.version if deployed else 0


def _root(device: Device) -> int:
    return device.record().trust.floors.root


def _by_device(rows: Iterable[Any]) -> Told:
    told: Told = {}
    for row in rows:
        if row.version:
            told.setdefault(row.device, {})[row.slot] = (row.model, row.version)
    return told


def _as_told(device: Device, told: Told) -> bool:
    actual = {
        slot: (state.current.installed.model, state.current.installed.version)
        for slot, state in device.record().slots.items()
        if state.current is not None
    }
    return told.get(device.name, {}) == actual
