"""What commands print for people: times, spans, and nothing that a terminal would take for more than text."""

import pytest

from fleetloop.console.plain import lines, moment, readable, said, span

AT_NS = 1_774_000_000_000_000_000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.25, "0.25 s"),
        (90, "1 min 30 s"),
        (3_600.0, "1 h"),
        (129_600, "1 d 12 h"),
        (1e12, "1e+12 s"),
    ],
)
def test_spans_have_the_units_that_people_use(seconds: float | None, words: str) -> None:
    """The largest ones, without those of which there is none."""
    assert span(seconds) == words


def test_moments_are_in_utc_and_none_is_said() -> None:
    """Devices say 0 for never, and may say what is no time at all."""
    assert [moment(one) for one in (AT_NS, None, 0, 10**40)] == ["2026-03-20 09:46:40", "-", "-", f"{10**40} ns"]


def test_a_document_is_lines_with_its_times_in_words() -> None:
    """Fields lose the unit that they no longer have; what is counted per second is no span."""
    document = {
        "device": "p01",
        "gone_ns": AT_NS,
        "held": None,
        "plan": {"step_timeout_s": 600, "window": None, "waves": [{"count": 1, "soak_s": 3_600.0}, {"percent": 25}]},
        "requests_per_s": 10,
        "slots": [],
        "devices": ["p01", "p02"],
        "federated": True,
    }
    assert list(lines(readable(document))) == [
        "device: p01",
        "gone: 2026-03-20 09:46:40",
        "held: -",
        "plan:",
        "  step_timeout: 10 min",
        "  window: -",
        "  waves:",
        "    - count: 1",
        "      soak: 1 h",
        "    - percent: 25",
        "requests_per_s: 10",
        "slots: -",
        "devices: p01, p02",
        "federated: yes",
    ]


def test_a_device_cannot_write_to_the_operators_terminal() -> None:
    """Its reasons and labels are shown, its escape sequences are not obeyed."""
    for value in ("\x1b[2Jgone", "two\nlines", {"\x9b31m": "x"}, ["\u202egnp.exe"]):
        assert said(value).isprintable()
        assert said(value).isascii()
