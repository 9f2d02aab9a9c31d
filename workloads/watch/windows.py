"""From recordings to examples: windows of 128 samples every 64, and splits that cannot leak.

People are split, never windows: the hub holds right arms of people 1-7 only, and people 8-10 are seen by nobody before
their own devices play them. Within a recording, neighbouring windows share samples, so a holdout is the last fifth of
each recording, one window away from what trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from workloads.base import DeviceStream, Examples, HubData, Recording
from workloads.watch.recordings import EXERCISES, WatchRecording

LENGTH = 128
STEP = 64
LEARNERS = range(1, 8)
HOLDOUT_SHARE = 0.2
GAP_WINDOWS = 1


def cut(recording: WatchRecording) -> Examples:
    """Windows float32 [n, 6, 128] (channels first, as convolutions want them) in time order, with their label."""
    views = np.lib.stride_tricks.sliding_window_view(recording.samples, LENGTH, axis=0)[::STEP]
    x = np.ascontiguousarray(views, dtype=np.float32)
    return Examples(x, np.full(len(x), recording.exercise, dtype=np.int64))


def split(examples: Examples) -> tuple[Examples, Examples]:
    """The windows of one recording as (train, holdout): the last fifth, with one window between dropped."""
    border = len(examples) - int(len(examples) * HOLDOUT_SHARE)
    end = border - GAP_WINDOWS
    return Examples(examples.x[:end], examples.y[:end]), Examples(examples.x[border:], examples.y[border:])


def concatenate(parts: Iterable[Examples]) -> Examples:
    """All parts in order, as one."""
    listed = list(parts)
    return Examples(np.concatenate([part.x for part in listed]), np.concatenate([part.y for part in listed]))


def hub_data(recordings: Sequence[WatchRecording]) -> HubData:
    """Right arms of the learners, split within each recording."""
    own = [one for one in recordings if one.arm == "right" and one.person in LEARNERS]
    train, holdout = zip(*(split(cut(one)) for one in own), strict=True)
    return HubData(concatenate(train), concatenate(holdout))


def device_streams(recordings: Sequence[WatchRecording]) -> tuple[DeviceStream, ...]:
    """One device for each arm of each person, `p01-right` ... `p10-left`, in the order of `recordings`."""
    owners = dict.fromkeys((one.person, one.arm) for one in recordings)
    return tuple(
        DeviceStream(
            device=f"p{person:02}-{arm}",
            labels={"person": f"{person:02}", "arm": arm, "role": "learner" if person in LEARNERS else "unseen"},
            recordings=tuple(
                Recording(EXERCISES[one.exercise], cut(one))
                for one in recordings
                if (one.person, one.arm) == (person, arm)
            ),
        )
        for person, arm in owners
    )
