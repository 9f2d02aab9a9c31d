"""A version that was made elsewhere: its files, and what whoever made it says of it."""

import hashlib
from typing import Any

import numpy as np

from tests.samples.model_files import onnx_model, safetensors
from tests.worlds.api_world import Api

FILES = {
    "parent": onnx_model(),
    "golden": safetensors(inputs=np.zeros((4, 2), np.float16), **{"logits/fp32": np.zeros((4, 3), np.float32)}),
    "parameters": safetensors(),
}
DIGESTS = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def order(**changes: Any) -> dict[str, Any]:
    """A version whose only variant is its parent."""
    variant = {
        "name": "fp32", "precision": "fp32", "sha256": DIGESTS["parent"], "logits": "logits/fp32", "tolerance": 0.001,
        "metrics": {"accuracy": 0.9},
    }  # fmt: skip
    body = {
        "workload": "elsewhere", "source": "ci/4711", "title": "Imported", "licence": "MIT", "data_sha256": "d" * 64,
        "classes": ["a", "b", "c"], "variants": [variant], **DIGESTS,
    }  # fmt: skip
    return body | changes


async def upload(call: Api) -> None:
    """Every file."""
    for name, data in FILES.items():
        headers = {"Authorization": "Bearer flk_operator"}
        answer = await call.http.put(f"/api/v1/artefacts/{DIGESTS[name]}", content=data, headers=headers)
        assert answer.status_code == 201, answer.text
