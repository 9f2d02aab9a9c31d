"""Models in onnxruntime, one thread each, kept small. onnxruntime and numpy are imported with the first model."""

from typing import TYPE_CHECKING, Any

from edge_agent.adapters.code_pages import give_back
from edge_agent.errors import ModelError, brief
from wire.ports import Offload

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.ports import Floats


PROVIDERS = ("CUDAExecutionProvider", "OpenVINOExecutionProvider", "QNNExecutionProvider", "CPUExecutionProvider")
"""What a session may compute on, the first there is; `edge_agent.adapters.machine` names the same."""


def open_session(path: str) -> Any:
    """An onnxruntime session for one thread and little memory. Raises whatever onnxruntime raises."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    providers = [provider for provider in PROVIDERS if provider in available]
    return onnxruntime.InferenceSession(path, options, providers=providers)


class OnnxSession:
    """A loaded model."""

    def __init__(self, session: Any, offload: Offload) -> None:
        self._session = session
        self._offload = offload

    async def predict(self, x: "Floats") -> "Floats":
        """Logits [N, classes] of inputs [N, ...]. Raises ModelError."""
        try:
            outputs: list[Floats] = await self._offload.run(lambda: self._session.run(["logits"], {"x": x}))
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ModelError(brief(error)) from error
        return outputs[0]


class OnnxRuntime:
    """Implements `edge_agent.ports.Runtime`."""

    def __init__(self, locate: "Callable[[str], str]", offload: Offload) -> None:
        self._locate = locate
        self._offload = offload

    async def load(self, path: str) -> OnnxSession:
        """Load the model. Raises ModelError."""
        try:
            session = await self._offload.run(lambda: _open_and_settle(self._locate(path)))
        except Exception as error:  # as above
            raise ModelError(brief(error)) from error
        return OnnxSession(session, self._offload)


def _open_and_settle(path: str) -> Any:
    session = open_session(path)
    give_back()
    return session
