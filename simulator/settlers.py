"""Brings a scenario's population to life: devices of every class, their networks' hours and outages, and what their
applications do; and how each version behaves on each of them.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from cloud.tables import ENROLLED, devices
from federated.records import load_arrays
from simulator.application import Application
from simulator.core.network import Network
from simulator.core.rng import Rng
from simulator.device import Device
from simulator.durations import nanoseconds
from simulator.fakes.device import FixedMachine
from simulator.fakes.learner import PROTOTYPES
from simulator.fakes.runtime import GOOD
from simulator.faults.disks import FaultyDisk
from simulator.faults.fault import Among
from simulator.fleet import BOOT_SPREAD_NS, Fleet
from simulator.scenario.document import Scenario
from simulator.scenario.models import MEGABYTE, AnyTrait, manner
from simulator.scenario.population import DeviceClass, Hours, Outages
from simulator.surroundings import Surroundings
from wire.identity import ClaimFile
from wire.ports import SECOND
from wire.release import Release

if TYPE_CHECKING:
    from edge_agent.ports import Floats

DAY_NS = 86_400 * SECOND
HOURS = "hours"
OUTAGE = "outage"
MOST_SPREAD_NS = 300 * SECOND
"""Devices with hours do not come and go in the same second, but within this time of each other."""


@dataclass(frozen=True, slots=True)
class Spell:
    """One way in which a version misbehaves, for devices that come later, too."""

    version: tuple[str, int]
    sha256: str
    trait: AnyTrait


class Settlers:
    """The population of one run."""

    def __init__(self, fleet: Fleet, scenario: Scenario) -> None:
        self._fleet = fleet
        self._scenario = scenario
        self._rng = fleet.world.rng.child("population")
        self._spells: list[Spell] = []
        self._harmed: dict[tuple[str, int], set[str]] = {}
        self._prototypes: dict[str, Floats] = {}

    async def settle(self) -> None:
        """Announce everybody, or let them be known from an earlier life, and switch them on."""
        population, hub, number = self._scenario.population, self._fleet.hub, 0
        sizes = population.sizes()
        for kind in population.classes:
            names = [f"d{number + index:05}" for index in range(sizes[kind.name])]
            number += len(names)
            if population.enrolled and names:
                said = dict.fromkeys(names, kind.labels)
                for claim, identity in await hub.enrol(names, said, federated=kind.federated):
                    self._place(claim, kind).remember(identity)
            else:
                for name in names:
                    self._place(await hub.claim(name, kind.labels, federated=kind.federated), kind)

    async def add(self, class_name: str, count: int) -> list[str]:
        """So many devices more; their names."""
        kind, number = self._scenario.device_class(class_name), len(self._fleet.devices)
        names = [f"d{number + index:05}" for index in range(count)]
        for name in names:
            claim = await self._fleet.hub.claim(name, kind.labels, federated=kind.federated)
            device = self._place(claim, kind)
            for index, spell in enumerate(self._spells):
                on = spell.trait.devices
                if on.meant([device]) and self._rng.child(f"{name} {index}").chance(on.share):
                    self._enchant(device, spell)
            self._let_come_and_go(device, kind)
        return names

    def begin(self) -> None:
        """The fleet is up: from now on networks have their hours and outages."""
        for device in self._fleet.devices:
            self._let_come_and_go(device, self._scenario.device_class(device.device_class))

    def present(self) -> tuple[int, bool]:
        """How many devices are enrolled and online in the hub's eyes; is that all?"""
        query = select(func.count()).select_from(devices).where(ENROLLED, devices.c.online)
        count: int = self._fleet.hub.look(lambda conn: conn.execute(query).scalar_one())
        return count, count == len(self._fleet.devices)

    def spoil(self, release: Release, traits: tuple[AnyTrait, ...]) -> None:
        """Let the version misbehave where its traits say so."""
        version = (release.model, release.version)
        for index, trait in enumerate(traits):
            spell = Spell(version, release.variants[0].file.sha256, trait)
            self._spells.append(spell)
            for device in trait.devices.pick(self._fleet.devices, self._rng.child(f"{version} {index}")):
                self._enchant(device, spell)

    def teach(self, release: Release, parameters: bytes) -> None:
        """Let the version, whose parameters these are, tell classes apart by them."""
        prototypes = load_arrays(parameters)[PROTOTYPES].astype("float32")
        self._prototypes.update((variant.file.sha256, prototypes) for variant in release.variants)

    def harmed(self, model: str, version: int) -> frozenset[str]:
        """Devices on which the version misbehaves."""
        return frozenset(self._harmed.get((model, version), ()))

    def meant(self, among: Among, purpose: str) -> list[Device]:
        """The devices that a step or an expectation means; the same ones for the same purpose."""
        return among.pick(self._fleet.devices, self._rng.child(purpose))

    def _enchant(self, device: Device, spell: Spell) -> None:
        self._harmed.setdefault(spell.version, set()).add(device.name)
        device.manners[spell.sha256] = manner(device.manners.get(spell.sha256, GOOD), spell.trait)

    def _place(self, claim: ClaimFile, kind: DeviceClass) -> Device:
        rng = self._fleet.world.rng.child(claim.device)
        quality = self._scenario.profile(kind.network).quality
        device = Device(
            self._fleet.world,
            claim,
            Network(quality, rng.child("network"), self._fleet.world.faults),
            rng.child("device"),
            device_class=kind.name,
            machine=FixedMachine(dict(kind.engines), kind.max_opset, kind.ram_mb * MEGABYTE),
            disk=FaultyDisk(int(kind.disk_mb * MEGABYTE), self._scenario.population.disk_turn_every),
            surroundings=Surroundings(rng.child("surroundings")) if kind.federated else None,
            prototypes=self._prototypes,
        )
        if kind.use is not None:
            device.application = Application(
                kind.use.per_minute,
                kind.use.feedback,
                rng.child("application"),
                device.manners,
                device.surroundings,
                self._prototypes,
            )
        self._fleet.devices.append(device)
        self._fleet.later(rng.below(BOOT_SPREAD_NS), device.boot)
        return device

    def _let_come_and_go(self, device: Device, kind: DeviceClass) -> None:
        profile, rng = self._scenario.profile(kind.network), self._rng.child(f"hours {device.name}")
        if profile.present is not None:
            self._keep_hours(device, profile.present, rng)
        if profile.outages is not None:
            self._fleet.later(
                rng.below(nanoseconds(profile.outages.every)), partial(self._go, device, profile.outages, rng)
            )

    def _keep_hours(self, device: Device, hours: Hours, rng: Rng) -> None:
        """Leave or stay by the time of day, and again each time that changes."""
        lasts_ns, now_ns = nanoseconds(hours.lasts), self._fleet.world.clock.now_ns()
        opens_ns = of_day_ns(hours.opens) + rng.below(min(MOST_SPREAD_NS, lasts_ns // 10))
        since_ns = (now_ns - opens_ns) % DAY_NS
        if since_ns < lasts_ns:
            self._fleet.later(lasts_ns - since_ns, partial(self._leave, device, DAY_NS - lasts_ns, lasts_ns))
        else:
            device.isolate(HOURS)
            self._fleet.later(DAY_NS - since_ns, partial(self._come, device, DAY_NS - lasts_ns, lasts_ns))

    def _leave(self, device: Device, away_ns: int, here_ns: int) -> None:
        device.isolate(HOURS)
        self._fleet.later(away_ns, partial(self._come, device, away_ns, here_ns))

    def _come(self, device: Device, away_ns: int, here_ns: int) -> None:
        device.network.admit(HOURS)
        self._fleet.later(here_ns, partial(self._leave, device, away_ns, here_ns))

    def _go(self, device: Device, outages: Outages, rng: Rng) -> None:
        device.isolate(OUTAGE)
        every_ns, lasts_ns = nanoseconds(outages.every), nanoseconds(outages.lasts)
        self._fleet.later(rng.between(lasts_ns // 2, lasts_ns * 3 // 2), partial(device.network.admit, OUTAGE))
        self._fleet.later(rng.between(every_ns // 2, every_ns * 3 // 2), partial(self._go, device, outages, rng))


def of_day_ns(clock: str) -> int:
    """Nanoseconds from midnight (UTC) until a time like 22:30."""
    hour, minute = clock.split(":")
    return (int(hour) * 3600 + int(minute) * 60) * SECOND
