"""Something of the programs is another for a while: so a proof takes a guard away, or puts a bug in.

Nothing in the programs knows of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, **substitutes: object) -> Iterator[None]:
    """Attributes of `owner` are others for a while."""
    before = {name: _own(owner, name) for name in substitutes}
    for name, substitute in substitutes.items():
        setattr(owner, name, substitute)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def together(*managers: AbstractContextManager[object]) -> Iterator[None]:
    """Several substitutions at once."""
    with ExitStack() as stack:
        for one in managers:
            stack.enter_context(one)
        yield


def _own(owner: Any, name: str) -> object:
    """As it stands in a class: a function looked up through it would lose its `staticmethod`."""
    attributes: Mapping[str, object] = vars(owner)
    return attributes[name] if name in attributes else getattr(owner, name)
