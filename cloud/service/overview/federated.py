"""Federated runs with their rounds and the verdict on what they made."""

from typing import Any

from sqlalchemy import Connection, Row, select

from cloud.service.overview.shapes import FederatedView, RoundView
from cloud.tables import federated_rounds, federated_runs, job_events, jobs

NEWEST = 3


def read_runs(conn: Connection, model: str) -> tuple[FederatedView, ...]:
    """The newest runs on `model`, oldest first."""
    ordered = select(federated_runs).where(federated_runs.c.model == model).order_by(federated_runs.c.created_ns.desc())
    return tuple(reversed([_run(conn, row) for row in conn.execute(ordered.limit(NEWEST))]))


def _run(conn: Connection, row: Row[Any]) -> FederatedView:
    rounds = select(federated_rounds).where(federated_rounds.c.run == row.id).order_by(federated_rounds.c.round)
    evaluated = _evaluations(conn, row.id)
    return FederatedView(
        id=row.id,
        model=row.model,
        version=row.version,
        strategy=row.request["strategy"],
        state=row.state,
        reason=row.reason,
        clients=len(row.devices),
        rounds_planned=row.request["rounds"],
        rounds=tuple(_round(done) for done in conn.execute(rounds)),
        accuracy_before=evaluated.get("before"),
        accuracy_after=evaluated.get("after"),
        verdict="; ".join(group["text"] for group in (row.verdict or {}).get("groups", ())),
        result_version=row.result_version,
    )


def _evaluations(conn: Connection, run: str) -> dict[str, float]:
    """Before and after: mean accuracy over the devices, as the aggregator said it."""
    said = job_events.c.event["event"].as_string() == "evaluation"
    query = select(job_events.c.event).join(jobs).where(jobs.c.federated_run == run, said).order_by(job_events.c.id)
    return {event["when"]: event["accuracy"] for event in conn.execute(query).scalars()}


def _round(row: Row[Any]) -> RoundView:
    return RoundView(
        round=row.round,
        clients=row.clients,
        seconds=row.seconds,
        bytes_down=row.bytes_down,
        bytes_up=row.bytes_up,
        loss=row.train_loss,
        accuracy=row.eval_acc,
    )
