"""Topic filters: which topics `+` and `#` stand for, and that nothing is left behind by removal."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.topic_filters import Retained, Subscribers

level = st.sampled_from("abc")
topics = st.lists(level, min_size=1, max_size=3).map("/".join)
filters = st.lists(level | st.just("+"), min_size=1, max_size=3).map("/".join) | topics.map(lambda topic: f"{topic}/#")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("#", "a/b", True),
        ("+/b/#", "a/b", True),
        ("+/b/#", "a/c", False),
    ],
)
def test_filter(topic_filter: str, topic: str, expected: bool) -> None:
    """As MQTT 3.1.1 section 4.7 says."""
    subscribers: Subscribers[str] = Subscribers()
    subscribers.add(topic_filter, "x")
    assert (subscribers.match(topic) == ("x",)) is expected


def test_overlapping_filters_count_once_and_can_be_removed() -> None:
    """One value under two filters is found once, and by the other filter when one is gone."""
    subscribers: Subscribers[str] = Subscribers()
    subscribers.add("a/#", "x")
    subscribers.add("a/b", "x")
    assert subscribers.match("a/b") == ("x",)
    subscribers.remove("a/#", "x")
    subscribers.remove("never/there", "x")
    assert subscribers.match("a/b") == ("x",)
    subscribers.remove("a/b", "x")
    assert subscribers.match("a/b") == ()


@settings(deadline=None)
@given(st.lists(topics, max_size=8), st.lists(topics, max_size=4), st.lists(filters, min_size=1, max_size=4))
def test_retained_messages_under_a_filter_are_those_that_match(
    put: list[str], removed: list[str], topic_filters: list[str]
) -> None:
    """As subscriptions see it, whatever was put and removed before, between and after the first look."""
    known = Retained()
    for number, topic in enumerate(put):
        known.put(topic, str(number).encode())
        known.under(topic_filters[number % len(topic_filters)])
    for topic in removed:
        known.remove(topic)
    left = {topic: str(number).encode() for number, topic in enumerate(put) if topic not in removed}
    for topic_filter in topic_filters:
        subscribers: Subscribers[None] = Subscribers()
        subscribers.add(topic_filter, None)
        expected = {topic: payload for topic, payload in left.items() if subscribers.match(topic)}
        assert dict(known.under(topic_filter)) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(filters, st.integers(0, 2))), st.lists(st.tuples(filters, st.integers(0, 2))), topics)
def test_who_is_found_is_whoever_filed_a_filter_that_means_the_topic(
    added: list[tuple[str, int]], removed: list[tuple[str, int]], topic: str
) -> None:
    """Each filter taken for itself, by the rules of the specification."""
    subscribers: Subscribers[int] = Subscribers()
    for topic_filter, value in added:
        subscribers.add(topic_filter, value)
        subscribers.match(topic)  # what was found before is not found again for that
    for topic_filter, value in removed:
        subscribers.remove(topic_filter, value)
        subscribers.match(topic)
    left = [one for one in added if one not in removed]
    found = subscribers.match(topic)
    assert sorted(found) == sorted({value for topic_filter, value in left if means(topic_filter, topic)})


def means(topic_filter: str, topic: str) -> bool:
    """MQTT 3.1.1 section 4.7 as a regular expression."""
    pattern = re.escape(topic_filter).replace(r"\+", "[^/]*")
    pattern = re.sub(r"(^|/)\\#$", "(/.*)?" if topic_filter != "#" else ".*", pattern)
    return re.fullmatch(pattern, topic) is not None


def test_what_was_found_is_found_anew_after_a_change() -> None:
    """Of that very topic, or of filters that may mean it."""
    subscribers = Subscribers[str]()
    assert subscribers.match("a/b") == ()
    subscribers.add("a/b", "exact")
    assert subscribers.match("a/b") == ("exact",)
    subscribers.add("a/+", "wild")
    assert set(subscribers.match("a/b")) == {"exact", "wild"}
    subscribers.remove("a/b", "exact")
    subscribers.remove("a/+", "wild")
    assert subscribers.match("a/b") == ()
