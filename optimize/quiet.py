"""Silence for exporters that talk: exactly the messages known to be harmless, and nothing on stdout."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

_TALKERS = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")

_HARMLESS = (
    "Exporting a model while it is in training mode",  # a wrapper module is; the model's own parts were checked
    "# ONNX model has different number of inputs than the flatten dynamic_shapes",  # we name the axis ourselves
    "TF32 acceleration on top of oneDNN",  # said on every machine without an Intel GPU
)


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """While inside, the export's chatter goes to stderr, and its deprecation and advice warnings nowhere."""
    levels = {name: logging.getLogger(name).level for name in _TALKERS}
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        for message in _HARMLESS:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        for name in _TALKERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
