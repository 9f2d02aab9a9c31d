"""Trust metadata under fire: python-tuf's own steps, as the installer child takes them, and its whole judgement.

The steps take some tenths of a millisecond, the whole several milliseconds: it lays files out, verifies everything, and
takes in what is to be held.
"""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from bench.fuzzing import samples as good
from bench.fuzzing.assault import Parser
from edge_agent.core.trust import Judgement, Question
from edge_agent.judging import judge
from simulator.core.clock import EPOCH_NS
from simulator.fakes.tuf_repository import TufRepository
from wire.asks import AskMetadata, MetadataPiece
from wire.codec import encode
from wire.ports import SECOND
from wire.trust import bin_of, target_path

PATH: Final = target_path(good.RELEASE.model, good.RELEASE.version)
JUDGED_SHARE: Final = 0.005


class Served:
    """A repository with two versions of everything: the first is trusted, the second is what is damaged."""

    def __init__(self) -> None:
        repository = TufRepository(("d7" * 32,), EPOCH_NS)
        self.root = repository.root
        self.before = dict(repository.files)
        repository.publish(encode(good.RELEASE))
        repository.rotate()
        repository.sign_targets()
        repository.refresh()
        self.files = dict(repository.files)
        self.bin = bin_of(PATH)
        self.names = (
            "2.root.json",
            "timestamp.json",
            *(self._newest(role) for role in ("snapshot", "targets", self.bin)),
        )
        honest = self.judged({})
        assert honest.targets, honest.refusal
        self.honest = honest

    def judged(self, changed: dict[str, bytes]) -> Judgement:
        """The child's judgement where some files are others."""
        files = {**self.files, **changed}

        def fetch(ask: AskMetadata) -> MetadataPiece:
            data = files.get(ask.name, b"")[ask.offset :]
            return MetadataPiece(found=bool(data), total=ask.offset + len(data), offset=ask.offset, data=data)

        with tempfile.TemporaryDirectory(prefix="fleetloop-fuzz-") as folder:
            return judge(Question(root=self.root, now_ns=EPOCH_NS, paths=(PATH,)), fetch, Path(folder, "work"))

    def sound(self, judgement: Judgement) -> bool:
        """Refused with a reason, or the very truth."""
        if judgement.refusal:
            return not judgement.targets
        return judgement.targets == self.honest.targets and judgement.directors == self.honest.directors

    def _newest(self, role: str) -> str:
        return max(
            (name for name in self.files if name.endswith(f".{role}.json")), key=lambda name: int(name.split(".")[0])
        )


class Steps:
    """Takes the damaged file for what it says it is; what was trusted before must not change by what is refused."""

    def __init__(self, served: Served) -> None:
        self._served = served
        roles = ("root", "timestamp", "snapshot", "targets", served.bin)
        self._steps = dict(zip(roles, served.names, strict=True))
        self._ready = {role: self._prepared(role) for role in roles}

    def take(self, data: bytes) -> tuple[str, Any]:
        """Role and what was taken. Raises RepositoryError."""
        role = next((one for one in ("timestamp", "snapshot", "root") if b'"_type":"%s"' % one.encode() in data), "")
        role = role or ("targets" if b"succinct_roles" in data else self._served.bin)
        trusted = self._ready[role]
        held = len(trusted)
        try:
            taken = _update(trusted, role, data)
        except RepositoryError:
            assert len(trusted) == held, "something was taken on the way to a refusal"
            raise
        self._ready[role] = self._prepared(role)
        return role, taken

    def sound(self, outcome: tuple[str, Any]) -> bool:
        """Only what was signed is taken."""
        role, taken = outcome
        return bool(taken == _update(self._prepared(role), role, self._served.files[self._steps[role]]))

    def _prepared(self, role: str) -> TrustedMetadataSet:
        """Everything that comes before this role."""
        trusted = TrustedMetadataSet(self._served.root, EnvelopeType.METADATA)
        trusted.reference_time = datetime.fromtimestamp(EPOCH_NS / SECOND, UTC)
        for earlier, name in self._steps.items():
            if earlier == role:
                break
            _update(trusted, earlier, self._served.files[name])
        return trusted


def _update(trusted: TrustedMetadataSet, role: str, data: bytes) -> Any:
    steps: dict[str, Callable[[bytes], Any]] = {
        "root": trusted.update_root,
        "timestamp": trusted.update_timestamp,
        "snapshot": trusted.update_snapshot,
        "targets": trusted.update_targets,
    }
    step = steps.get(role) or partial(trusted.update_delegated_targets, role_name=role, delegator_name="targets")
    return step(data)


def trust_parsers() -> tuple[Parser, ...]:
    """The steps, the whole, and the record of what is held."""
    served = Served()
    steps = Steps(served)
    samples = tuple(served.files[name] for name in served.names)

    def whole(data: bytes) -> Judgement:
        """In place of each file in turn."""
        return served.judged({served.names[len(data) % len(served.names)]: data})

    return (
        Parser("trust metadata", samples, steps.take, (RepositoryError,), steps.sound),
        Parser("trust judgement", samples, whole, (), served.sound, weight=JUDGED_SHARE),
    )
