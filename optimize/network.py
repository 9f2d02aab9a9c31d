"""Between a torch network and plain arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn


def arrays(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """The trainable parameters by name, as copies, in the order of `named_parameters`. Buffers are not among them."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.named_parameters()}
