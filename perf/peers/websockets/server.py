"""Python's `websockets` on uvloop: `broadcast`, no compression, no pings.

    server.py PORT       `/echo` echoes; every other path broadcasts to everybody, the sender included
"""

import logging
import sys

import uvloop
from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

EVERYBODY = set()
MESSAGE_BYTES_MAX = 16 << 20
BACKLOG = 4096


async def hear(connection):
    is_echo = connection.request.path == "/echo"
    if not is_echo:
        EVERYBODY.add(connection)
    try:
        async for message in connection:
            if is_echo:
                await connection.send(message)
            else:
                broadcast(EVERYBODY, message)
    except ConnectionClosed:
        pass  # a client that is gone without a goodbye
    finally:
        EVERYBODY.discard(connection)


async def main():
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    options = {"compression": None, "max_size": MESSAGE_BYTES_MAX, "ping_interval": None, "backlog": BACKLOG}
    async with serve(hear, "127.0.0.1", int(sys.argv[1]), **options) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"Listening on {host}:{port}", file=sys.stderr, flush=True)
        await server.serve_forever()


uvloop.run(main())
