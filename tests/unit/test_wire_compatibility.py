"""What a device cannot run is named."""

import msgspec
import pytest

from wire.compatibility import unmet_need, version_tuple
from wire.messages import Capabilities
from wire.release import RuntimeNeeds

HAVE = Capabilities(
    engines={"onnxruntime": "1.20.1"},
    max_opset=21,
    machine="aarch64",
    python="3.11",
    ram_bytes=512 << 20,
    disk_free_bytes=1 << 30,
)
NEEDS = RuntimeNeeds(opset=17, operators=("Conv",), min_version="1.16", ram_bytes=1 << 20)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"engine": "tflite"}, "needs engine tflite, this device has onnxruntime"),
        ({"min_version": "1.21"}, "needs onnxruntime 1.21 or later, this device has 1.20.1"),
        ({"opset": 22}, "needs opset 22, this device runs at most 21"),
        ({"ram_bytes": 1 << 30}, "bytes of RAM"),
    ],
)
def test_each_need_that_is_not_met_is_named(change: dict[str, object], reason: str) -> None:
    """And none when all are."""
    problem = unmet_need(msgspec.structs.replace(NEEDS, **change), HAVE)
    assert reason in problem
    assert bool(problem) == bool(reason)


def test_versions_are_compared_as_numbers() -> None:
    """1.9 comes before 1.16; suffixes do not count."""
    assert version_tuple("1.9") < version_tuple("1.16")
    assert version_tuple("1.31.1rc2") == (1, 31, 1)
