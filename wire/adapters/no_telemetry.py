"""onnxruntime reports on its host to its maker, unless it is told not to before it is loaded. Importing this tells it.

From 1.29 on its Linux builds keep a device id and a queue of events in the user's home and send them. What a device
computes is nobody's business; each package that loads onnxruntime imports this first.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
