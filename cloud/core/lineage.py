"""Where a version came from and what became of it, as a graph: data -> training run -> candidate -> variant -> rollout
-> federated run -> the next training run, and so on.

What is made by content is named by content, so the same work has the same id on every hub: data, training runs (a
digest of everything that goes in), candidates, variants. What people order is named as they ordered it: versions,
rollouts, federated runs. A model's *lineage* is the id of the training run that its first ancestor came from.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ID_DIGITS: Final = 32


class Kind(StrEnum):
    """What a node stands for. The strings begin its id."""

    DATA = "data"
    RUN = "run"
    CANDIDATE = "candidate"
    VARIANT = "variant"
    VERSION = "version"
    ROLLOUT = "rollout"
    FEDERATED = "federated"


@dataclass(frozen=True, slots=True)
class Node:
    """`id` = kind:name; `facts` are for people."""

    id: str
    kind: Kind
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` went into `target`, in the way that `role` says."""

    source: str
    target: str
    role: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by id, and edges without repetition, both in order."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """A candidate that was measured. `sha256` is empty for one that could not be made."""

    name: str
    sha256: str
    kept: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What the registry knows of a version's making. `start`: what went in beside data, seed and software, e.g. the
    digest of the parameters that devices have learnt; empty for a training run."""

    model: str
    version: int
    stage: str
    workload: str
    data_sha256: str
    seed: int
    software: Mapping[str, str]
    start: str
    job: str
    parent_version: int | None
    federated_run: str | None
    candidates: tuple[CandidateFacts, ...]
    variants: Mapping[str, str]
    """Name -> digest of what was shipped."""

    @property
    def node(self) -> str:
        """Id of its node."""
        return version_node(self.model, self.version)


@dataclass(frozen=True, slots=True)
class UseFacts:
    """A rollout or a federated run, and the version that it took."""

    kind: Kind
    id: str
    model: str
    version: int
    state: str
    variant: str = ""
    """Of a rollout that ships only this one."""


def version_node(model: str, version: int) -> str:
    """Id of a version's node."""
    return f"{Kind.VERSION}:{model}/{version}"


def run_id(facts: VersionFacts) -> str:
    """The same for the same work: a digest of all that a training run or derivation starts from."""
    parts = [facts.workload, facts.data_sha256, facts.seed, sorted(facts.software.items()), facts.start]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:ID_DIGITS]


def lineage_id(versions: Iterable[VersionFacts], model: str, version: int) -> str:
    """The training run that the version's first ancestor came from. Raises KeyError when there is no such version."""
    known = {(one.model, one.version): one for one in versions}
    here = known[model, version]
    while here.parent_version is not None and (model, here.parent_version) in known:
        here = known[model, here.parent_version]
    return run_id(here)


def build(versions: Iterable[VersionFacts], uses: Iterable[UseFacts]) -> Graph:
    """The whole graph."""
    nodes: dict[str, Node] = {}
    edges: dict[Edge, None] = {}
    versions = tuple(versions)
    for one in versions:
        for item in _of_version(one):
            if isinstance(item, Edge):
                edges[item] = None
            else:
                nodes.setdefault(item.id, item)
    shipped = {(one.model, one.version): one.variants for one in versions}
    for use in uses:
        node = Node(f"{use.kind}:{use.id}", use.kind, {"state": use.state})
        nodes.setdefault(node.id, node)
        edges[Edge(version_node(use.model, use.version), node.id, "used by")] = None
        for name, sha256 in shipped.get((use.model, use.version), {}).items():
            if use.kind is Kind.ROLLOUT and use.variant in ("", name):
                edges[Edge(f"{Kind.VARIANT}:{sha256}", node.id, "shipped by")] = None
    there = [edge for edge in edges if edge.source in nodes and edge.target in nodes]
    return Graph(tuple(nodes.values()), tuple(there))


def around(graph: Graph, node: str) -> Graph:
    """What went into `node`, and what it went into, at whatever distance. Empty when there is no such node."""
    forward, backward = defaultdict(list), defaultdict(list)
    for edge in graph.edges:
        forward[edge.source].append(edge.target)
        backward[edge.target].append(edge.source)
    kept = _reached(node, forward) | _reached(node, backward)
    return Graph(
        tuple(one for one in graph.nodes if one.id in kept),
        tuple(edge for edge in graph.edges if edge.source in kept and edge.target in kept),
    )


def _reached(start: str, next_ones: Mapping[str, list[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        for one in next_ones.get(waiting.pop(), ()):
            if one not in found:
                found.add(one)
                waiting.append(one)
    return found


def _of_version(facts: VersionFacts) -> Iterator[Node | Edge]:
    data, run = f"{Kind.DATA}:{facts.data_sha256}", f"{Kind.RUN}:{run_id(facts)}"
    yield Node(data, Kind.DATA, {"workload": facts.workload})
    yield Node(run, Kind.RUN, {"job": facts.job, "seed": facts.seed, "software": dict(facts.software)})
    yield Node(facts.node, Kind.VERSION, {"stage": facts.stage})
    yield Edge(data, run, "trained on" if facts.federated_run is None else "calibrated with")
    if facts.federated_run is not None:
        yield Edge(f"{Kind.FEDERATED}:{facts.federated_run}", run, "learned by")
    for one in facts.candidates:
        yield from _of_candidate(one, run, facts)


def _of_candidate(one: CandidateFacts, run: str, facts: VersionFacts) -> Iterator[Node | Edge]:
    candidate = f"{Kind.CANDIDATE}:{one.sha256 or run.partition(':')[2] + '/' + one.name}"
    yield Node(candidate, Kind.CANDIDATE, {"name": one.name, "kept": one.kept, "reasons": list(one.reasons)})
    yield Edge(run, candidate, "made")
    sha256 = facts.variants.get(one.name)
    if sha256 is not None:
        variant = f"{Kind.VARIANT}:{sha256}"
        yield Node(variant, Kind.VARIANT, {"name": one.name})
        yield Edge(candidate, variant, "passed its gates as")
        yield Edge(variant, facts.node, "part of")
