"""The Python clients `websockets` and `aiohttp` against ringrelay's echo.

    echo.py URL [CA_FILE]       URL: ws://HOST:PORT or wss://HOST:PORT, without a path
"""

import asyncio
import json
import os
import ssl
import sys

import aiohttp
import websockets
from websockets.asyncio.client import connect

from tally import Tally

MIB = 1 << 20
MESSAGES = {
    "text": "Grüße, 你好 🫖",
    "empty text": "",
    "binary": bytes(range(256)),
    "empty binary": b"",
    "125 bytes": b"a" * 125,
    "126 bytes": b"b" * 126,
    "65,535 bytes": b"c" * 65_535,
    "65,536 bytes": b"d" * 65_536,
    "1 MiB binary": os.urandom(MIB),
    "1 MiB text": "ü" * (MIB // 2),
}
PIPELINED = 2_000


async def websockets_checks(tally, echo, tls):
    """Everything that the library `websockets` can do."""

    def open_echo(query=""):
        return connect(echo + query, ssl=tls, max_size=None, ping_interval=None)

    async def same(message):
        async with open_echo() as ws:
            assert ws.protocol.extensions == [], "compression is declined"
            await ws.send(message)
            assert await ws.recv() == message

    async def fragments(pieces):
        async with open_echo() as ws:
            await ws.send(iter(pieces))
            assert await ws.recv() == pieces[0][:0].join(pieces)

    async def ping_between_fragments():
        async with open_echo() as ws:
            pong = None

            async def pieces():
                nonlocal pong
                yield "one, "
                pong = await ws.ping(b"between")
                await pong
                yield "two"

            await ws.send(pieces())
            assert await ws.recv() == "one, two" and pong.done()

    async def pings():
        async with open_echo() as ws:
            for pong in [await ws.ping(bytes([n]) * n) for n in range(10)]:
                await pong

    async def pipelined():
        async with open_echo() as ws:
            sent = [f"{n}:" + "x" * (n % 300) for n in range(PIPELINED)]
            for message in sent:
                await ws.send(message)
            assert [await ws.recv() for _ in sent] == sent

    async def client_closes(code, reason):
        async with open_echo() as ws:
            await ws.close(code, reason)
            assert (ws.protocol.close_rcvd.code, ws.protocol.close_rcvd_then_sent) == (code, False)

    async def server_closes(query, send, code):
        ws = await open_echo(query)  # closed by the server, so nothing is left to close here
        try:
            for message in send:
                await ws.send(message)
            while True:
                await ws.recv()
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == code, closed

    async def bad_utf8():
        async with open_echo() as ws:
            await ws.send(b"\xce\xba\xff", text=True)
            try:
                await ws.recv()
            except websockets.ConnectionClosed as closed:
                assert closed.rcvd is not None and closed.rcvd.code == 1007, closed
            else:
                raise AssertionError("text that is not UTF-8 was accepted")

    async def request_headers():
        async with connect(echo + "?headers=1", ssl=tls, additional_headers={"X-Kettle": "on"}) as ws:
            assert json.loads(await ws.recv())["x-kettle"] == "on"

    async def refused(path, status):
        try:
            async with connect(echo.removesuffix("/echo") + path, ssl=tls):
                pass
        except websockets.InvalidStatus as answer:
            assert answer.response.status_code == status, answer
        else:
            raise AssertionError(f"{path} was accepted")

    for name, message in MESSAGES.items():
        await tally.check(f"websockets: {name}", same(message))
    await tally.check("websockets: text in fragments, cut inside a character's neighbours", fragments(["a", "", "ü", "b" * 70_000]))
    await tally.check("websockets: binary in 1,000 fragments", fragments([bytes([n % 256]) for n in range(1_000)]))
    await tally.check("websockets: a ping between fragments is answered at once", ping_between_fragments())
    await tally.check("websockets: ten pings in a row each have their pong", pings())
    await tally.check(f"websockets: {PIPELINED:,} messages in flight come back in order", pipelined())
    for code in (1000, 1001, 3000, 4999):
        await tally.check(f"websockets: close {code} is answered with {code}", client_closes(code, "bye, ü"))
    await tally.check("websockets: close_after=2", server_closes("?close_after=2&code=4321", ["one", "two"], 4321))
    await tally.check("websockets: above 16 MiB is closed with 1009", server_closes("", [b"x" * (16 * MIB + 1)], 1009))
    await tally.check("websockets: text that is not UTF-8 is closed with 1007", bad_utf8())
    await tally.check("websockets: headers=1 shows the request's headers", request_headers())
    await tally.check("websockets: an unknown path is 404", refused("/no/such/path", 404))


async def aiohttp_checks(tally, echo, tls):
    """What the library `aiohttp` adds: another opening handshake, framer and closer."""

    async def with_echo(body, query="", **options):
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(echo + query, ssl=tls, max_msg_size=0, **options) as ws:
                await body(ws)

    def same(message):
        async def body(ws):
            await (ws.send_str if isinstance(message, str) else ws.send_bytes)(message)
            assert (await ws.receive()).data == message

        return with_echo(body)

    async def offered_compression(ws):
        assert ws.compress == 0
        await ws.send_str("plain" * 1_000)
        assert await ws.receive_str() == "plain" * 1_000

    async def ping(ws):
        await ws.ping(b"anyone?")
        answer = await ws.receive()
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, b"anyone?"), answer

    async def server_closes(ws):
        await ws.send_str("the only one")
        assert await ws.receive_str() == "the only one"
        answer = await ws.receive()
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.CLOSE, 1000), answer

    async def client_closes(ws):
        assert await ws.close(code=4000, message=b"enough")
        assert ws.close_code == 4000, ws.close_code

    for name, message in MESSAGES.items():
        await tally.check(f"aiohttp: {name}", same(message))
    await tally.check("aiohttp: an offer of compression is declined", with_echo(offered_compression, compress=15))
    await tally.check("aiohttp: ping", with_echo(ping, autoping=False))
    await tally.check("aiohttp: close_after=1", with_echo(server_closes, "?close_after=1"))
    await tally.check("aiohttp: close 4000 is answered", with_echo(client_closes))


async def main(url, ca_file=None):
    """Runs both libraries' checks."""
    tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
    tally = Tally()
    await websockets_checks(tally, url + "/echo", tls)
    await aiohttp_checks(tally, url + "/echo", tls if tls else True)
    tally.finish()


asyncio.run(main(*sys.argv[1:]))
