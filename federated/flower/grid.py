"""Flower's Grid over MQTT: any strategy's own `start(grid, ...)` runs through it unmodified.

Strategies are blocking code, the exchange lives on an event loop: this is the bridge. Call it from a thread other than
the loop's. A bad, failed or missing answer becomes an Error message, never an exception.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Final, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from federated.adapters.exchange import Exchange
from federated.core.issue import Issue, RunLabel
from federated.core.node_ids import NodeTable
from federated.flower.compat import bind_identity, empty_run, label_instruction
from federated.flower.convert import Dtypes
from federated.flower.orders import Packer, to_replies
from wire.ports import SECOND, Clock, Ids

T = TypeVar("T")

ROUND_KEY: Final = "server-round"


class RunStoppedError(Exception):
    """The run is being stopped: whatever waits for devices shall end."""


class TooFewNodesError(Exception):
    """The strategy waits for more devices than came online in time."""


class MqttGrid(Grid):
    """One run of Flower over an `Exchange` that is open on `loop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        exchange: Exchange,
        label: RunLabel,
        nodes: NodeTable,
        dtypes: Dtypes,
        system: tuple[Clock, Ids],
    ) -> None:
        self._loop = loop
        self._exchange = exchange
        self._number = label.number
        self._nodes = nodes
        self._packer = Packer(label, nodes, dtypes)
        self._clock, self._ids = system
        self._issues: dict[str, Issue] = {}
        self._run = empty_run(self._number)
        self._stopped = False
        self._patience_ns: int | None = None
        bind_identity(self._number)

    def stop(self) -> None:
        """Make strategies that wait for nodes end with RunStoppedError."""
        self._stopped = True

    def lose_patience_at(self, monotonic_ns: int | None) -> None:
        """From then on, asking for nodes raises TooFewNodesError (None: never)."""
        self._patience_ns = monotonic_ns

    def set_run(self, run: Run) -> None:
        """Use another description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Build an instruction (the deprecated way that the interface still asks for)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Nodes of the run that are online, in a stable order.

        Raises:
            RunStoppedError, TooFewNodesError: strategies poll this for ever when nodes are missing; this ends it.
        """
        if self._stopped:
            raise RunStoppedError("the run is being stopped")
        if self._patience_ns is not None and self._clock.monotonic_ns() >= self._patience_ns:
            raise TooFewNodesError(f"{len(self._exchange.online)} devices online, the strategy wants more")
        return sorted(self._nodes.node(device) for device in self._exchange.online)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send instructions; returns their ids. Each lives as long as its message's time to live."""
        return self._await(self._push(list(messages), None)).tasks

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there among those asked for, in order of their node ids."""
        return self._await(self._pull(list(message_ids)))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send instructions and return one reply for each, in order of their node ids."""
        return self._await(self._converse(list(messages), timeout))

    async def _push(self, messages: list[Message], within_s: float | None) -> Issue:
        if not messages:
            return Issue((), {})
        labelled = [(self._ids.new(), message) for message in messages]
        for task, message in labelled:
            label_instruction(message, task, self._number)
        life_ns = int(min(_life_s(message, within_s) for message in messages) * SECOND)
        issue = self._packer.pack(labelled, _round(messages[0]), self._clock.now_ns() + life_ns)
        self._issues.update(dict.fromkeys(issue.tasks, issue))
        objects = {sha: data for one in self._issues.values() for sha, data in one.objects.items()}
        await self._exchange.retain(objects)
        self._exchange.offer(issue.instructions, life_ns)
        return issue

    async def _pull(self, tasks: list[str]) -> list[Message]:
        answers = self._exchange.take(task for task in tasks if task in self._issues)
        replies: list[Message] = []
        for answer in answers:
            replies += to_replies(self._issues.pop(answer.task), [answer], self._nodes, self._number)
        return sorted(replies, key=lambda message: int(message.metadata.src_node_id))

    async def _converse(self, messages: list[Message], within_s: float | None) -> list[Message]:
        issue = await self._push(messages, within_s)
        await self._exchange.wait(issue.tasks)
        return await self._pull(list(issue.tasks))

    def _await(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _life_s(message: Message, within_s: float | None) -> float:
    ttl = float(message.metadata.ttl)
    return ttl if within_s is None else min(ttl, within_s)


def _round(message: Message) -> int:
    """The round is known only to the config that Flower's strategies send."""
    for record in message.content.config_records.values():
        number = record.get(ROUND_KEY)
        if isinstance(number, int):
            return number
    return 0
