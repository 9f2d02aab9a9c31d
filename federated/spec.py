"""The specification of one federated run: what the hub writes for `python -m federated.aggregator SPEC.json`."""

from typing import Annotated

import msgspec

from wire.codec import SCHEMA, Document
from wire.federated import Scalar
from wire.identity import Broker
from wire.release import Name

MAX_SPEC_BYTES = 256 * 1024 * 1024
"""The hub itself writes it, and names every device that may take part, with its labels: up to some kilobytes each."""


class Login(Document, frozen=True, kw_only=True):
    """Who the aggregator is on the broker: by password, or by certificate and key (PEM)."""

    username: str = "aggregator"
    password: str = ""
    client_id: str = ""
    """Empty = the username."""
    certificate: str = ""
    key: str = ""


class Participant(Document, frozen=True, kw_only=True):
    """A device that may take part. Labels travel into the result, for the gates to group by."""

    name: Name
    labels: dict[str, str] = {}


class Tolerances(Document, frozen=True, kw_only=True):
    """What a run puts up with. Times in seconds."""

    step_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """How long the devices have for one training or evaluation."""
    gather_s: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    """How long a step waits for devices that are not online yet, before it starts without them."""
    offline_grace_s: Annotated[float, msgspec.Meta(ge=0)] = 15.0
    resend_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    quorum: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Least number of accepted answers for a step to count."""
    attempts: Annotated[int, msgspec.Meta(ge=1)] = 3
    max_examples: Annotated[int, msgspec.Meta(ge=1)] = 100_000
    max_update_ratio: Annotated[float, msgspec.Meta(gt=0)] = 10.0


class Spec(Document, frozen=True, kw_only=True):
    """One federated run."""

    schema: int = SCHEMA
    run: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
    model: Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    """The released version whose fp32 parent learns."""
    devices: Annotated[tuple[Participant, ...], msgspec.Meta(min_length=1)]
    strategy: str = "FedAvgM"
    """A class of flwr.serverapp.strategy."""
    strategy_kwargs: dict[str, Scalar] = {}
    rounds: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    evaluate_every: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Federated evaluation after every n-th round; 0 = only before the first and after the last."""
    train_config: dict[str, Scalar]
    """For the devices: local-epochs, lr, momentum, seed."""
    seed: int = 0
    """Of everything the strategy draws: node sampling, noise."""
    parameters: str
    """Path of the starting parameters (safetensors)."""
    order: tuple[str, ...]
    """Names of the parameters, in the order of the release."""
    broker: Broker
    login: Login = Login()
    topic_root: str
    run_directory: str
    tolerances: Tolerances = Tolerances()
