"""MQTT topic filters as a tree, so that finding the subscribers of a topic does not look at every subscription.

`+` stands for one level, `#` for the rest including its parent level (MQTT 3.1.1 section 4.7).
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_FOUND = 200_000
"""Topics that are remembered."""


class _Node(Generic[T]):
    __slots__ = ("below", "values")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.values: dict[T, None] = {}


def is_exact(topic_filter: str) -> bool:
    """Does it stand for one topic alone?"""
    return "+" not in topic_filter and "#" not in topic_filter


class TopicTree(Generic[T]):
    """Values filed under topic filters: those without a wildcard by the topic itself, the others in a tree.

    What a topic was found to match there is remembered until that may be different.
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[T, None]] = {}
        self._root: _Node[T] = _Node()
        self._found: dict[str, tuple[T, ...]] = {}

    def add(self, topic_filter: str, value: T) -> None:
        """File `value` under the filter; again is harmless."""
        if is_exact(topic_filter):
            self._exact.setdefault(topic_filter, {})[value] = None
            return
        self._found.clear()
        node = self._root
        for level in topic_filter.split("/"):
            node = node.below.setdefault(level, _Node())
        node.values[value] = None

    def remove(self, topic_filter: str, value: T) -> None:
        """Take it out, if it is there, and the branches that are empty then."""
        if is_exact(topic_filter):
            values = self._exact.get(topic_filter, {})
            values.pop(value, None)
            if not values:
                self._exact.pop(topic_filter, None)
            return
        self._found.clear()
        path: list[tuple[_Node[T], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            if level not in node.below:
                return
            path.append((node, level))
            node = node.below[level]
        node.values.pop(value, None)
        for parent, level in reversed(path):
            if parent.below[level].values or parent.below[level].below:
                break
            del parent.below[level]

    def match(self, topic: str) -> tuple[T, ...]:
        """Every value with a filter that matches, once each, in an order that depends only on how they were added."""
        found = self._found.get(topic)
        if found is None:
            if len(self._found) >= MOST_FOUND:
                self._found.clear()
            found = self._found[topic] = self._match(topic)
        exact = self._exact.get(topic)
        if exact is None:
            return found
        return tuple(dict.fromkeys((*exact, *found))) if found else tuple(exact)

    def _match(self, topic: str) -> tuple[T, ...]:
        found: dict[T, None] = {}
        nodes = [self._root]
        for level in topic.split("/"):
            _collect(nodes, found)
            nodes = [node.below[name] for node in nodes for name in (level, "+") if name in node.below]
        _collect(nodes, found)
        for node in nodes:
            found.update(node.values)
        return tuple(found)


def _collect(nodes: list[_Node[T]], found: dict[T, None]) -> None:
    for node in nodes:
        if "#" in node.below:
            found.update(node.below["#"].values)


class Topics:
    """Topics as a tree, so that finding those that a filter means does not look at all of them."""

    __slots__ = ("_below", "_topic")

    def __init__(self) -> None:
        self._below: dict[str, Topics] = {}
        self._topic = ""

    def add(self, topic: str) -> None:
        """Add a topic; again is harmless."""
        node = self
        for level in topic.split("/"):
            node = node._below.setdefault(level, Topics())
        node._topic = topic

    def remove(self, topic: str) -> None:
        """Take it out, if it is there, and the branches that are empty then."""
        path: list[tuple[Topics, str]] = []
        node = self
        for level in topic.split("/"):
            if level not in node._below:
                return
            path.append((node, level))
            node = node._below[level]
        node._topic = ""
        for parent, level in reversed(path):
            if parent._below[level]._topic or parent._below[level]._below:
                break
            del parent._below[level]

    def under(self, topic_filter: str) -> tuple[str, ...]:
        """Every topic that the filter matches, in an order that depends only on how they were added."""
        nodes = [self]
        for level in topic_filter.split("/"):
            if level == "#":
                return tuple(topic for node in nodes for topic in node._all())
            names = [(node, (level,) if level != "+" else node._below) for node in nodes]
            nodes = [node._below[name] for node, wanted in names for name in wanted if name in node._below]
            if not nodes:
                return ()
        return tuple(node._topic for node in nodes if node._topic)

    def _all(self) -> Iterator[str]:
        """Its own topic and all below."""
        if self._topic:
            yield self._topic
        for node in self._below.values():
            yield from node._all()
