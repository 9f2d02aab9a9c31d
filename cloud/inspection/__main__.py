"""`python -m cloud.inspection FILE`: bounds itself, judges the file, and prints the verdict as one line of JSON."""

import resource
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from cloud.inspection import safetensors_file, tflite_file
from cloud.inspection.disguise import refuse_disguised
from cloud.inspection.refusal import RefusedError
from wire.adapters.parent import end_with_parent

LIMITS: Final = {
    resource.RLIMIT_AS: 2 * 1024**3,
    resource.RLIMIT_CPU: 30,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 64,
}
"""Bytes of address space, seconds of processor time, bytes of any file written, open files."""


def main(path: str) -> None:
    """Print {"kind", "facts", "refusal"}."""
    end_with_parent()
    for limit, most in LIMITS.items():
        resource.setrlimit(limit, (most, most))
    sys.stdout.buffer.write(msgspec.json.encode(_verdict(path)) + b"\n")


def _verdict(path: str) -> dict[str, Any]:
    try:
        kind, facts = judged(Path(path).read_bytes())
    except RefusedError as error:
        return {"kind": None, "facts": {}, "refusal": str(error)}
    except (MemoryError, RecursionError) as error:
        return {"kind": None, "facts": {}, "refusal": f"reading it takes more than there is: {type(error).__name__}"}
    return {"kind": kind, "facts": facts, "refusal": ""}


def judged(data: bytes) -> tuple[str, dict[str, Any]]:
    """Kind and description. Raises RefusedError."""
    if not data:
        raise RefusedError("it is empty")
    refuse_disguised(data)
    if tflite_file.is_tflite(data):
        return "tflite", tflite_file.describe(data)
    if safetensors_file.is_safetensors(data):
        return "safetensors", safetensors_file.describe(data)
    from cloud.inspection import onnx_graph  # takes a second to import

    return "onnx", onnx_graph.describe(data)


if __name__ == "__main__":
    main(sys.argv[1])
