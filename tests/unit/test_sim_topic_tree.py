"""Topic filters: which topics `+` and `#` stand for, and that nothing is left behind by removal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.topic_tree import Topics, TopicTree

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
    tree: TopicTree[str] = TopicTree()
    tree.add(topic_filter, "x")
    assert (tree.match(topic) == ("x",)) is expected


def test_overlapping_filters_count_once_and_can_be_removed() -> None:
    """One value under two filters is found once, and by the other filter when one is gone."""
    tree: TopicTree[str] = TopicTree()
    tree.add("a/#", "x")
    tree.add("a/b", "x")
    assert tree.match("a/b") == ("x",)
    tree.remove("a/#", "x")
    tree.remove("never/there", "x")
    assert tree.match("a/b") == ("x",)
    tree.remove("a/b", "x")
    assert tree.match("a/b") == ()


@settings(deadline=None)
@given(st.lists(topics, max_size=8), st.lists(topics, max_size=4), filters)
def test_topics_under_a_filter_are_those_that_match(added: list[str], removed: list[str], topic_filter: str) -> None:
    """As the tree of filters sees it, whatever was added and removed before."""
    known, tree = Topics(), TopicTree[None]()
    tree.add(topic_filter, None)
    for topic in added:
        known.add(topic)
    for topic in removed:
        known.remove(topic)
    left = [topic for topic in dict.fromkeys(added) if topic not in removed]
    assert sorted(known.under(topic_filter)) == sorted(topic for topic in left if tree.match(topic))


def test_what_was_found_is_found_anew_after_a_change() -> None:
    """Of that very topic, or of filters that may mean it."""
    tree = TopicTree[str]()
    assert tree.match("a/b") == ()
    tree.add("a/b", "exact")
    assert tree.match("a/b") == ("exact",)
    tree.add("a/+", "wild")
    assert set(tree.match("a/b")) == {"exact", "wild"}
    tree.remove("a/b", "exact")
    tree.remove("a/+", "wild")
    assert tree.match("a/b") == ()
