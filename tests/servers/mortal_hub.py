"""A hub's inbox in a process of its own that kills itself (SIGKILL) after a commit, before any receipt is on its way.

`python -m tests.servers.mortal_hub DIRECTORY PORT LIVES`: dies after the LIVESth transaction that took something.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from cloud.adapters.sql_store import SqlStore
from cloud.ports import BrokerUser
from cloud.service.enrolment import Door
from cloud.service.inbox import Inbox
from cloud.service.outbox import Outbox
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock
from wire.identity import Broker
from wire.topics import Topics

T = TypeVar("T")


class MortalStore(SqlStore):
    """Kills the process once so many transactions are durable."""

    lives = 0

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Commit; nobody will learn of the last one."""
        result = await super().write(call)
        self.lives -= 1
        if self.lives == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class NoControl:
    """The broker lets anybody in."""

    endpoint = Broker(host="127.0.0.1", port=1)

    async def set_users(self, users: Mapping[str, BrokerUser]) -> None:
        """There are none."""


async def main(directory: str, port: str, lives: str) -> None:
    """Take telemetry until the end."""
    store = MortalStore(Path(directory) / "hub.sqlite")
    await store.open()
    store.lives = int(lives)
    link = MqttLink(Broker(host="127.0.0.1", port=int(port)), Credentials("hub", "x"))
    topics = Topics()
    outbox = Outbox(store, link, NoControl(), topics, SystemClock())
    inbox = Inbox(store, outbox, SystemClock(), Door(topics))
    link.on_message = inbox.take
    await link.subscribe(*inbox.filters())
    await link.start()
    await asyncio.gather(outbox.run(), inbox.run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
