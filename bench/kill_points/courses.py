"""What the device is doing when it is killed: from where to where."""

from dataclasses import dataclass
from functools import cache

from bench.crash_states.promises import Ending
from bench.crash_states.releases import Shipped, assign, wanted
from bench.kill_points.hub import TOPICS
from bench.kill_points.models import linear
from wire.messages import Outcome
from wire.transfer.chunks import frames

HEALTH_WINDOW_S = 0.05


@dataclass(frozen=True)
class Course:
    """`before` are the versions that the device committed one after the other; then it is to get to `last`."""

    name: str
    before: tuple[Shipped, ...]
    last: Shipped
    ending: Ending

    @property
    def had(self) -> int | None:
        """The version that was current at the beginning."""
        return self.before[-1].release.version if self.before else None

    def assignment(self, device: str, step: int) -> bytes:
        """To the version of one of the steps before, or from `len(before)` on to the last one, attempt by attempt."""
        last = len(self.before)
        shipped = self.before[step] if step < last else self.last
        wish = wanted(shipped, attempt=max(1, step - last + 1), health_window_s=HEALTH_WINDOW_S)
        return assign(step + 1, wish, device=device)


def retained(courses: tuple[Course, ...]) -> dict[str, bytes]:
    """All chunks of all versions."""
    held: dict[str, bytes] = {}
    for shipped in {one.model.sha256: one for course in courses for one in (*course.before, course.last)}.values():
        for sha256, data in shipped.files.items():
            held |= {TOPICS.blob(sha256, index): payload for index, payload in enumerate(frames(data))}
    return held


def vouched() -> tuple[Shipped, ...]:
    """Every version that the publisher vouches for: all of them."""
    return tuple(
        {one.release.version: one for course in all_courses() for one in (*course.before, course.last)}.values()
    )


@cache
def all_courses() -> tuple[Course, ...]:
    """Enrolment with a first installation, an update that ends with garbage collection, and one that is refused."""
    one, two, three, bad = linear(1), linear(2), linear(3), linear(4, wrong=True)
    return (
        Course("install", (), one, Ending(1)),
        Course("update", (one, two), three, Ending(3, 2)),
        Course("rejected", (one,), bad, Ending(1, outcomes=(Outcome.REJECTED,))),
    )
