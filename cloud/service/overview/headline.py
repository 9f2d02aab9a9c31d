"""One line and one stage that say where the loop stands. Pure: the most urgent thing that is under way wins."""

from collections.abc import Callable, Iterator, Sequence

from cloud.core.rollout import RolloutState
from cloud.service.overview.shapes import DeviceView, FederatedView, JobView, RolloutView, Stage, VersionView

Line = tuple[Stage, str]


def headline(
    devices: Sequence[DeviceView],
    versions: Sequence[VersionView],
    rollouts: Sequence[RolloutView],
    runs: Sequence[FederatedView],
    jobs: Sequence[JobView],
) -> Line:
    """The stage to light and the line to print."""
    candidates: tuple[Callable[[], Iterator[Line]], ...] = (
        lambda: _rolling_out(rollouts[-1:]),
        lambda: _learning(runs[-1:]),
        lambda: _signing(versions[-1:]),
        lambda: _working(jobs, versions),
        lambda: _stopped(rollouts[-1:]),
        lambda: _ready(versions[-1:], rollouts),
        lambda: _watching(devices),
    )
    return next((line for lines in candidates for line in lines()), _enrolling(devices))


def _rolling_out(newest: Sequence[RolloutView]) -> Iterator[Line]:
    for rollout in newest:
        if rollout.state == RolloutState.RUNNING:
            wave = next((wave.number for wave in rollout.waves if wave.state == "running"), len(rollout.waves))
            yield "roll_out", f"Rolling out version {rollout.version}: wave {wave} of {len(rollout.waves)}"


def _learning(newest: Sequence[FederatedView]) -> Iterator[Line]:
    for run in newest:
        if run.state == "running":
            done = run.rounds[-1].round if run.rounds else 0
            yield "learn", f"{run.clients} devices are learning: round {done} of {run.rounds_planned} done"
        elif run.state == "deriving":
            yield "optimize", "Turning what the devices learned into the next version"


def _signing(newest: Sequence[VersionView]) -> Iterator[Line]:
    for version in newest:
        if version.state == "awaiting_signature":
            yield "sign", f"Version {version.version} waits for the publisher's signature"
        elif version.state == "refused":
            yield "sign", f"The publisher refused version {version.version}: {version.reason}"


def _working(jobs: Sequence[JobView], versions: Sequence[VersionView]) -> Iterator[Line]:
    for job in reversed(jobs):
        if job.state == "running" and job.kind == "train":
            number = versions[-1].version + 1 if versions else 1
            doing = "Optimizing" if job.stage == "optimize" else "Training"
            yield job.stage, f"{doing} version {number}" + (f": {job.progress}" if job.progress else "")


def _stopped(newest: Sequence[RolloutView]) -> Iterator[Line]:
    for rollout in newest:
        if rollout.state in (RolloutState.HALTED, RolloutState.PAUSED, RolloutState.ABORTED):
            why = f": {rollout.reason}" if rollout.reason else ""
            yield "roll_out", f"The rollout of version {rollout.version} is {rollout.state}{why}"


def _ready(newest: Sequence[VersionView], rollouts: Sequence[RolloutView]) -> Iterator[Line]:
    for version in newest:
        if version.state == "released" and all(rollout.version != version.version for rollout in rollouts):
            yield "sign", f"Version {version.version} is signed and can be rolled out"


def _watching(devices: Sequence[DeviceView]) -> Iterator[Line]:
    running = [device.version for device in devices if device.version is not None]
    if running:
        newest = max(running)
        yield "watch", f"Version {newest} runs on {running.count(newest)} of {len(devices)} devices"


def _enrolling(devices: Sequence[DeviceView]) -> Line:
    online = sum(device.online for device in devices)
    return "enrol", f"{online} of {len(devices)} devices are here" if devices else "Waiting for devices to enrol"
