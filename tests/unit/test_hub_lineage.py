"""The lineage graph: what is named by content, and what hangs together."""

from dataclasses import replace
from itertools import pairwise

from cloud.core.lineage import CandidateFacts, Kind, UseFacts, VersionFacts, around, build, lineage_id, run_id

TRAINED = VersionFacts(
    model="watch",
    version=1,
    stage="released",
    workload="watch",
    data_sha256="d" * 64,
    seed=7,
    software={"torch": "2", "onnx": "1"},
    start="",
    job="job-1",
    parent_version=None,
    federated_run=None,
    candidates=(CandidateFacts("int8", "a" * 64, True), CandidateFacts("pruned", "", False, ("accuracy",))),
    variants={"int8": "a" * 64},
)
LEARNT = replace(
    TRAINED,
    version=2,
    start="learnt",
    job="job-2",
    parent_version=1,
    federated_run="f1",
    candidates=(CandidateFacts("int8", "b" * 64, True),),
    variants={"int8": "b" * 64},
)
OTHER = replace(TRAINED, model="other", data_sha256="e" * 64, candidates=(), variants={})
USES = (
    UseFacts(Kind.ROLLOUT, "r1", "watch", 1, "succeeded"),
    UseFacts(Kind.FEDERATED, "f1", "watch", 1, "succeeded"),
    UseFacts(Kind.ROLLOUT, "r2", "watch", 2, "running", "int8"),
)
GRAPH = build((TRAINED, LEARNT, OTHER), USES)


def ids(node: str) -> set[str]:
    """Everything around a node."""
    return {one.id for one in around(GRAPH, node).nodes}


def test_one_chain_leads_from_the_data_to_the_last_rollout() -> None:
    """Data, run, candidate, variant, rollout, federated run, and round again."""
    edges = {(edge.source, edge.target) for edge in GRAPH.edges}
    first, second = f"run:{run_id(TRAINED)}", f"run:{run_id(LEARNT)}"
    chain = [
        f"data:{'d' * 64}", first, f"candidate:{'a' * 64}", f"variant:{'a' * 64}", "version:watch/1", "federated:f1",
        second, f"candidate:{'b' * 64}", f"variant:{'b' * 64}", "rollout:r2",
    ]  # fmt: skip
    assert [pair for pair in pairwise(chain) if pair not in edges] == []
    assert lineage_id((TRAINED, LEARNT), "watch", 2) == lineage_id((TRAINED,), "watch", 1) == run_id(TRAINED)


def test_around_a_node_is_what_went_in_and_what_came_of_it() -> None:
    """A version's own candidates and uses, not its siblings'."""
    assert {"rollout:r2", "federated:f1", f"data:{'d' * 64}"} <= ids("version:watch/2")
    assert "rollout:r1" not in ids("version:watch/2")
    assert f"candidate:{run_id(TRAINED)}/pruned" not in ids("version:watch/1")
    assert "version:other/1" not in ids(f"data:{'d' * 64}")
    assert {"version:watch/1", "version:watch/2", "rollout:r1"} <= ids(f"data:{'d' * 64}")
    assert around(GRAPH, "version:watch/9").nodes == ()


def test_the_same_work_has_the_same_id_and_other_work_another() -> None:
    """Neither the number nor the job counts; everything that goes in does."""
    again = replace(TRAINED, version=5, job="job-9", software={"onnx": "1", "torch": "2"})
    assert run_id(again) == run_id(TRAINED)
    for change in ({"seed": 8}, {"data_sha256": "f" * 64}, {"software": {"torch": "3"}}, {"start": "else"}):
        assert run_id(replace(TRAINED, **change)) != run_id(TRAINED)


def test_the_order_of_versions_does_not_matter() -> None:
    """A federated run is found although its result was loaded first."""
    turned = build((OTHER, LEARNT, TRAINED), USES[::-1])
    assert set(turned.edges) == set(GRAPH.edges)
    assert {node.id for node in turned.nodes} == {node.id for node in GRAPH.nodes}
