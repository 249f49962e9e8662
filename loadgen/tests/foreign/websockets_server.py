"""A server on Python's `websockets`: `/echo` echoes, every other path is a room whose messages everybody in it hears.

    websockets_server.py
"""

import asyncio
import logging
import sys
from collections import defaultdict

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

ROOMS = defaultdict(set)
MESSAGE_BYTES_MAX = 16 << 20


async def hear(connection):
    path = connection.request.path
    room = ROOMS[path]
    room.add(connection)
    try:
        async for message in connection:
            if path == "/echo":
                await connection.send(message)
            else:
                broadcast(room, message)
    except ConnectionClosed:
        pass  # clients that are gone without a goodbye are part of the test
    finally:
        room.discard(connection)


async def main():
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    options = {"compression": None, "max_size": MESSAGE_BYTES_MAX, "ping_interval": None}
    async with serve(hear, "127.0.0.1", 0, **options) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"Listening on {host}:{port}", file=sys.stderr, flush=True)
        await server.serve_forever()


asyncio.run(main())
