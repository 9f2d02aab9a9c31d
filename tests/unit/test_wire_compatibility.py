"""What a device cannot run is named: what is needed, and what is there."""

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
    disk_free_bytes=1 << 20,
)
NEEDS = RuntimeNeeds(opset=17, operators=("Conv",), min_version="1.16", ram_bytes=1 << 20, flash_bytes=1 << 20)
REDUCED = msgspec.structs.replace(HAVE, operators=("Conv", "com.microsoft::QGemm"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"engine": "tflite"}, "needs engine tflite, this device has onnxruntime"),
        ({"min_version": "1.21"}, "needs onnxruntime 1.21 or later, this device has 1.20.1"),
        ({"opset": 22}, "needs opset 22, this device runs at most 21"),
        ({"operators": ("Conv", "com.microsoft::QLinearAdd", "ai.onnx.ml::Scaler")}, ""),
        (
            {"operators": ("Conv", "acme.audio::Mfcc")},
            "needs operator acme.audio::Mfcc, this device has a full build of onnxruntime without it",
        ),
        ({"accelerator": "cuda"}, "needs accelerator cuda, this device has none"),
        ({"ram_bytes": 1 << 30}, f"needs {1 << 30} bytes of RAM, this device has {512 << 20}"),
        ({"flash_bytes": 2 << 20}, f"needs {2 << 20} bytes of flash, this device has {1 << 20} free"),
    ],
)
def test_each_need_that_is_not_met_is_named(change: dict[str, object], reason: str) -> None:
    """And none when all are."""
    assert unmet_need(msgspec.structs.replace(NEEDS, **change), HAVE) == reason


@pytest.mark.parametrize(
    ("operators", "reason"),
    [
        (("Conv", "com.microsoft::QGemm"), ""),
        (("Conv", "Gemm"), "needs operator Gemm, this device has a build of 2 operators without it"),
        (
            ("com.microsoft::QLinearAdd", "A", "B", "C", "D"),
            "needs operator A, B, C and 2 more, this device has a build of 2 operators without it",
        ),
    ],
)
def test_a_reduced_build_runs_what_it_lists_and_nothing_else(operators: tuple[str, ...], reason: str) -> None:
    """Whatever the opset says, contrib operators included."""
    assert unmet_need(msgspec.structs.replace(NEEDS, operators=operators), REDUCED) == reason


def test_custom_operators_are_for_devices_that_list_them() -> None:
    """Then, and only then, another domain is known."""
    needs = msgspec.structs.replace(NEEDS, operators=("acme.audio::Mfcc",))
    assert unmet_need(needs, HAVE)
    assert unmet_need(needs, msgspec.structs.replace(HAVE, operators=("acme.audio::Mfcc",))) == ""


def test_what_lies_on_the_device_already_needs_no_room() -> None:
    """An attempt that goes on, or a model that is kept as the one before."""
    needs = msgspec.structs.replace(NEEDS, flash_bytes=3 << 20)
    assert unmet_need(needs, HAVE, held_bytes=2 << 20) == ""
    assert "bytes of flash" in unmet_need(needs, HAVE, held_bytes=1 << 20)


def test_versions_are_compared_as_numbers() -> None:
    """1.9 comes before 1.16; suffixes do not count."""
    assert version_tuple("1.9") < version_tuple("1.16")
    assert version_tuple("1.31.1rc2") == (1, 31, 1)


def test_a_version_of_very_many_digits_is_a_version() -> None:
    """A device may report anything: it must not stop the check of everybody else's."""
    assert version_tuple("9" * 6_000 + ".1") == (999_999_999, 1)
    assert version_tuple("1.31.1rc2") == (1, 31, 1)
