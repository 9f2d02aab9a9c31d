"""The durable round loop: drives a strategy's four public hooks so that a killed aggregator goes on where it was.

Order of every step: seed, configure, persist the instructions and the strategy's state, publish; each answer is
persisted before its device is told; seed, aggregate, persist everything with the next position. Hooks run in a worker
thread because they block. All random numbers come from the run's seed and the step, so a repeated step repeats itself.
"""

import asyncio
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

import msgspec
import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from federated.adapters.exchange import Exchange, Traffic
from federated.adapters.run_store import RunStore
from federated.core.issue import Answer, Instruction, Issue, RunLabel, Verdict
from federated.core.node_ids import NodeTable
from federated.core.replies import EVALUATE, EXAMPLES
from federated.core.report import Evaluation, Failure, Measured, RoundReport, StepShort
from federated.core.rounds import ENDED, Phase, Plan, Position, close
from federated.flower import checkpoint
from federated.flower.convert import array_record, ndarrays
from federated.flower.grid import MqttGrid, TooFewNodesError
from federated.flower.orders import Packer, to_replies
from federated.records import ARRAYS, CONFIG, METRICS, Array, values
from federated.spec import Spec
from wire.ports import SECOND, Clock

REASONS_REPORTED: Final = 64
"""Failures listed in one report."""

Emit = Callable[[msgspec.Struct], None]


@dataclass(frozen=True, slots=True)
class Crew:
    """What the loop works with."""

    exchange: Exchange
    store: RunStore
    grid: MqttGrid
    packer: Packer
    nodes: NodeTable
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a step came to. `arrays`: the new global ones, where it made some."""

    accepted: int
    arrays: dict[str, Array] | None = None
    metrics: MetricRecord | None = None
    measured: tuple[tuple[Phase, Measured], ...] = ()


class DurableRun:
    """One federated run of `strategy` as `spec` says."""

    def __init__(self, spec: Spec, strategy: Strategy, crew: Crew, emit: Emit) -> None:
        self._spec = spec
        self._strategy = strategy
        self._exchange, self._store, self._grid = crew.exchange, crew.store, crew.grid
        self._packer, self._nodes, self._clock = crew.packer, crew.nodes, crew.clock
        self._emit = emit
        self._label = RunLabel(spec.run, spec.model, spec.version)
        tolerances = spec.tolerances
        self._plan = Plan(spec.rounds, spec.evaluate_every, tolerances.quorum, tolerances.attempts)
        self._arrays: dict[str, Array] = {}
        self._given_up: set[str] = set()

    @property
    def arrays(self) -> dict[str, Array]:
        """The global arrays, in the strategy's own dtypes."""
        return self._arrays

    async def run(self, starting: dict[str, Array]) -> Position:
        """Take steps until the run has ended, from `starting` or from where it was; returns how it ended.

        Earlier rounds are reported again after a restart: readers key them by round.
        """
        self._restore(starting)
        for report in self._store.reports().values():
            self._emit(report)
        while (position := self._store.position()).phase not in ENDED:
            await self._take(position)
        return position

    def _restore(self, starting: dict[str, Array]) -> None:
        learned = self._store.learned()
        if learned is None:
            fresh = checkpoint.dump(self._strategy)
            self._store.start(starting, fresh.tree, fresh.arrays)
            learned = (starting, fresh.tree, fresh.arrays)
        arrays, tree, state = learned
        self._arrays = {name: arrays[name] for name in starting}
        checkpoint.restore(self._strategy, checkpoint.State(tree, state))

    async def _take(self, position: Position) -> None:
        started, traffic = self._clock.monotonic_ns(), self._exchange.traffic
        issue = self._store.issue()
        if issue is None:
            issue = await self._configure(position)
        answers = await self._converse(issue)
        outcome = await asyncio.to_thread(self._aggregate, position, issue, answers)
        seconds = (self._clock.monotonic_ns() - started) / SECOND
        report = self._report(position, outcome, answers, self._exchange.traffic.since(traffic), seconds)
        self._close(position, outcome, report)

    # Configuring a step.

    async def _configure(self, position: Position) -> Issue:
        issue = Issue((), {})
        if await self._gather():
            try:
                messages = await asyncio.to_thread(self._messages, position)
            except TooFewNodesError:
                messages = []
            issue = self._packer.pack(self._with_ids(position, messages), position.round, self._deadline_ns())
        state = checkpoint.dump(self._strategy)
        self._store.save_issue(issue, state.tree, state.arrays)
        return issue

    async def _gather(self) -> bool:
        """Wait for the devices; False when too few came. A device waited for in vain is not waited for again."""
        tolerances = self._spec.tolerances
        patient_until = self._clock.monotonic_ns() + int(tolerances.gather_s * SECOND)
        give_up = patient_until + int(tolerances.step_timeout_s * SECOND)
        while True:
            online, now = self._exchange.online, self._clock.monotonic_ns()
            missing = set(self._nodes.devices) - online
            self._given_up &= missing
            enough = len(online) >= self._plan.quorum
            if enough and (missing <= self._given_up or now >= patient_until):
                self._given_up |= missing
                self._grid.lose_patience_at(give_up)
                return True
            if now >= give_up:
                return False
            await self._exchange.changed()

    def _messages(self, position: Position) -> list[Message]:
        self._seed(position, "configure")
        arrays, config = array_record(self._arrays), ConfigRecord(dict(self._spec.train_config))
        match position.phase:
            case Phase.TRAIN:
                return list(self._strategy.configure_train(position.round, arrays, config, self._grid))
            case Phase.EVALUATE:
                return list(self._strategy.configure_evaluate(position.round, arrays, config, self._grid))
            case _:
                content = RecordDict({ARRAYS: arrays, CONFIG: config})
                return [Message(content, self._nodes.node(device), EVALUATE) for device in self._nodes.devices]

    def _with_ids(self, position: Position, messages: Sequence[Message]) -> list[tuple[str, Message]]:
        return [
            (f"{self._spec.run}.{position.label}.{self._nodes.device(message.metadata.dst_node_id)}", message)
            for message in messages
        ]

    # Talking to the devices.

    async def _converse(self, issue: Issue) -> list[Answer]:
        held = self._store.answers()
        open_ones = [self._renewed(one) for one in issue.instructions if one.task.task not in held]
        if open_ones:
            await self._exchange.retain(issue.objects)
            self._exchange.offer(open_ones, int(self._spec.tolerances.step_timeout_s * SECOND))
            await self._exchange.wait(issue.tasks)
        held.update((answer.task, answer) for answer in self._exchange.take(issue.tasks))
        return [held[task] for task in issue.tasks]

    def _renewed(self, one: Instruction) -> Instruction:
        """The same task with a deadline that lies ahead, also after a long stop of this process."""
        return replace(one, task=msgspec.structs.replace(one.task, deadline_ns=self._deadline_ns()))

    def _deadline_ns(self) -> int:
        return self._clock.now_ns() + int(self._spec.tolerances.step_timeout_s * SECOND)

    # Making something of the answers.

    def _aggregate(self, position: Position, issue: Issue, answers: Sequence[Answer]) -> _Outcome:
        accepted = [answer for answer in answers if answer.verdict is Verdict.ACCEPTED]
        if position.phase in (Phase.BEFORE, Phase.AFTER):
            return _Outcome(len(accepted), measured=tuple((position.phase, _measured(one)) for one in accepted))
        if len(accepted) < self._plan.quorum:
            return _Outcome(len(accepted))
        self._seed(position, "aggregate")
        replies = to_replies(issue, answers, self._nodes, self._label.number)
        if position.phase is Phase.EVALUATE:
            return _Outcome(len(accepted), metrics=self._strategy.aggregate_evaluate(position.round, replies))
        record, metrics = self._strategy.aggregate_train(position.round, replies)
        if record is None:
            return _Outcome(0)
        return _Outcome(len(accepted), {name: ndarrays(record)[name] for name in self._arrays}, metrics)

    def _seed(self, position: Position, hook: str) -> None:
        """Strategies draw from the process-wide generators; nothing else in this process does."""
        seed = zlib.crc32(f"{self._spec.seed}/{position.label}/{hook}".encode())
        random.seed(seed)
        np.random.seed(seed)

    def _report(
        self, position: Position, outcome: _Outcome, answers: Sequence[Answer], traffic: Traffic, seconds: float
    ) -> RoundReport | None:
        if position.phase not in (Phase.TRAIN, Phase.EVALUATE):
            return None
        so_far = self._store.reports().get(position.round, RoundReport(round=position.round, clients=0))
        trained = position.phase is Phase.TRAIN
        failures = tuple(Failure(device=one.device, reason=one.reason) for one in answers if one.reason)
        return msgspec.structs.replace(
            so_far,
            clients=outcome.accepted if trained else so_far.clients,
            failures=(so_far.failures + failures)[:REASONS_REPORTED],
            train_loss=_figure(outcome.metrics, "train-loss", so_far.train_loss),
            eval_acc=_figure(outcome.metrics, "eval-acc", so_far.eval_acc),
            eval_loss=_figure(outcome.metrics, "eval-loss", so_far.eval_loss),
            bytes_down=so_far.bytes_down + traffic.down,
            bytes_up=so_far.bytes_up + traffic.up,
            seconds=so_far.seconds + seconds,
        )

    def _close(self, position: Position, outcome: _Outcome, report: RoundReport | None) -> None:
        following = close(position, outcome.accepted, self._plan)
        if outcome.arrays is not None:
            self._arrays = outcome.arrays
        state = checkpoint.dump(self._strategy)
        learned = (self._arrays, state.tree, state.arrays)
        self._store.close_step(following, learned, report, outcome.measured)
        for event in _events(position, following, outcome, report):
            self._emit(event)


def _events(
    position: Position, following: Position, outcome: _Outcome, report: RoundReport | None
) -> Iterator[msgspec.Struct]:
    if following.attempt > position.attempt or following.phase is Phase.FAILED:
        yield StepShort(step=position.label, accepted=outcome.accepted)
    elif report is None:
        accuracy = fmean(one.accuracy for _, one in outcome.measured)
        yield Evaluation(when=position.phase.value, clients=outcome.accepted, accuracy=accuracy)
    elif following.phase is not Phase.EVALUATE:
        yield report


def _measured(answer: Answer) -> Measured:
    assert answer.reply is not None
    figures = values(answer.reply.records, METRICS)
    examples, accuracy, loss = (figures[name] for name in (EXAMPLES, "eval-acc", "eval-loss"))
    assert isinstance(examples, int)
    assert isinstance(accuracy, int | float)
    assert isinstance(loss, int | float)
    return Measured(device=answer.device, examples=examples, accuracy=float(accuracy), loss=float(loss))


def _figure(metrics: MetricRecord | None, name: str, otherwise: float | None) -> float | None:
    value = None if metrics is None else metrics.get(name)
    return float(value) if isinstance(value, int | float) else otherwise
