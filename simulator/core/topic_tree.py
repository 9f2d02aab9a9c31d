"""MQTT topic filters as a tree, so that finding the subscribers of a topic does not look at every subscription.

`+` stands for one level, `#` for the rest including its parent level (MQTT 3.1.1 section 4.7).
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("below", "values")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.values: dict[T, None] = {}


class TopicTree(Generic[T]):
    """Values filed under topic filters."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, topic_filter: str, value: T) -> None:
        """File `value` under the filter; again is harmless."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.below.setdefault(level, _Node())
        node.values[value] = None

    def remove(self, topic_filter: str, value: T) -> None:
        """Take it out, if it is there, and the branches that are empty then."""
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
