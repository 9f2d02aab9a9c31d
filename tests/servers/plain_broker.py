"""A plain broker in a process of its own, for tests that need MQTT but not the hub's rules."""

import signal
import socket
import subprocess
import sys

from wire.identity import Broker

_BROKER = """
import asyncio, sys
from amqtt.broker import Broker
plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
async def main():
    bind = "127.0.0.1:" + sys.argv[1]
    await Broker({"listeners": {"default": {"type": "tcp", "bind": bind}}, "plugins": plugins}).start()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class BrokerProcess:
    """A plain broker that forgets everything when it is killed."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.start()

    @property
    def address(self) -> Broker:
        """Where it listens."""
        return Broker(host="127.0.0.1", port=self.port)

    def start(self) -> None:
        """Start and wait until it listens."""
        command = [sys.executable, "-c", _BROKER, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
