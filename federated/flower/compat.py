"""Every private touch-point with flwr, so that a new release breaks one module at most.

Flower builds instructions from process-wide identities and gives them their id on its own server; a Grid of another
transport has to do both. Replies are built here with the public constructor, so a device can spoof no metadata.
"""

from collections.abc import Mapping
from typing import Final

from flwr.app import Error, Message, RecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from federated.core.issue import Verdict
from federated.core.node_ids import SERVER_NODE

ERROR_CODES: Final[Mapping[Verdict, int]] = {
    Verdict.FAILED: 2,  # the client application raised
    Verdict.REFUSED: 2,
    Verdict.UNREACHABLE: 5,  # the node is unavailable
}


def bind_identity(run_number: int) -> None:
    """Make this process the server of run `run_number`: without it no instruction can be constructed."""
    TaskIdentity.run_id = run_number
    TaskIdentity.node_id = SERVER_NODE
    TaskIdentity.task_id = 1


def label_instruction(message: Message, task: str, run_number: int) -> None:
    """Give an instruction its id and its run, as Flower's own grids do."""
    fields = message.metadata.__dict__
    fields["_message_id"] = task
    fields["_run_id"] = run_number
    fields["_src_node_id"] = SERVER_NODE


def bare_instruction(node: int, kind: str, task: str, run_number: int) -> Message:
    """An instruction without content: what is needed to build its reply, also after a restart."""
    message = Message(RecordDict(), node, kind)
    label_instruction(message, task, run_number)
    return message


def content_reply(instruction: Message, content: RecordDict) -> Message:
    """The reply with records."""
    return Message(content, reply_to=instruction)


def error_reply(instruction: Message, verdict: Verdict, reason: str) -> Message:
    """The reply of a device that failed, was refused or could not be reached."""
    return Message(Error(ERROR_CODES[verdict], reason), reply_to=instruction)


def empty_run(run_number: int) -> Run:
    """What Flower asks a Grid for as its run."""
    return Run.create_empty(run_number)
