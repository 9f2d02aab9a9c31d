"""`python -m bench.attack_cases.daemon FOLDER LIMIT_S child|inline`: stands for the daemon, which may die of a model.

It tries the model in FOLDER as the agent does, in a child, or as it must not be done: in its own process.
"""

import asyncio
import sys

from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.canary import CanaryOrder, attempt
from edge_agent.ports import CanaryRequest


def main(folder: str, limit_s: str, how: str) -> None:
    """Print the reason why the model is refused; an empty one when it passes."""
    if how == "inline":
        paths = {"model": f"{folder}/model", "golden": f"{folder}/golden"}
        reason = attempt(CanaryOrder(**paths, logits="logits/fp32", tolerance=0.01)).reason
    else:
        request = CanaryRequest("model", "golden", "logits/fp32", 0.01, float(limit_s))
        reason = asyncio.run(ChildInstaller(lambda path: f"{folder}/{path}").canary(request)).reason
    print(reason)


if __name__ == "__main__":
    main(*sys.argv[1:])
