"""What lies beyond the reach of a key does not exist for it: the same answers as for what is not there."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, true

from cloud.core.reach import Reach
from cloud.errors import ForbiddenError, UnknownError


def within(
    reach: Reach, *, model: ColumnElement[Any] | None = None, labels: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    """Condition on rows with a `model` and, as JSON, the `labels` of a device or a selector."""
    clauses: list[ColumnElement[bool]] = [true()]
    if reach.models and model is not None:
        clauses.append(model.in_(sorted(reach.models)))
    if labels is not None:
        clauses += [labels[name].as_string() == value for name, value in sorted(reach.labels.items())]
    return and_(*clauses)


def device_in(reach: Reach, name: str, labels: Mapping[str, str]) -> None:
    """Raises UnknownError when there is no such device for this key."""
    if not reach.covers_labels(labels):
        raise UnknownError(f"there is no device {name!r}")


def model_in(reach: Reach, model: str) -> None:
    """Raises UnknownError when there is no such model for this key."""
    if not reach.covers_model(model):
        raise UnknownError(f"there is no model {model!r}")


def selector_in(reach: Reach, selector: Mapping[str, str]) -> None:
    """Raises ForbiddenError when a device with these labels, or one that the selector matches, could lie beyond."""
    if not reach.covers_labels(selector):
        raise ForbiddenError(f"this key reaches only devices with {dict(reach.labels)}: labels or selector must say so")
