"""Clients of different libraries on one topic: everybody hears everything, in one and the same order.

    fan_out.py URL [CA_FILE]    URL: ws://HOST:PORT or wss://HOST:PORT, without a path
"""

import asyncio
import hashlib
import os
import ssl
import sys
import uuid
from pathlib import Path

import aiohttp
from websockets.asyncio.client import connect

from tally import Tally

EACH = 200
MEMBER = Path(__file__).with_name("member.mjs")


def messages(name):
    """What one member publishes: text and binary by turns, up to 70 KB."""
    for n in range(EACH):
        body = f"{name} {n} " + "x" * (70_000 if n % 50 == 49 else n * 3)
        yield body.encode() if n % 2 else body


class Heard:
    """A digest over kinds, lengths and bytes in their order, and each author's next number."""

    def __init__(self):
        self.digest = hashlib.sha256()
        self.next = {}

    def take(self, message):
        body = message if isinstance(message, bytes) else message.encode()
        self.digest.update(b"%c%d:" % (b"b" if isinstance(message, bytes) else b"t", len(body)) + body)
        name, number, _ = body.split(b" ", 2)
        assert int(number) == self.next.get(name, 0), f"{name} {number} out of order"
        self.next[name] = int(number) + 1


async def websockets_member(url, tls, name, total, ready, go):
    async with connect(url, ssl=tls, max_size=None) as ws:
        ready.set()
        await go.wait()

        async def publish():
            for message in messages(name):
                await ws.send(message)

        publishing = asyncio.create_task(publish())
        heard = Heard()
        for _ in range(total):
            heard.take(await ws.recv())
        await publishing
    return heard.digest.hexdigest()


async def aiohttp_member(url, tls, name, total, ready, go):
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=tls or True, max_msg_size=0) as ws:
        ready.set()
        await go.wait()

        async def publish():
            for message in messages(name):
                await (ws.send_bytes if isinstance(message, bytes) else ws.send_str)(message)

        publishing = asyncio.create_task(publish())
        heard = Heard()
        for _ in range(total):
            heard.take((await ws.receive()).data)
        await publishing
    return heard.digest.hexdigest()


async def node_member(url, ca_file, name, total, ready, go):
    child = await asyncio.create_subprocess_exec(
        "node", str(MEMBER), url, name, str(EACH), str(total), *([ca_file] if ca_file else []),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await child.stdout.readline() == b"ready\n", "the node member did not connect"
        ready.set()
        await go.wait()
        child.stdin.write(b"go\n")
        digest = (await child.stdout.readline()).decode().strip()
        assert await child.wait() == 0
        return digest
    finally:
        if child.returncode is None:
            child.kill()


async def one_order(url, tls, ca_file):
    kinds = [websockets_member, aiohttp_member, node_member] * 2
    topic = f"{url}/rooms/{uuid.uuid4()}"
    total, go = EACH * len(kinds), asyncio.Event()
    readies = [asyncio.Event() for _ in kinds]
    members = [
        asyncio.create_task(kind(topic, ca_file if kind is node_member else tls, f"m{n}", total, ready, go))
        for n, (kind, ready) in enumerate(zip(kinds, readies))
    ]
    all_ready = asyncio.gather(*(ready.wait() for ready in readies))
    await asyncio.wait([all_ready, *members], return_when=asyncio.FIRST_COMPLETED)
    go.set()
    digests = await asyncio.gather(*members)
    assert len(set(digests)) == 1 and digests[0], digests


async def rooms_are_apart(url, tls):
    room = f"{url}/rooms/{uuid.uuid4()}"
    async with connect(room + "-a", ssl=tls) as a, connect(room + "-b", ssl=tls) as b:
        await a.send("for a")
        assert await a.recv() == "for a"
        await b.send("for b")
        assert await b.recv() == "for b", "a room heard another"


async def one_name_however_escaped(url, tls):
    room = f"{url}/rooms/{uuid.uuid4()}"
    async with connect(room + "caf%C3%A9?x=1", ssl=tls) as a, connect(room + "%63af%c3%a9?y=2", ssl=tls) as b:
        await a.send("same topic")
        assert await b.recv() == "same topic"


async def whole_messages_to_all(url, tls):
    room, message = f"{url}/rooms/{uuid.uuid4()}", os.urandom(1 << 20)
    async with connect(room, ssl=tls, max_size=None) as a, connect(room, ssl=tls, max_size=None) as b:
        await a.send([message[:1], b"", message[1:500_000], message[500_000:]])
        assert await a.recv() == message and await b.recv() == message


async def main(url, ca_file=None):
    tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
    tally = Tally()
    await tally.check("two of each library hear 1,200 messages in one order", one_order(url, tls, ca_file))
    await tally.check("rooms do not hear each other", rooms_are_apart(url, tls))
    await tally.check("a topic is its name, not its escapes or query", one_name_however_escaped(url, tls))
    await tally.check("1 MiB in fragments reaches everybody whole", whole_messages_to_all(url, tls))
    tally.finish()


asyncio.run(main(*sys.argv[1:]))
