"""A real HTTP server around a small FastAPI app, on a free loopback port, for tests of real clients."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from cloud.adapters.certificates import TlsFiles


@contextmanager
def serving(app: FastAPI, tls: TlsFiles | None = None) -> Iterator[str]:
    """Serve `app` while the block runs, over HTTPS if there is `tls`; yields its base URL."""
    files = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key} if tls else {}
    listener = socket.create_server(("127.0.0.1", 0))  # bound and listening: a client that comes early just waits
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", **files))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="live-server")
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
