"""The programs that are compared: how each is made, how it is started, what it can do. And those that are not, and why."""

import functools
import json
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from revisions import ROOT, TARGET, Failure, capture, tomllib
from scenarios import ECHO, RELAY, TLS, TOPICS

PEERS = ROOT / "perf" / "peers"
# Where peers are built that do not build where they stand.
BUILT = TARGET / "peers"
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

# ringrelay without the hold that its p50 is compared to.
NO_HOLD = "ringrelay-no-hold"

NOT_MEASURED = {
    "uWebSockets.js": "not in the npm registry (its authors distribute it on GitHub only; packages of that name there are"
    " others'). Its C++ core is measured as uwebsockets, from the sources in the crate libuwebsockets-sys.",
    "nats-server": "its WebSocket listener carries the NATS protocol, CONNECT, SUB and PUB, and"
    " closes a connection that sends anything else with 1002: the messages of these scenarios mean nothing to it.",
}


@dataclass(frozen=True)
class Server:
    """One program under test: how to make it, and its command line, given a folder for its files and whether by TLS."""

    name: str
    # With {} for each of the versions.
    text: str
    prepare: callable
    command: callable
    can: frozenset = frozenset({RELAY, ECHO})
    is_peer: bool = True
    # One of those that are run unless others are asked for.
    is_usual: bool = False
    # Its shards run on both cores, of which loadgen has one.
    has_both_cores: bool = False
    # The line of its log that says that it listens, with the port unless the folder's file `port` has it.
    listens: str = r"Listening on \S*:(\d+)"
    # Each says the version of a part, or nothing where it cannot.
    versions: tuple = ()

    @property
    def about(self):
        """What it is, with the versions that are installed or pinned."""
        return " ".join(self.text.format(*[ask() for ask in self.versions]).split())

    def unable(self, scenario):
        """What the scenario needs and this server cannot do, in words; empty if it can."""
        return ", ".join(sorted(scenario.needs - self.can))


def debian(package):
    """The version of an installed package, without the distribution's part."""

    def ask():
        if not shutil.which("dpkg-query"):
            return ""
        found = capture("dpkg-query", "-W", "-f", "${Version}", package).stdout
        return re.sub(r"^\d+:|[-+~].*$", "", found)

    return functools.cache(ask)


def locked_crate(peer, crate):
    """The version of a peer's lock file."""

    def ask():
        packages = tomllib.loads((PEERS / peer / "Cargo.lock").read_text())["package"]
        return next(package["version"] for package in packages if package["name"] == crate)

    return ask


def locked_npm(peer, package):
    def ask():
        return json.loads((PEERS / peer / "package-lock.json").read_text())["packages"][f"node_modules/{package}"]["version"]

    return ask


def written_in(file, pattern):
    """What a pattern finds in a peer's own file."""
    return lambda: re.search(pattern, (PEERS / file).read_text()).group(1)


def need(path, maker):
    if not path.exists():
        raise Failure(f"no {path}: run `{maker}`")


def run(*command, **more):
    """Its output goes to stderr and, where it fails, into the reason."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    print(done.stdout, end="", file=sys.stderr)
    if done.returncode:
        raise Failure(f"{Path(command[0]).name} ended with {done.returncode}: {' / '.join(done.stdout.split(chr(10))[-4:])}")


def need_tools(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        raise Failure(f"not installed: {', '.join(missing)}")


def certificate():
    """A certificate and its key for 127.0.0.1, made once."""
    folder = BUILT / "tls"
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not (cert.exists() and key.exists()):
        need_tools("openssl")
        folder.mkdir(parents=True, exist_ok=True)
        names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650")
        run("openssl", "req", "-x509", *kind, *names, "-keyout", key, "-out", cert)
    return cert, key


def ringrelay(name, about, driver, shards=1, is_usual=True, window=""):
    """`window`: what each endpoint says beside path and mode."""
    binary = TARGET / "release" / "ringrelay"

    def prepare():
        need(binary, "make build-all")
        certificate()

    def command(folder, is_tls):
        cert, key = certificate()
        config = folder / "config.yaml"
        config.write_text(
            f"server:\n  {{host: 127.0.0.1, port: 0, shards: {shards}, driver: {driver},\n"
            f"   tls: {{enabled: {str(is_tls).lower()}, cert_file: '{cert}', key_file: '{key}'}}}}\n"
            "metrics: {enabled: false}\n"
            f"endpoints: [{{path: /, mode: relay{window}}}, {{path: '/rooms/{{topic}}', mode: relay{window}}},"
            f" {{path: /echo, mode: echo{window}}}]\n"
        )
        return [binary, "--config", config]

    everything = frozenset({RELAY, ECHO, TOPICS, TLS})
    return Server(name, about, prepare, command, everything, False, is_usual, has_both_cores=shards > 1)


def cargo(name, text, is_usual=False):
    """A peer in Rust, in a workspace of its own; its name is that of the crate that it shows."""

    def prepare():
        need_tools("cargo")
        manifest = PEERS / name / "Cargo.toml"
        run("cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", manifest, "--target-dir", BUILT)

    command = [BUILT / "release" / f"peer-{name}", "0"]
    return Server(name, text, prepare, lambda *_: command, is_usual=is_usual, versions=(locked_crate(name, name),))


def npm(folder):
    """The packages of a lock file, once."""
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".installed-lock.json"
    if not (installed.exists() and installed.read_bytes() == lock.read_bytes()):
        need_tools("npm")
        run("npm", "ci", "--silent", "--no-fund", "--no-audit", cwd=folder)
        shutil.copy(lock, installed)


def scripted(name, about, **more):
    """A peer that a script beside it builds."""

    def prepare():
        run(PEERS / name / "build.sh", BUILT)

    return Server(name, about, prepare, lambda *_: [BUILT / f"peer-{name}", "0"], **more)


def bun_command(_, is_tls):
    return [PEERS / "bun/node_modules/.bin/bun", PEERS / "bun/server.js", "0", *(certificate() if is_tls else ())]


def prepare_node_ws():
    need_tools("node")
    npm(PEERS / "node-ws")


def prepare_websockets():
    wanted, venv = PEERS / "websockets" / "requirements.txt", BUILT / "websockets"
    installed = venv / "requirements.txt"
    if not (installed.exists() and installed.read_bytes() == wanted.read_bytes()):
        shutil.rmtree(venv, ignore_errors=True)
        run("python3", "-m", "venv", venv)
        run(venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted)
        shutil.copy(wanted, installed)


@functools.cache
def node_version():
    return capture("node", "--version").stdout.strip().removeprefix("v") if shutil.which("node") else ""


@functools.cache
def nginx_version():
    return capture("nginx", "-v").stderr.strip().rpartition("/")[2] if shutil.which("nginx") else ""


def prepare_nchan():
    need_tools("nginx")
    need(NGINX_MODULE, "apt-get install nginx libnginx-mod-nchan")


def nchan_command(folder, _):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])  # nginx cannot choose one by itself
    (folder / "port").write_text(port)
    text = (PEERS / "nchan" / "nginx.conf").read_text()
    for word, value in (("FOLDER", str(folder)), ("PORT", port), ("MODULE", str(NGINX_MODULE))):
        text = text.replace(word, value)
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]


SERVERS = [
    ringrelay("ringrelay", "io_uring", "io_uring"),
    ringrelay("ringrelay-epoll", "epoll", "epoll"),
    Server(
        "bun",
        "Bun {} `publish`",
        lambda: npm(PEERS / "bun"),
        bun_command,
        frozenset({RELAY, ECHO, TOPICS, TLS}),
        is_usual=True,
        versions=(locked_npm("bun", "bun"),),
    ),
    cargo("tokio-tungstenite", "tokio-tungstenite {}, feed and flush", is_usual=True),
    scripted(
        "uwebsockets",
        "uWebSockets (C++, of the crate libuwebsockets-sys {}) `publish`",
        can=frozenset({RELAY, ECHO, TOPICS}),
        versions=(written_in("uwebsockets/build.sh", r"CRATE=libuwebsockets-sys-(\S+)"),),
    ),
    cargo("fastwebsockets", "fastwebsockets {} on a buffered stream, flush"),
    cargo("axum", "axum {}, feed and flush"),
    scripted(
        "gorilla",
        "gorilla/websocket {}, prepared messages, held back and flushed",
        versions=(debian("golang-github-gorilla-websocket-dev"),),
    ),
    Server(
        "node-ws",
        "node {} `ws` {} with bufferutil",
        prepare_node_ws,
        lambda *_: ["node", PEERS / "node-ws/server.js", "0"],
        versions=(node_version, locked_npm("node-ws", "ws")),
    ),
    Server(
        "nchan",
        "nginx {} with nchan {}",
        prepare_nchan,
        nchan_command,
        frozenset({RELAY}),
        listens='using the "epoll" event method',
        versions=(nginx_version, debian("libnginx-mod-nchan")),
    ),
    Server(
        "websockets",
        "Python `websockets` {} on uvloop, `broadcast`",
        prepare_websockets,
        lambda *_: [BUILT / "websockets/bin/python", PEERS / "websockets/server.py", "0"],
        versions=(written_in("websockets/requirements.txt", r"websockets==(\S+)"),),
    ),
    ringrelay("ringrelay-2-shards", "io_uring, two shards", "io_uring", shards=2, is_usual=False),
    ringrelay(NO_HOLD, "io_uring, no topic is held", "io_uring", is_usual=False, window=", flush_window_us: 0"),
]
