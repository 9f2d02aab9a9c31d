"""Versions made elsewhere: their files were uploaded as artefacts, and whoever made them says the rest.

What can be read from the files is read from them (operators, opset, shapes); what was measured elsewhere is marked as
such, so the publisher signs it only when a person approves. From there on it is a version like any other.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from cloud.errors import ConflictError, InvalidError, UnavailableError
from cloud.ports import ObjectMissingError, Objects, ObjectStoreError, Store
from cloud.service import artefacts, audit, registry
from cloud.service.effects import NOTHING, Change, Effects
from cloud.service.registry import Built, Numbers
from wire.codec import encode
from wire.ports import Ids
from wire.release import (
    Candidate,
    Companions,
    Golden,
    Learning,
    Lineage,
    ModelCard,
    ObjectRef,
    Release,
    RuntimeNeeds,
    Tensor,
    Variant,
    object_ref,
)

ENGINES = {"onnx": "onnxruntime", "tflite": "litert"}
"""Kind of artefact -> engine that runs it."""
INPUT, OUTPUT = "x", "logits"
"""Names of what goes into a model and comes out of it on a device."""
PARENT = "fp32"
IMPORTED = "import:"
"""What the maker's own run id follows in the place of a job."""


@dataclass(frozen=True, slots=True)
class NewVariant:
    """One deployable file. `logits`: the tensor of the golden file that it must reproduce to within `tolerance`."""

    name: str
    precision: str
    sha256: str
    logits: str
    tolerance: float
    ram_bytes: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What the maker says. Files are named by the digests of their artefacts; `source` is the maker's own run id."""

    model: str
    workload: str
    source: str
    title: str
    intended_use: str
    licence: str
    data_sha256: str
    seed: int
    software: Mapping[str, str]
    classes: tuple[str, ...]
    parent: str
    variants: tuple[NewVariant, ...]
    golden: str
    parameters: str
    train_step: str | None = None
    eval: str | None = None
    batch: int | None = None
    parent_version: int | None = None

    def files(self) -> tuple[tuple[str, str], ...]:
        """(kind wanted, digest) of every file; "" = any model."""
        graphs = [one for one in (self.train_step, self.eval) if one is not None]
        return (
            ("onnx", self.parent),
            *(("", one.sha256) for one in self.variants),
            *(("safetensors", one) for one in (self.golden, self.parameters)),
            *(("onnx", one) for one in graphs),
        )


class _NumberTakenError(Exception):
    """Another version got this number first; nothing of the transaction stays."""


class Imports:
    """Enters versions that were made elsewhere."""

    def __init__(self, store: Store, objects: Objects, ids: Ids) -> None:
        self._store = store
        self._objects = objects
        self._ids = ids

    async def enter(self, new: NewVersion, actor: str, change: Change) -> int:
        """Enter the version by means of `change` and ask for its signature; returns its number.

        Raises:
            InvalidError: a file was not uploaded, is of the wrong kind, or does not fit the others.
            ConflictError: the model belongs to another workload. UnavailableError: an object cannot be read or stored.
        """
        rows = await self._store.read(lambda conn: _uploaded(conn, new))
        _check(new, rows)
        try:
            refs = {sha256: object_ref(await self._objects.get(sha256)) for sha256 in rows}
            while True:
                built = await self._built(new, rows, refs)
                with contextlib.suppress(_NumberTakenError):  # then the next one is free
                    await change(partial(_enter, built=built, actor=actor))
                    return built.release.version
        except (ObjectMissingError, ObjectStoreError) as error:
            raise UnavailableError(str(error)) from error

    async def _built(self, new: NewVersion, rows: Mapping[str, Row[Any]], refs: Mapping[str, ObjectRef]) -> Built:
        numbers = await self._store.read(lambda conn: registry.next_numbers(conn, new.model))
        card = _card(new, numbers, refs)
        card_bytes = encode(card)
        await self._objects.put(card_bytes)
        release = _release(new, numbers, rows, refs, object_ref(card_bytes))
        return Built(release, card, new.variants[0].name, _report(new, refs), self._ids.new())


def _enter(conn: Connection, now_ns: int, *, built: Built, actor: str) -> Effects:
    model, lineage = built.release.model, built.card.lineage
    registry.add_model(conn, model, lineage.workload, now_ns)
    known = registry.version_of_job(conn, lineage.job)
    if known is not None:
        raise ConflictError(f"{lineage.job} was entered already, as version {known}: give each run its own id")
    if not registry.enter(conn, built, now_ns):
        raise _NumberTakenError
    audit.record(conn, now_ns, actor, ("version.import", f"{model}/{built.release.version}"), source=lineage.job)
    return NOTHING


def _uploaded(conn: Connection, new: NewVersion) -> dict[str, Row[Any]]:
    rows = {}
    for kind, sha256 in new.files():
        row = artefacts.find(conn, sha256)
        if row is None:
            raise InvalidError(f"there is no artefact {sha256}: upload the file first")
        if kind and row.kind != kind:
            raise InvalidError(f"artefact {sha256} is {row.kind}; {kind} is wanted there")
        rows[sha256] = row
    if new.parent_version is not None and not registry.exists(conn, new.model, new.parent_version):
        raise InvalidError(f"{new.model} has no version {new.parent_version} to be the parent")
    return rows


def _check(new: NewVersion, rows: Mapping[str, Row[Any]]) -> None:
    """What would fail on every device is told here."""
    golden = {one["name"] for one in rows[new.golden].facts["tensors"]}
    for name in ("inputs", *(variant.logits for variant in new.variants)):
        if name not in golden:
            raise InvalidError(f"the golden file {new.golden[:12]} has no tensor {name!r}")
    for sha256 in (new.parent, *(variant.sha256 for variant in new.variants)):
        row = rows[sha256]
        if row.kind not in ENGINES:
            raise InvalidError(f"artefact {sha256} is {row.kind}, which no device can run: ONNX or TFLite is wanted")
        if row.kind == "onnx":
            _check_border(sha256, "input", INPUT, row.facts["inputs"])
            _check_border(sha256, "output", OUTPUT, row.facts["outputs"])
    if (new.train_step is None) != (new.batch is None) or (new.train_step is None) != (new.eval is None):
        raise InvalidError("train_step, eval and batch go together: give all of them or none")
    names = [variant.name for variant in new.variants]
    if len(set(names)) < len(names):
        raise InvalidError("two variants have the same name")
    if any(variant.name == PARENT and variant.sha256 != new.parent for variant in new.variants):
        raise InvalidError(f"the variant {PARENT!r} is the parent file, or has another name")


def _check_border(sha256: str, what: str, name: str, there: Iterable[Mapping[str, Any]]) -> None:
    found = [one["name"] for one in there]
    if name not in found:
        raise InvalidError(f"the model {sha256[:12]} has no {what} {name!r}, only {', '.join(map(repr, found[:5]))}")


def _card(new: NewVersion, numbers: Numbers, refs: Mapping[str, ObjectRef]) -> ModelCard:
    made = (
        Candidate(name=one.name, bytes=refs[one.sha256].bytes, kept=True, metrics=dict(one.metrics))
        for one in new.variants
    )
    return ModelCard(
        model=new.model,
        version=numbers.version,
        title=new.title,
        intended_use=new.intended_use,
        licence=new.licence,
        lineage=Lineage(
            workload=new.workload,
            data_sha256=new.data_sha256,
            job=IMPORTED + new.source,
            parent_version=new.parent_version,
            seed=new.seed,
        ),
        metrics=dict(new.variants[0].metrics),
        candidates=tuple(made),
        software=dict(new.software),
    )


def _release(
    new: NewVersion,
    numbers: Numbers,
    rows: Mapping[str, Row[Any]],
    refs: Mapping[str, ObjectRef],
    card: ObjectRef,
) -> Release:
    shape = next(one["shape"] for one in rows[new.parent].facts["inputs"] if one["name"] == INPUT)
    tensors = rows[new.parameters].facts["tensors"]
    learning = tuple(Tensor(name=one["name"], shape=tuple(one["shape"])) for one in tensors)
    return Release(
        model=new.model,
        version=numbers.version,
        counter=numbers.counter,
        input=Tensor(name=INPUT, shape=tuple(shape)),
        classes=new.classes,
        parent=refs[new.parent],
        variants=tuple(_variant(one, rows[one.sha256], refs, refs[new.golden]) for one in new.variants),
        companions=Companions(
            golden=refs[new.golden],
            parameters=refs[new.parameters],
            train_step=None if new.train_step is None else refs[new.train_step],
            eval=None if new.eval is None else refs[new.eval],
        ),
        learning=None if new.batch is None else Learning(batch=new.batch, parameters=learning),
        card=card,
    )


def _variant(new: NewVariant, row: Row[Any], refs: Mapping[str, ObjectRef], golden: ObjectRef) -> Variant:
    needs = RuntimeNeeds(
        engine=ENGINES[row.kind],
        opset=row.facts.get("opset", 0),
        operators=tuple(row.facts["operators"]),
        ram_bytes=new.ram_bytes,
        flash_bytes=row.bytes + golden.bytes,
    )
    return Variant(
        name=new.name,
        precision=new.precision,
        file=refs[new.sha256],
        needs=needs,
        golden=Golden(logits=new.logits, tolerance=new.tolerance),
        metrics=dict(new.metrics),
    )


def _report(new: NewVersion, refs: Mapping[str, ObjectRef]) -> dict[str, Any]:
    """What the publisher sees: `kind` says that none of it was measured here."""
    parent: tuple[str, dict[str, float]] = (new.parent, {})
    files = {PARENT: parent, **{one.name: (one.sha256, dict(one.metrics)) for one in new.variants}}
    return {
        "kind": "import",
        "parent": PARENT,
        "chosen": new.variants[0].name,
        "candidates": [
            {
                "name": name,
                "accepted": True,
                "reasons": [],
                "model": {"file": name, "sha256": sha256, "bytes": refs[sha256].bytes},
                "metrics": metrics,
            }
            for name, (sha256, metrics) in files.items()
        ],
        "federated": None,
        "source": new.source,
    }
