"""Histograms: quantiles are right to the width of a bucket, and merging equals observing together."""

import math

import pytest

from wire.histogram import bucket, merge, quantile


def counts(values: list[float]) -> dict[int, int]:
    """Histogram of `values`."""
    out: dict[int, int] = {}
    for value in values:
        out[bucket(value)] = out.get(bucket(value), 0) + 1
    return out


@pytest.mark.parametrize("value", [1.0, 7.5, 42.0, 1_000.0, 123_456.0])
def test_median_is_within_five_percent(value: float) -> None:
    """The middle of a nine-percent bucket is at most half of that away."""
    assert quantile(counts([value]), 0.5) == pytest.approx(value, rel=0.05)


def test_quantiles_follow_the_order_of_values() -> None:
    """Of ninety fast and ten slow, the median is fast and the 95th percentile slow."""
    mixed = counts([100.0] * 90 + [10_000.0] * 10)
    assert quantile(mixed, 0.5) == pytest.approx(100, rel=0.05)
    assert quantile(mixed, 0.95) == pytest.approx(10_000, rel=0.05)


def test_merge_adds_up_and_empty_has_no_quantile() -> None:
    """Two halves make the whole."""
    assert merge(counts([1, 2]), counts([2, 3])) == counts([1, 2, 2, 3])
    assert math.isnan(quantile({}, 0.5))
