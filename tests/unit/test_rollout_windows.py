"""Openings as devices get them: moments, whatever a zone's clocks do; and how long the hub waits for them."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from msgspec import UNSET

from cloud.core.rollout.machine import REPORT_GRACE_S, granted, overdue_ns
from cloud.core.rollout.plan import Plan, PlanError, Wave, check
from cloud.core.rollout.waves import PLACES
from cloud.core.rollout.windows import Window, open_share, openings
from wire.assignment import Execution
from wire.codec import encode
from wire.ports import SECOND

ALL = (Wave(percent=100),)
NIGHT = Window("0 2 * * *", "Europe/Berlin", 3600.0, 600.0)


def at(text: str, zone: str = "Europe/Berlin") -> int:
    """A moment in ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND


def test_openings_follow_the_clocks_of_the_zone() -> None:
    """On the last Sunday of October there are 25 hours from 02:00 to 02:00."""
    first, second = openings(NIGHT, 0.0, at("2026-10-24T12:00"), 2)
    assert (first.from_ns, second.from_ns) == (at("2026-10-25T02:00"), at("2026-10-26T02:00"))
    assert second.from_ns - first.from_ns == 25 * 3600 * SECOND
    assert first.until_ns - first.from_ns == 3600 * SECOND


def test_the_present_opening_counts_and_each_device_has_its_own_moment() -> None:
    """At ten past, half of the jitter of twenty minutes is over."""
    half = Window("0 2 * * *", "Europe/Berlin", 3600.0, 1200.0)
    now_ns = at("2026-01-10T02:10")
    (opening,) = openings(half, 0.5, now_ns, 1)
    assert (opening.from_ns, opening.until_ns) == (now_ns, at("2026-01-10T03:00"))
    assert open_share(half, now_ns) == pytest.approx(0.5)
    assert openings(half, 0.0, at("2026-01-10T03:00"), 1)[0].from_ns == at("2026-01-11T02:00")


def test_a_device_has_two_chances_to_install_and_the_hub_waits_for_both() -> None:
    """The hours of telling are those of downloading: one opening, the present one."""
    plan = Plan(ALL, window=Window("0 1 * * *", "UTC", 1800.0), install_window=NIGHT)
    now_ns = at("2026-01-10T01:05", "UTC")
    windows = granted(plan, PLACES // 2, now_ns)
    assert windows is not UNSET
    assert [one.until_ns for one in windows.download] == [at("2026-01-10T01:30", "UTC")]
    assert [one.from_ns for one in windows.install] == [at("2026-01-10T02:05"), at("2026-01-11T02:05")]
    given_s = plan.total_timeout_s + REPORT_GRACE_S
    assert overdue_ns(plan, now_ns, windows) == at("2026-01-11T03:00") + int(given_s * SECOND)
    assert overdue_ns(plan, now_ns) == now_ns + int(given_s * SECOND)


def test_without_windows_an_assignment_looks_as_it_always_did() -> None:
    """Agents from before the field take it."""
    assert granted(Plan(ALL), 7, 0) is UNSET
    assert b"windows" not in encode(Execution(id="e1"))


def test_an_install_window_that_never_opens_is_refused() -> None:
    """By its name."""
    with pytest.raises(PlanError, match="install_window: cron '0 2 30 2"):
        check(Plan(ALL, install_window=Window("0 2 30 2 *", "UTC", 60.0)), at("2026-01-10T12:00"))
