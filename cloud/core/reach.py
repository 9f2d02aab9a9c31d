"""How far an API key reaches: some devices, some models, or everything. What lies beyond does not exist for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reach:
    """Devices that carry all of `labels`, and `models`. Empty means no bound."""

    labels: Mapping[str, str] = field(default_factory=dict)
    models: frozenset[str] = frozenset()

    @property
    def bounded(self) -> bool:
        """Is there anything that it does not reach?"""
        return bool(self.labels or self.models)

    def covers_labels(self, labels: Mapping[str, str]) -> bool:
        """Does it reach a device with these labels? And, for a selector: everything that the selector can match?"""
        return all(labels.get(name) == value for name, value in self.labels.items())

    def covers_model(self, model: str) -> bool:
        """Does it reach this model?"""
        return not self.models or model in self.models


EVERYTHING = Reach()
