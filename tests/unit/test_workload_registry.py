"""Workloads are found by name, and what cannot be found says why."""

import pytest

from workloads.base import WorkloadError
from workloads.registry import load_workload


def test_the_shipped_workload_has_a_short_name() -> None:
    """`watch` is the one the demo uses."""
    assert load_workload("watch").name == "watch"


def test_a_workload_of_ones_own_is_named_by_module_and_attribute() -> None:
    """The same object by its long name."""
    assert load_workload("workloads.watch:WATCH") is load_workload("watch")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("wach", r"no workload 'wach': use one of \['watch'\]"),
        ("no.such.module:THING", "cannot import 'no'"),
        ("workloads.watch:NOTHING", "has no 'NOTHING'"),
        ("math:pi", "lacks name, about, input_shape"),
    ],
)
def test_a_bad_reference_says_what_is_wrong_with_it(reference: str, said: str) -> None:
    """A typing error in a configuration file must be found in seconds."""
    with pytest.raises(WorkloadError, match=said):
        load_workload(reference)
