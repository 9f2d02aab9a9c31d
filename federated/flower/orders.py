"""From a strategy's messages to instructions for devices, and from their answers back to messages.

Flower's strategies give every message of a round the same content; equal content is packed once, so all devices of a
round pull one retained object.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message, RecordDict

from federated.core.issue import Answer, Instruction, Issue, RunLabel, Verdict
from federated.core.node_ids import NodeTable
from federated.flower.compat import bare_instruction, content_reply, error_reply
from federated.flower.convert import Dtypes, to_content, to_records
from federated.records import ARRAYS, Arrays, to_object
from wire.federated import Record, Task
from wire.release import ObjectRef, object_ref


@dataclass(frozen=True, slots=True)
class _Packed:
    records: tuple[Record, ...]
    sent: Arrays
    ref: ObjectRef | None


class Packer:
    """Turns messages into an Issue."""

    def __init__(self, label: RunLabel, nodes: NodeTable, dtypes: Dtypes) -> None:
        self._label = label
        self._nodes = nodes
        self._dtypes = dtypes

    def pack(self, messages: Iterable[tuple[str, Message]], round_number: int, deadline_ns: int) -> Issue:
        """Instructions for (task id, message) pairs. `deadline_ns`: wall clock, 0 = none."""
        packed: dict[int, _Packed] = {}
        objects: dict[str, bytes] = {}
        instructions: list[Instruction] = []
        for task_id, message in messages:
            if id(message.content) not in packed:
                packed[id(message.content)] = self._pack_content(message.content, objects)
            content = packed[id(message.content)]
            task = Task(
                run=self._label.run,
                task=task_id,
                kind=message.metadata.message_type,
                round=round_number,
                model=self._label.model,
                version=self._label.version,
                records=content.records,
                arrays=content.ref,
                deadline_ns=deadline_ns,
            )
            instructions.append(Instruction(self._nodes.device(message.metadata.dst_node_id), task, content.sent))
        return Issue(tuple(instructions), objects)

    def _pack_content(self, content: RecordDict, objects: dict[str, bytes]) -> _Packed:
        records, arrays = to_records(content, self._dtypes)
        if not arrays:
            return _Packed(records, {}, None)
        data = to_object(arrays)
        ref = object_ref(data)
        objects[ref.sha256] = data
        return _Packed(records, arrays.get(ARRAYS, {}), ref)


def to_replies(issue: Issue, answers: Iterable[Answer], nodes: NodeTable, number: int) -> list[Message]:
    """Flower's replies, in order of the node ids: sums of floats must not depend on who was fastest."""
    by_task = {one.task.task: one for one in issue.instructions}
    replies = []
    for answer in answers:
        kind = by_task[answer.task].task.kind
        replies.append(to_reply(bare_instruction(nodes.node(answer.device), kind, answer.task, number), answer))
    return sorted(replies, key=lambda message: int(message.metadata.src_node_id))


def to_reply(instruction: Message, answer: Answer) -> Message:
    """One answer as Flower's reply to `instruction`."""
    if answer.verdict is Verdict.ACCEPTED and answer.reply is not None:
        return content_reply(instruction, to_content(answer.reply, answer.arrays))
    return error_reply(instruction, answer.verdict, answer.reason)
