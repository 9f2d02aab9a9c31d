"""MQTT topic filters: who subscribes to a topic, and which retained topics a filter means, without looking at all.

`+` stands for one level, `#` for the rest including its parent level (MQTT 3.1.1 section 4.7). A fleet has as many
filters as devices, but few *masks*: which levels are wild. What a filter of a certain mask that means a topic would be
called follows from the topic, so finding it is one look by name, and a filter costs no more than its name.
"""

from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

MOST_MATCHES: Final = 1 << 14
"""Topics whose values are remembered: a fleet at rest says the same on the same ones for hours."""


class _Mask(NamedTuple):
    """Which of the first `depth` levels are `+`; `rest`: a `#` follows."""

    depth: int
    wild: tuple[int, ...]
    rest: bool

    def filter_for(self, levels: list[str]) -> str:
        """The filter of this mask that means the topic of these levels; empty: there is none."""
        if len(levels) < self.depth or (len(levels) > self.depth and not self.rest):
            return ""
        named = levels[: self.depth]
        for place in self.wild:
            named[place] = "+"
        return "/".join([*named, "#"] if self.rest else named)


class _Nobody:
    """Stands where nothing is filed."""


_NOBODY: Final = _Nobody()


def is_exact(topic_filter: str) -> bool:
    """Does it stand for one topic alone?"""
    return "+" not in topic_filter and "#" not in topic_filter


def _mask_of(topic_filter: str) -> _Mask:
    levels = topic_filter.split("/")
    rest = levels[-1] == "#"
    named = levels[:-1] if rest else levels
    return _Mask(len(named), tuple(place for place, level in enumerate(named) if level == "+"), rest)


class Subscribers(Generic[T]):
    """Values filed under topic filters."""

    def __init__(self) -> None:
        self._filed: dict[str, T | dict[T, None]] = {}
        """Most filters have one value: a dictionary each would be most of a fleet's subscriptions."""
        self._masks: dict[_Mask, int] = {}
        """Of the filters that are not exact: how many there are of each mask."""
        self._matches: dict[str, tuple[T, ...]] = {}
        """What was found for a topic, until a filter comes or goes that may mean it."""

    def add(self, topic_filter: str, value: T) -> None:
        """File `value` under the filter; again is harmless."""
        self._forget(topic_filter)
        filed = self._filed.get(topic_filter, _NOBODY)
        if isinstance(filed, _Nobody):
            self._filed[topic_filter] = value
            if not is_exact(topic_filter):
                mask = _mask_of(topic_filter)
                self._masks[mask] = self._masks.get(mask, 0) + 1
        elif isinstance(filed, dict):
            filed[value] = None
        elif filed != value:
            self._filed[topic_filter] = {filed: None, value: None}

    def remove(self, topic_filter: str, value: T) -> None:
        """Take it out, if it is there."""
        self._forget(topic_filter)
        filed = self._filed.get(topic_filter, _NOBODY)
        if isinstance(filed, dict):
            filed.pop(value, None)
        if filed in ({}, value):
            del self._filed[topic_filter]
            if not is_exact(topic_filter):
                self._let_go(_mask_of(topic_filter))

    def match(self, topic: str) -> tuple[T, ...]:
        """Every value with a filter that matches, once each, in an order that depends only on how they were added."""
        known = self._matches.get(topic)
        if known is None:
            if len(self._matches) >= MOST_MATCHES:
                self._matches = {}
            known = self._matches[topic] = self._matching(topic)
        return known

    def _matching(self, topic: str) -> tuple[T, ...]:
        found: dict[T, None] = {}
        for name in self._names(topic):
            filed = self._filed.get(name, _NOBODY)
            if filed is _NOBODY:
                continue
            if isinstance(filed, dict):
                found.update(filed)
            else:
                found[filed] = None  # type: ignore[index]
        return tuple(found)

    def _names(self, topic: str) -> list[str]:
        """What filters that mean the topic would be called."""
        levels = topic.split("/")
        depth = len(levels)
        return [topic, *(mask.filter_for(levels) for mask in self._masks if mask.depth == depth or mask.rest)]

    def _forget(self, topic_filter: str) -> None:
        """What was found may be no longer true. An exact filter concerns one topic: devices come and go by these."""
        if is_exact(topic_filter):
            self._matches.pop(topic_filter, None)
        else:
            self._matches = {}

    def _let_go(self, mask: _Mask) -> None:
        self._masks[mask] -= 1
        if not self._masks[mask]:
            del self._masks[mask]


class Retained:
    """Retained messages by topic. Filters of a mask that was asked for once are kept with the topics that they mean."""

    def __init__(self) -> None:
        self._payloads: dict[str, bytes] = {}
        self._meant: dict[_Mask, dict[str, dict[str, None]]] = {}

    def get(self, topic: str) -> bytes | None:
        """The message of a topic."""
        return self._payloads.get(topic)

    def put(self, topic: str, payload: bytes) -> None:
        """It is the message of the topic from now on."""
        if topic not in self._payloads:
            for mask, meant in self._meant.items():
                _enter(meant, mask, topic)
        self._payloads[topic] = payload

    def remove(self, topic: str) -> None:
        """There is none any more."""
        if self._payloads.pop(topic, None) is not None:
            levels = topic.split("/")
            for mask, meant in self._meant.items():
                meant.get(mask.filter_for(levels), {}).pop(topic, None)

    def under(self, topic_filter: str) -> tuple[tuple[str, bytes], ...]:
        """Topic and message of all that the filter means, in an order that depends only on how they were put."""
        if is_exact(topic_filter):
            payload = self._payloads.get(topic_filter)
            return () if payload is None else ((topic_filter, payload),)
        mask = _mask_of(topic_filter)
        if mask not in self._meant:
            meant: dict[str, dict[str, None]] = {}
            for topic in self._payloads:
                _enter(meant, mask, topic)
            self._meant[mask] = meant
        return tuple((topic, self._payloads[topic]) for topic in self._meant[mask].get(topic_filter, ()))


def _enter(meant: dict[str, dict[str, None]], mask: _Mask, topic: str) -> None:
    name = mask.filter_for(topic.split("/"))
    if name:
        meant.setdefault(name, {})[topic] = None
