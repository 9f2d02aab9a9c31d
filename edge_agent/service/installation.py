"""The steps of an installation that take time: fetch and judge the release, fetch the files, try them in the child.

Each step ends with exactly one event for the update machine; what can go wrong becomes `StepFailed` with its reason.
Every step may be repeated: what is durable already is found, checked and not fetched again.
"""

from typing import assert_never

import msgspec

from edge_agent.core.patience import Patience
from edge_agent.core.reading import agree, agreed_variant, read_release
from edge_agent.core.slot import (
    CanaryPassed,
    Event,
    FetchFiles,
    FetchRelease,
    FilesStored,
    ReleaseVerified,
    RunCanary,
    StepFailed,
)
from edge_agent.core.trust import Listed
from edge_agent.core.windows import to_install, wait_ns
from edge_agent.errors import DiskError, RefusedError, TransferStalledError, UnansweredError, UnjudgedError
from edge_agent.ports import CanaryRequest, Ports
from edge_agent.service.deltas import Deltas
from edge_agent.service.downloads import Downloads
from edge_agent.service.objects import Objects, path_of
from edge_agent.service.trusting import Trusting
from wire.assignment import SlotAssignment
from wire.compatibility import unmet_need
from wire.messages import InstallFigures, Outcome
from wire.ports import SECOND
from wire.trust import target_path

Step = FetchRelease | FetchFiles | RunCanary


class Installation:
    """Performs the steps; knows no state."""

    __slots__ = ("_deltas", "_downloads", "_objects", "_ports", "trusting")

    def __init__(self, ports: Ports, objects: Objects, downloads: Downloads, trusting: Trusting) -> None:
        self.trusting = trusting
        self._ports = ports
        self._objects = objects
        self._downloads = downloads
        self._deltas = Deltas(ports, objects, downloads)

    async def perform(self, step: Step, floor: int) -> Event:
        """Do one step. `floor` is the lowest release counter that may be installed."""
        try:
            match step:
                case FetchRelease():
                    return await self._release(step, floor)
                case FetchFiles():
                    return await self._files(step)
                case RunCanary():
                    return await self._canary(step)
                case _:
                    assert_never(step)
        except RefusedError as error:
            return StepFailed(step.ticket, Outcome.REJECTED, str(error))
        except (TransferStalledError, UnansweredError) as error:
            return StepFailed(step.ticket, Outcome.TIMED_OUT, str(error))
        except (DiskError, UnjudgedError) as error:
            return StepFailed(step.ticket, Outcome.FAILED_NO_CHANGE, str(error))

    async def _release(self, effect: FetchRelease, floor: int) -> Event:
        """See that the publisher vouches for the release, then fetch it, and check whether its variant can run here."""
        desired = effect.desired
        listed = await self._vouched(desired)
        agree(listed, desired, floor)
        await self._downloads.fetch(desired.release, _patience(desired))
        release = read_release(await self._objects.read(desired.release.sha256))
        variant = agreed_variant(release, desired, listed.counter)
        capabilities = self._ports.machine.capabilities(await self._ports.disk.free_bytes())
        held_bytes = await self._objects.room_taken(variant.file, release.companions.golden)
        need = unmet_need(variant.needs, capabilities, held_bytes)
        if need:
            raise RefusedError(f"variant {variant.name}: {need}")
        golden = variant.golden
        return ReleaseVerified(effect.ticket, variant.file, release.companions.golden, golden.logits, golden.tolerance)

    async def _vouched(self, desired: SlotAssignment) -> Listed:
        """What the publisher says of the release. While the link is down, only the execution's total time ends this."""
        while True:
            try:
                path = target_path(desired.model, desired.version)
                return await self.trusting.vouch(path, desired.execution.step_timeout_s)
            except UnansweredError:
                if self._ports.link.connected:
                    raise

    async def _files(self, effect: FetchFiles) -> Event:
        """Fetch model and golden vectors."""
        began_ns = self._ports.clock.monotonic_ns()
        patience = _patience(effect.desired)
        model = await self._deltas.obtain(effect.verified.file, effect.desired.deltas, patience)
        golden_bytes = await self._downloads.fetch(effect.verified.golden, patience)
        figures = InstallFigures(
            downloaded_bytes=model.downloaded_bytes + golden_bytes,
            download_s=(self._ports.clock.monotonic_ns() - began_ns) / SECOND,
            by_delta=model.by_delta,
            delta_refused=model.refused,
        )
        openings, told_ns = to_install(effect.desired), self.trusting.told_ns()
        inside = not openings or (told_ns is not None and wait_ns(openings, told_ns) == 0)
        return FilesStored(effect.ticket, effect.verified, figures, inside)

    async def _canary(self, effect: RunCanary) -> Event:
        """Have the child load the model and compare it with its golden vectors."""
        verified = effect.verified
        request = CanaryRequest(
            model=path_of(verified.file.sha256),
            golden=path_of(verified.golden.sha256),
            logits=verified.logits,
            tolerance=verified.tolerance,
            time_limit_s=effect.desired.execution.step_timeout_s,
        )
        verdict = await self._ports.installer.canary(request)
        if verdict.reason:
            return StepFailed(effect.ticket, Outcome.REJECTED, f"canary: {verdict.reason}", verdict.golden)
        assert verdict.golden is not None
        figures = msgspec.structs.replace(effect.figures, canary_s=verdict.seconds, canary_rss_bytes=verdict.rss_bytes)
        return CanaryPassed(effect.ticket, verdict.golden, figures)


def _patience(desired: SlotAssignment) -> Patience:
    """The execution's total time bounds what happens while the link is down."""
    return Patience(desired.execution.step_timeout_s)
