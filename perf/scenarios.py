"""The loads that servers are compared under: what loadgen is told, and what is counted.

A cost is what one unit takes of the server: µs of CPU time per delivery or per connection, or bytes of memory per
connection. Less is better, whatever the unit.
"""

from dataclasses import dataclass

DELIVERY, CONNECTION, MEMORY = "delivery", "connection", "memory"
# What a server must be able to do.
RELAY, ECHO, TOPICS, TLS = "relay", "echo", "topics", "tls"

CROWD = 10_000
TLS_CROWD = 2_000
# Beside a fan-out to a crowd: one client that asks and is answered, on the same core of the server.
BESIDE = ("echo", "--connections", "1", "--rate", "100", "--size", "64")


@dataclass(frozen=True)
class Scenario:
    """One load: loadgen's subcommand, path and flags, or the `groups` of a scenario file instead of some of these."""

    name: str
    about: str
    command: str
    flags: tuple
    path: str = "/"
    needs: frozenset = frozenset({RELAY})
    unit: str = DELIVERY
    # A fixed rate, where CPU time used is the figure; otherwise a closed loop, where it is deliveries per CPU-second.
    is_offered: bool = False
    groups: str = ""
    # A second loadgen that runs meanwhile, on /echo.
    beside: tuple = ()
    # Among those that are run unless others are asked for.
    is_usual: bool = True

    @property
    def is_tls(self):
        return TLS in self.needs


def fan_out(name, subscribers, publishers, size, *flags, about, **more):
    everyone = ("--subscribers", str(subscribers), "--publishers", str(publishers), "--size", str(size))
    return Scenario(name, about, "run", everyone + flags, **more)


def offered_echo(name, rate, **more):
    flags = ("--connections", "100", "--rate", str(rate), "--size", "64")
    about = f"echo: {rate:,} msg/s of 64 B by 100 connections"
    return Scenario(name, about, "echo", flags, "/echo", frozenset({ECHO}), is_offered=True, **more)


def echo(name, depth, size, **more):
    flags = ("--connections", "100", "--depth", str(depth), "--size", str(size))
    about = f"echo: 100 connections, {depth} × {size} B outstanding"
    return Scenario(name, about, "echo", flags, "/echo", frozenset({ECHO}), **more)


def idle(name, connections, messages, hold, needs, unit, about):
    flags = ("--connections", str(connections), "--messages", str(messages), "--hold", hold)
    return Scenario(name, about, "idle", flags, "/echo", needs, unit, is_usual=False)


def offered(name, rate, subscribers, **more):
    beside = ", an echo beside" if more.get("beside") else ""
    about = f"{rate:,} msg/s of 64 B offered to {subscribers:,}{beside}"
    return fan_out(name, subscribers, 1, 64, "--rate", str(rate), about=about, is_offered=True, **more)


def scenarios(subscribers):
    """The loads in the order of the report: the usual ones, then the further ones."""

    def closed(window, size, **more):
        about = f"{window} × {size:,} B outstanding"
        return fan_out(f"w{window}-{size}", subscribers, 1, size, "--outstanding", str(window), about=about, **more)

    usual = [closed(window, size) for window in (1, 64) for size in (64, 512, 4096)]
    about = "100 publishers, 1 × 64 B outstanding each"
    usual.append(fan_out("p100-w1-64", subscribers, 100, 64, "--outstanding", "1", about=about))
    usual += [echo("echo-d1", 1, 64), echo("echo-d16", 16, 64), offered("rate500-64", 500, subscribers)]
    return usual + further(subscribers, closed)


def further(subscribers, closed):
    both = frozenset({RELAY, ECHO})
    # 100,000 deliveries per second in either case.
    rooms = "topic: 'room-{n}', topics: 1000"
    spread = f"{{subscribers: {CROWD}, {rooms}}}, {{publishers: 1000, {rooms}, rate: 10000}}"
    return [
        closed(4, 65536, is_usual=False),
        echo("echo1k-d16", 16, 1024, is_usual=False),
        offered("rate2000-64", 2000, subscribers, is_usual=False),
        # Half a core of every server, and next to nothing: what a server that flushes late costs who hears it.
        offered("rate100-64", 100, subscribers, is_usual=False),
        offered("rate20-64", 20, subscribers, is_usual=False),
        offered_echo("echo-half", 100_000, is_usual=False),
        offered("crowd10000", 5, CROWD, is_usual=False, needs=both, beside=BESIDE),
        offered("topics1x10000", 10, CROWD, is_usual=False),
        Scenario(
            "topics1000x10",
            "10,000 msg/s of 64 B offered to 1,000 topics of 10",
            "run",
            (),
            "/rooms/{topic}",
            frozenset({RELAY, TOPICS}),
            is_offered=True,
            groups=spread,
            is_usual=False,
        ),
        fan_out(
            "wss-w64-64",
            subscribers,
            1,
            64,
            "--outstanding",
            "64",
            about="wss: 64 × 64 B outstanding",
            needs=frozenset({RELAY, TLS}),
            is_usual=False,
        ),
        idle("accepts", CROWD, 1, "10ms", frozenset({ECHO}), CONNECTION, "handshake, one echo, close"),
        idle("idle-ws", CROWD, 10, "1s", frozenset({ECHO}), MEMORY, "10,000 idle connections"),
        idle("idle-wss", TLS_CROWD, 10, "1s", frozenset({ECHO, TLS}), MEMORY, "2,000 idle connections by TLS"),
    ]
