"""The check that hub and device share: what passes, what fails, and what is not a golden file at all."""

import numpy as np
import pytest
from safetensors.numpy import save

from wire.errors import MalformedError, OversizeError
from wire.golden import MAX_GOLDEN_BYTES, check, parse

EXPECTED = np.array([[4.0, 0.0, -4.0], [-4.0, 4.0, 0.0]], dtype=np.float32)
INPUTS = np.zeros((2, 3), dtype=np.float16)


def test_equal_logits_pass() -> None:
    """The device that computes what the hub did is proven."""
    verdict = check(EXPECTED, EXPECTED.copy(), 0.0)
    assert (verdict.passed, verdict.worst, verdict.reason) == (True, 0.0, "")


def test_the_tolerance_is_a_share_of_the_range() -> None:
    """Logits from -4 to 4: a difference of 0.08 is one hundredth."""
    assert check(EXPECTED, EXPECTED + np.float32(0.08), 0.0101).passed
    refused = check(EXPECTED, EXPECTED + np.float32(0.08), 0.0099)
    assert not refused.passed
    assert "0.01 of the range" in refused.reason


def test_another_class_fails_whatever_the_tolerance() -> None:
    """Close logits that name another class are a wrong model."""
    expected = np.array([[1.0, 1.001]], dtype=np.float32)
    verdict = check(expected, expected[:, ::-1].copy(), 10.0)
    assert "1 of 1 golden inputs get another class" in verdict.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_fail(bad: float) -> None:
    """A runtime that computes NaN is refused, though NaN compares as neither above nor below a tolerance."""
    actual = EXPECTED.copy()
    actual[1, 2] = bad
    assert check(EXPECTED, actual, 1.0).reason == "logits that are not finite"


def test_another_shape_fails() -> None:
    """One row too few must not be broadcast."""
    assert "shape (1, 3)" in check(EXPECTED, EXPECTED[:1], 1.0).reason


def test_a_golden_file_is_read_with_inputs_as_float32() -> None:
    """They travel as float16 and are fed as float32."""
    golden = parse(save({"inputs": INPUTS, "logits/int8": EXPECTED}))
    assert golden.inputs.dtype == np.float32
    assert golden.logits["logits/int8"].tolist() == EXPECTED.tolist()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not safetensors", "golden vectors"),
        (save({"logits/int8": EXPECTED}), "'inputs'"),
        (save({"inputs": INPUTS.astype(np.float32)}), "'inputs'"),
        (save({"inputs": INPUTS, "logits/int8": EXPECTED[:1]}), "'logits/int8'"),
        (save({"inputs": INPUTS, "surprise": EXPECTED}), "'surprise'"),
        (save({"inputs": INPUTS, "logits/int8": EXPECTED.astype(np.float64)}), "'logits/int8'"),
    ],
)
def test_what_is_not_a_golden_file_is_refused_with_its_reason(data: bytes, said: str) -> None:
    """The device says what is wrong with the bytes it got."""
    with pytest.raises(MalformedError, match=said):
        parse(data)


def test_an_oversize_file_is_refused_before_it_is_parsed() -> None:
    """Its length alone is enough."""
    with pytest.raises(OversizeError, match="at most"):
        parse(b"\0" * (MAX_GOLDEN_BYTES + 1))
