"""Documents that Hypothesis makes up: well-formed JSON with one part of a good document replaced, and inventions."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def documents(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Inputs in the manner of `samples`: JSON where they are JSON, else bytes with some of theirs."""
    trees = [tree for tree in map(_tree, samples) if tree is not None]
    pieces = st.sampled_from(samples).flatmap(lambda one: st.integers(0, len(one)).map(lambda end: one[:end]))
    raw = st.binary(max_size=256) | st.tuples(pieces, st.binary(max_size=64)).map(lambda both: both[0] + both[1])
    if not trees:
        return raw
    spots = [(index, path) for index, tree in enumerate(trees) for path in _paths(tree)]
    replaced = st.builds(lambda spot, new: _dump(_with(trees[spot[0]], spot[1], new)), st.sampled_from(spots), JSON)
    return replaced | replaced | replaced | JSON.map(_dump) | raw


def feed(samples: Sequence[bytes], count: int, number: int, take: Callable[[bytes], None]) -> None:
    """Call `take` with `count` generated inputs; the same number gives the same inputs."""

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(documents(samples))
    def one(data: bytes) -> None:
        take(data)

    one()


def _tree(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _paths(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, part in members:
        yield from _paths(part, (*here, name))


def _with(tree: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = tree.copy()
    copy[path[0]] = _with(tree[path[0]], path[1:], new)
    return copy


def _dump(tree: Any) -> bytes:
    """As Python writes it: NaN and infinities stand there by name, lone surrogates as escapes."""
    return json.dumps(tree).encode()
