"""Topic filters: which topics `+` and `#` stand for, and that nothing is left behind by removal."""

import pytest

from simulator.core.topic_tree import TopicTree


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
