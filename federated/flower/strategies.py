"""Finding a strategy by name: any class of `flwr.serverapp.strategy`, unmodified."""

import flwr.serverapp.strategy as flower_strategies
from flwr.serverapp.strategy import Strategy

from federated.spec import Spec
from wire.errors import MalformedError


def make_strategy(spec: Spec) -> Strategy:
    """The strategy that the specification names.

    Raises:
        MalformedError: Flower has no such strategy, or it does not take these arguments.
    """
    kind = getattr(flower_strategies, spec.strategy, None)
    if spec.strategy.startswith("_") or not isinstance(kind, type) or not issubclass(kind, Strategy):
        raise MalformedError(f"flwr.serverapp.strategy has no strategy {spec.strategy!r}")
    try:
        strategy: Strategy = kind(**spec.strategy_kwargs)
    except (TypeError, ValueError) as error:
        raise MalformedError(f"{spec.strategy}: {error}") from error
    return strategy
