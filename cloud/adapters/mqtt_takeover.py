"""Ends a client's connection by connecting as that client: the broker closes the older one and forgets its session.

MQTT 3.1.1, 3.1.4-2 and 3.1.2-6: the one way to end somebody's connection that every broker has.
"""

import asyncio

from wire.adapters.tls import client_context, present
from wire.identity import Broker

TIMEOUT_S = 10.0
KEEP_ALIVE_S = 10
DISCONNECT = b"\xe0\x00"


async def take_over(broker: Broker, client: str, certificate: str, key: str) -> None:
    """Return once the broker has accepted, which is when the older connection is over.

    Raises:
        OSError, TimeoutError: the broker cannot be reached, or refuses.
    """
    context = client_context(broker.ca_pem)
    present(context, certificate, key)
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(broker.host, broker.port, ssl=context)
        try:
            writer.write(_connect(client))
            answer = await reader.readexactly(4)
            writer.write(DISCONNECT)
            await writer.drain()
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the broker closed the connection") from error
        finally:
            writer.close()
    if answer[:2] != b"\x20\x02" or answer[3] != 0:
        raise ConnectionError(f"the broker refused with code {answer[3]}")


def _connect(client: str) -> bytes:
    """CONNECT with a clean session. Names have at most 63 characters, so the length fits one byte."""
    name = client.encode()
    body = b"\x00\x04MQTT\x04\x02" + KEEP_ALIVE_S.to_bytes(2) + len(name).to_bytes(2) + name
    return b"\x10" + len(body).to_bytes(1) + body
