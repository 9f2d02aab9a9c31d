"""The port on which the hub's API listens."""

import asyncio
import socket

from cloud.main import _bound
from cloud.settings import Settings
from tests.servers.clients import free_port


def test_answers_do_not_wait_for_acknowledgements_of_what_went_before() -> None:
    """asyncio turns Nagle's algorithm off only for sockets that were made as TCP: else the second part of every answer
    on a kept connection is held back until the first is acknowledged, 40 ms later."""
    settings = Settings(port=free_port())

    async def scenario() -> int:
        accepted = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=listener)
        _, writer = await asyncio.open_connection("127.0.0.1", settings.port)
        here = await accepted
        undelayed: int = here.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for one in (writer, here):
            one.close()
        server.close()
        return undelayed

    with _bound(settings) as listener:
        assert asyncio.run(scenario()) == 1
