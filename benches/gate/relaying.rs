//! Whole shards at work on a [`Stage`]: real rings and epoll instances, real sockets, every byte that comes out checked.
//!
//! Each gate serves its clients step by step; a step is one write of a client, the turns that follow it, and what all
//! clients hear. Only the turns are measured.

use std::time::Duration;

use engine::config::{Config, EndpointConfig, Mode, SlowConsumer};
use engine::stage::Stage;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proto::{Opcode, encode};

use crate::Gate;
use crate::client::Client;
use crate::meter::Meter;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
/// What the process ends with where it may not have a ring.
const NO_IO_URING: i32 = 3;
/// Steps before the count: buffers and segments then have the size that the load needs.
const WARM_UP: usize = 300;
/// Steps that are counted of a gate of small messages.
const STEPS: usize = 1000;
/// Of a gate whose steps are long.
const LONG_STEPS: usize = 200;
/// What passes between two turns, for the shards: they would see none of it on a machine that is quick enough.
const TURN_TIME: Duration = Duration::from_micros(100);
/// Connections of the idle gate: between two sizes to which a growing table doubles.
const IDLE: usize = 6000;

/// The same gate on both drivers, under two names.
macro_rules! on_both {
    ($name:literal, $operation:literal, $operations:expr, $run:expr) => {
        [
            Gate {
                name: concat!($name, "/ring"),
                operation: $operation,
                operations: $operations as u64,
                run: |meter| ($run)(meter, true),
            },
            Gate {
                name: concat!($name, "/poll"),
                operation: $operation,
                operations: $operations as u64,
                run: |meter| ($run)(meter, false),
            },
        ]
    };
}

pub(crate) fn gates() -> Vec<Gate> {
    [
        on_both!("echo-d1", "message", STEPS, |meter, ring| echo(meter, ring, 1)),
        on_both!("echo-d16", "message", 16 * STEPS, |meter, ring| echo(meter, ring, 16)),
        on_both!("ping", "ping", STEPS, ping),
        on_both!("fragments", "message", STEPS, fragments),
        on_both!("fan-out-d1", "delivery", 101 * LONG_STEPS, |meter, ring| fan_out(meter, ring, 1, 100, 1)),
        on_both!("fan-out-d64", "delivery", 101 * 64 * LONG_STEPS, |meter, ring| fan_out(meter, ring, 1, 100, 64)),
        on_both!("fan-out-two-shards", "delivery", 101 * LONG_STEPS, |meter, ring| fan_out(meter, ring, 2, 100, 1)),
        on_both!("fan-out-64k", "delivery", 11 * LONG_STEPS, fan_out_large),
        on_both!("slow-reader", "message", LONG_STEPS, slow_reader),
        on_both!("close", "connection", STEPS, open_and_close),
        on_both!("idle", "connection", IDLE, idle),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A stage with its meter, so that what is served is measured.
struct Show<'m> {
    stage: Stage,
    meter: &'m mut Meter,
    heard: Vec<u8>,
}

impl<'m> Show<'m> {
    fn new(meter: &'m mut Meter, shards: usize, ring: bool) -> Self {
        let stage = Stage::new(&config(), shards, ring).unwrap_or_else(|error| {
            eprintln!("{error}");
            std::process::exit(if ring { NO_IO_URING } else { 1 });
        });
        Self { stage, meter, heard: Vec::new() }
    }

    fn connect(&mut self, shard: usize, path: &str) -> Client {
        let (client, socket) = Client::dial(path);
        self.stage.advance(TURN_TIME);
        let stage = &mut self.stage;
        self.meter.measure(|| {
            stage.connect(shard, socket);
            stage.turn();
        });
        assert!(client.is_upgraded(), "the server grants an upgrade on {path}");
        client
    }

    fn turn(&mut self) {
        self.stage.advance(TURN_TIME);
        let stage = &mut self.stage;
        self.meter.measure(|| {
            stage.turn();
        });
    }

    /// `client` says `said`; returns how many of `hearers` hear exactly `heard`.
    fn step(&mut self, client: &Client, said: &[u8], hearers: &[&Client], heard: &[u8]) -> usize {
        client.write(said);
        self.turn();
        hearers.iter().filter(|hearer| hearer.hears(heard, &mut self.heard)).count()
    }

    /// The steps of a gate: `warm_up` uncounted ones, then `steps` that count. Returns what the counted ones came to.
    fn run(&mut self, warm_up: usize, steps: usize, mut step: impl FnMut(&mut Self) -> usize) -> u64 {
        let expected = step(self);
        assert!(expected > 0, "the first step does its work");
        for _ in 1..warm_up {
            assert_eq!(step(self), expected, "every step does what the first did");
        }
        self.meter.begin(Some(self.stage.counters()));
        let done: usize = (0..steps).map(|_| step(self)).sum();
        self.meter.end(Some(self.stage.counters()));
        done as u64
    }
}

/// Endpoints as in the default configuration, and `/slow`, whose slow consumers are skipped once the gate lets time pass.
fn config() -> Config {
    let mut slow = EndpointConfig::new("/slow", Mode::Relay);
    slow.slow_consumer = SlowConsumer::Skip;
    slow.lag_bytes_max = 64 << 10;
    slow.stall_ms = 5_000;
    (slow.write_timeout_ms, slow.ping_interval_ms, slow.pong_wait_ms, slow.lag_age_max_ms) = (0, 0, 0, 0);
    let endpoints = vec![EndpointConfig::new("/", Mode::Relay), EndpointConfig::new("/echo", Mode::Echo), slow];
    Config { endpoints, ..Config::default() }
}

/// One frame of a client, and the same message from the server.
fn frames(opcode: Opcode, payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut said, mut heard) = (Vec::new(), Vec::new());
    encode::client_frame(&mut said, opcode, payload, KEY);
    encode::server_frame(&mut heard, opcode, payload);
    (said, heard)
}

/// `depth` messages of 64 bytes at a time, and their echoes.
fn echo(meter: &mut Meter, ring: bool, depth: usize) -> u64 {
    let mut show = Show::new(meter, 1, ring);
    let client = show.connect(0, "/echo");
    let (said, heard) = frames(Opcode::Text, &benches::text(64));
    let (said, heard) = (said.repeat(depth), heard.repeat(depth));
    show.run(WARM_UP, STEPS, |show| depth * show.step(&client, &said, &[&client], &heard))
}

fn ping(meter: &mut Meter, ring: bool) -> u64 {
    let mut show = Show::new(meter, 1, ring);
    let client = show.connect(0, "/echo");
    let (said, mut heard) = frames(Opcode::Ping, b"still there?");
    heard[0] = 0x80 | Opcode::Pong as u8;
    show.run(WARM_UP, STEPS, |show| show.step(&client, &said, &[&client], &heard))
}

/// A message of 64 bytes in four fragments, echoed.
fn fragments(meter: &mut Meter, ring: bool) -> u64 {
    let mut show = Show::new(meter, 1, ring);
    let client = show.connect(0, "/echo");
    let payload = benches::ascii(64);
    let mut said = Vec::new();
    for (index, piece) in payload.chunks(16).enumerate() {
        let start = said.len();
        let opcode = if index == 0 { Opcode::Text } else { Opcode::Continuation };
        encode::client_frame(&mut said, opcode, piece, KEY);
        if index < 3 {
            said[start] &= 0x7F;
        }
    }
    let (_, heard) = frames(Opcode::Text, &payload);
    show.run(WARM_UP, STEPS, |show| show.step(&client, &said, &[&client], &heard))
}

/// `depth` messages of 64 bytes at a time to `subscribers` and their publisher. With two shards these sit on both, and
/// the publisher on the one that is not the topic's home.
fn fan_out(meter: &mut Meter, ring: bool, shards: usize, subscribers: usize, depth: usize) -> u64 {
    let mut show = Show::new(meter, shards, ring);
    let clients: Vec<Client> = (0..subscribers).map(|index| show.connect(index % shards, "/")).collect();
    let publisher = show.connect(shards - 1, "/");
    let (said, heard) = frames(Opcode::Text, &benches::text(64));
    let (said, heard) = (said.repeat(depth), heard.repeat(depth));
    let hearers: Vec<&Client> = clients.iter().chain([&publisher]).collect();
    // Long messages first: they make the log's segments grow to their full size.
    let (said_long, heard_long) = frames(Opcode::Text, &benches::text(4096));
    for _ in 0..WARM_UP {
        assert_eq!(show.step(&publisher, &said_long, &hearers, &heard_long), hearers.len());
    }
    show.run(WARM_UP, LONG_STEPS, |show| depth * show.step(&publisher, &said, &hearers, &heard))
}

/// Messages of 64 KiB, each of which becomes a segment of its topic's log.
fn fan_out_large(meter: &mut Meter, ring: bool) -> u64 {
    let mut show = Show::new(meter, 1, ring);
    let clients: Vec<Client> = (0..10).map(|_| show.connect(0, "/")).collect();
    let publisher = show.connect(0, "/");
    let (said, heard) = frames(Opcode::Binary, &benches::binary(64 << 10));
    let hearers: Vec<&Client> = clients.iter().chain([&publisher]).collect();
    show.run(WARM_UP / 10, LONG_STEPS, |show| show.step(&publisher, &said, &hearers, &heard))
}

/// Messages of 4 KiB to one who reads and one who does not: the other is skipped again and again, and time passes
/// whenever publishers are stopped for its sake.
fn slow_reader(meter: &mut Meter, ring: bool) -> u64 {
    let mut show = Show::new(meter, 1, ring);
    let (reader, publisher) = (show.connect(0, "/slow"), show.connect(0, "/slow"));
    let stalled = show.connect(0, "/slow");
    let (said, heard) = frames(Opcode::Binary, &benches::binary(4096));
    let done = show.run(WARM_UP, LONG_STEPS, |show| {
        let mut heard_by = show.step(&publisher, &said, &[&reader, &publisher], &heard);
        if heard_by == 0 {
            show.stage.advance(Duration::from_secs(10));
            show.turn();
            heard_by = [&reader, &publisher].iter().filter(|hearer| hearer.hears(&heard, &mut show.heard)).count();
        }
        heard_by / 2
    });
    let skipped: u64 = show.stage.counters().iter().flat_map(|shard| &shard.dropped).map(|count| count.value()).sum();
    // All but what its socket holds, and what it may lag.
    let missed_min = (WARM_UP + LONG_STEPS) as u64 - 100;
    assert!(skipped >= missed_min, "the reader that stalls misses what others hear: {skipped}, not {missed_min}");
    drop(stalled);
    done
}

/// A connection from its opening handshake over one echo to the end of its closing handshake.
fn open_and_close(meter: &mut Meter, ring: bool) -> u64 {
    let mut show = Show::new(meter, 1, ring);
    let (said, heard) = frames(Opcode::Text, &benches::text(64));
    let (said_close, heard_close) = frames(Opcode::Close, &[3, 232]);
    show.run(WARM_UP, STEPS, |show| {
        let client = show.connect(0, "/echo");
        let echoed = show.step(&client, &said, &[&client], &heard);
        let closed = show.step(&client, &said_close, &[&client], &heard_close);
        let ended = client.is_ended();
        drop(client);
        show.turn();
        echoed & closed & usize::from(ended)
    })
}

/// Connections that have echoed once and wait: `held_bytes` is what each keeps.
fn idle(meter: &mut Meter, ring: bool) -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the limit may be raised to the hard one");
    let mut show = Show::new(meter, 1, ring);
    let (said, heard) = frames(Opcode::Text, &benches::text(64));
    drop(show.connect(0, "/echo"));
    show.turn();
    show.meter.begin(Some(show.stage.counters()));
    let clients: Vec<Client> = (0..IDLE).map(|_| show.connect(0, "/echo")).collect();
    let echoed = clients.iter().filter(|client| show.step(client, &said, &[client], &heard) == 1).count();
    show.meter.end(Some(show.stage.counters()));
    assert_eq!(show.stage.counters().sum(|shard| &shard.connections), IDLE as u64);
    echoed as u64
}
