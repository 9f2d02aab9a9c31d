"""Every moment at which the power can fail while one device enrols and installs two versions, and what may be left.

The life is played once. At each disk operation the process forks: in the children the power fails there, leaving what
one of several crash seeds decides, and the life goes on to its end under all promises. Where the same disk is left and
nothing was said or stored anywhere in between, it is the same life but for milliseconds, which is played once.
"""

import asyncio
import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial

from cloud.core.rollout import Plan, Wave
from simulator.alarm import quiet_programs
from simulator.core.network import Network
from simulator.core.power import one_outcome
from simulator.core.rng import Rng
from simulator.device import Device
from simulator.faults.disks import FaultyDisk
from simulator.fuzz.draw import SMALL_BYTES, Life
from simulator.fuzz.play import Playing
from wire.ports import SECOND

MAX_REPORT_BYTES = 2_000
"""What fits through a pipe at once."""
OFF_NS = 2 * SECOND
"""The power comes back after so long."""


@dataclass(slots=True)
class Explored:
    """`points`: operations at which the power failed; `runs`: points x seeds; `states`: different lives among them."""

    points: int = 0
    runs: int = 0
    states: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Forks:
    """Children that play a life from a power cut on, a few at a time."""

    workers: int
    explored: Explored = field(default_factory=Explored)
    _running: dict[int, tuple[int, str]] = field(default_factory=dict)

    def fork(self, what: str) -> bool:
        """True in the child, which must `end` it."""
        while len(self._running) >= self.workers:
            self._reap()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self.workers, self._running = writer, {}
            return True
        os.close(writer)
        self._running[pid] = (reader, what)
        return False

    def end(self, problem: str) -> None:
        """The child's last words."""
        os.write(self.workers, problem.encode()[:MAX_REPORT_BYTES])
        os._exit(0)

    def join(self) -> None:
        """Wait for all children."""
        while self._running:
            self._reap()

    def _reap(self) -> None:
        pid, status = os.wait()
        reader, what = self._running.pop(pid)
        problem = os.read(reader, MAX_REPORT_BYTES).decode(errors="replace")
        os.close(reader)
        if status:
            problem = f"ended with status {status}: {problem}"
        if problem:
            self.explored.problems.append(f"{what}: {problem}")


class CutDisk(FaultyDisk):
    """A disk that asks at each operation what its content would be if the power failed now."""

    def __init__(self, seeds: int, every: int, forks: Forks) -> None:
        super().__init__()
        self.child = False
        self._seeds = seeds
        self._every = every
        self._forks = forks
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left: Mapping[str, bytes] | None = None
        self._met = set[Hashable]()
        self.elsewhere: Callable[[], Hashable] = lambda: None
        """What tells the moments of everything but this disk apart."""

    def crash(self, rng: Rng) -> None:
        """What was decided when the process forked."""
        if self._left is None:
            super().crash(rng)
        else:
            self.hold(self._left)
            self._left = None

    def _counts(self) -> bool:
        if not self.child and self.operations % self._every == 0:
            self._loop = asyncio.get_running_loop()
            self._explore()
        return super()._counts()

    def _explore(self) -> None:
        explored, elsewhere = self._forks.explored, self.elsewhere()
        explored.points += 1
        for seed in range(self._seeds):
            left = one_outcome(self.unsettled(), Rng(seed, f"cut {self.operations}"))
            explored.runs += 1
            state = (elsewhere, frozenset((path, one.digest) for path, one in left.items()))
            if state in self._met:
                continue
            self._met.add(state)
            explored.states += 1
            if self._forks.fork(f"operation {self.operations}, crash seed {seed}"):
                self.child, self.cut_at = True, self.operations + 1
                asyncio._set_running_loop(self._loop)  # asyncio takes the loop of another process id for none
                self._left = {path: one.data for path, one in left.items()}
                return


class CutPlaying(Playing):
    """A life whose only device has such a disk."""

    def __init__(self, life: Life, disk: CutDisk) -> None:
        super().__init__(life)
        self._disk = disk

    def _watch(self, device: Device) -> None:
        device.disk = self._disk
        device.disk.on_cut = partial(device.power_cut, OFF_NS)
        self._disk.elsewhere = partial(self._moment, device.network)
        super()._watch(device)

    def _moment(self, network: Network) -> Hashable:
        """What was said, sent and stored so far."""
        return self.world.trace.count, self.fleet.hub.store.transactions, network.up_bytes, network.down_bytes

    def _goes_on(self) -> bool:
        """Not once the power has failed: what the second version meets was tried from where it begins."""
        return not self._disk.child


def explore(life: Life, seeds: int, workers: int, *, every: int = 1) -> Explored:
    """Play `life`, of one device, with the power failing at every operation (or only at some), `seeds` times each."""
    forks = Forks(workers)
    disk = CutDisk(seeds, every, forks)
    try:
        with quiet_programs():
            ending = CutPlaying(life, disk).play()
        if disk.child:
            forks.end(ending.problem)
    except BaseException as error:
        if disk.child:
            forks.end(f"{type(error).__name__}: {error}")
        raise
    forks.join()
    if ending.problem:
        forks.explored.problems.append(f"without any cut: {ending.problem}")
    return forks.explored


def quiet_life(seed: int) -> Life:
    """One device, two versions, nothing else."""
    plan = Plan(waves=(Wave(percent=100),), health_window_s=2.0)
    return Life(seed=seed, devices=1, model_bytes=SMALL_BYTES, plan=plan, bad=(), actions=(), faults=(), newborn=True)
