//! Accepting: descriptors that run out and come back, limits with their status codes, clients that never finish asking.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use engine::config::{Config, ServerConfig};
use engine::counters::Refused;
use engine::server::Server;
use socket2::{Domain, Socket, Type};
use support::http::{ask_upgrade, read_answer, upgrade_request};
use support::process::Process;
use support::raw::{RawClient, TEXT, reset_on_close};
use support::{PATIENCE, StopOnDrop, config, dial, eventually, for_each_setup, start};

/// How long descriptors are missing.
const SHORTAGE: Duration = Duration::from_secs(10);
/// Clients that go on trying meanwhile.
const TRYING: usize = 8;

/// A server that may open so many files; it cannot raise the limit (prlimit of util-linux).
fn start_with_descriptors(count: u32, config: &Config) -> Process {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={count}:{count}")).arg(env!("CARGO_BIN_EXE_ringrelay"));
    Process::start_command(command, "accept", config)
}

/// Opens connections until one is turned away.
fn fill(process: &Process) -> Vec<RawClient> {
    let mut open = Vec::new();
    while let Some(client) = try_open(process.address) {
        open.push(client);
        assert!(open.len() < 80, "there is no limit");
    }
    open
}

fn assert_talks(client: &mut RawClient) {
    client.send(TEXT, b"still here").unwrap();
    assert_eq!(client.read_frame().payload, b"still here");
}

/// Connects again and again, as long as it is turned away. Returns how often.
fn keep_trying(address: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut turned_away = 0;
    while !stop.load(Relaxed) {
        let mut stream = dial(address);
        // Nothing is asked, so that any end is a refusal; a wait that ends with the shortage is none.
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        match stream.read(&mut [0]) {
            Ok(0) => turned_away += 1,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => turned_away += 1,
            _ => {}
        }
        // No TIME_WAIT for each try.
        reset_on_close(&stream);
    }
    turned_away
}

#[test]
fn the_listener_outlives_a_lack_of_descriptors() {
    for_each_setup(|driver, shards| {
        let process = start_with_descriptors(80, &config(driver, shards));
        let mut client = RawClient::connect(process.address, "/rooms/a");
        let mut fillers = fill(&process);
        assert!(fillers.len() > 16, "only {} connections of 80 descriptors", fillers.len());

        let stop = AtomicBool::new(false);
        let turned_away = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..TRYING).map(|_| scope.spawn(|| keep_trying(process.address, &stop))).collect();
            let stopping = StopOnDrop(&stop);
            let share = process.cpu_share_over(SHORTAGE);
            assert!(share < 0.05, "{:.1} % CPU while descriptors are missing", share * 100.0);
            assert_talks(&mut client);
            fillers.iter_mut().for_each(assert_talks);
            fillers.clear();
            let recovered = Instant::now();
            assert_talks(&mut RawClient::connect(process.address, "/rooms/b"));
            let took = recovered.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?} to recover");
            drop(stopping);
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        assert_talks(&mut client);
        assert!(turned_away > 0);
        assert!(process.metric("websocket_refused_total{reason=\"resources\"}") >= turned_away as f64);
        assert!(process.metric("relay_accept_errors_total{reason=\"emfile\"}") > 0.0);
    });
}

/// An echo connection; `None` if it is turned away.
fn try_open(address: SocketAddr) -> Option<RawClient> {
    let mut stream = dial(address);
    stream.write_all(upgrade_request("/echo", "").as_bytes()).ok()?;
    // A 101 is there, or an end.
    let came = stream.peek(&mut [0]).unwrap_or(0);
    (came > 0).then(|| RawClient::upgraded(stream))
}

fn server(driver: engine::config::Driver, shards: u16, limits: ServerConfig) -> Server {
    let mut config = config(driver, shards);
    config.server = ServerConfig { host: config.server.host, port: 0, driver, shards: config.server.shards, ..limits };
    start(&config)
}

/// Asks until it is refused. Returns what was granted, and the status of the refusal, which names a time to wait.
fn open_until_refused(server: &Server) -> (Vec<TcpStream>, u16) {
    let mut open = Vec::new();
    loop {
        let mut stream = dial(server.address());
        stream.write_all(upgrade_request("/rooms/a", "").as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        if answer.status != 101 {
            assert!(answer.header("Retry-After").is_some_and(|wait| wait.parse::<u32>().is_ok()), "{}", answer.head);
            return (open, answer.status);
        }
        open.push(stream);
        assert!(open.len() < 100, "there is no limit");
    }
}

#[test]
fn limits_answer_with_their_status_and_a_place_that_becomes_free_is_given_again() {
    let limits = ServerConfig::default();
    for_each_setup(|driver, shards| {
        for (limits, status, reason) in [
            (ServerConfig { connections_max: 3, ..limits.clone() }, 503, Refused::Full),
            (ServerConfig { connections_per_ip_max: 3, ..limits.clone() }, 429, Refused::PerIp),
        ] {
            let server = server(driver, shards, limits);
            let (mut open, refused_with) = open_until_refused(&server);
            assert_eq!((open.len(), refused_with), (3, status));
            assert_eq!(ask_upgrade(server.address(), "/echo", "").status, status, "for every endpoint");
            assert_eq!(server.counters().sum(|shard| &shard.refused[reason as usize]), 2);
            drop(open.pop());
            eventually("a place becomes free", || ask_upgrade(server.address(), "/rooms/a", "").status == 101);
            // That one is gone too.
            eventually("and free again", || ask_upgrade(server.address(), "/rooms/a", "").status == 101);
        }
    });
}

#[test]
fn the_limit_per_address_leaves_other_addresses_alone() {
    for_each_setup(|driver, shards| {
        let server = server(driver, shards, ServerConfig { connections_per_ip_max: 2, ..ServerConfig::default() });
        let (_open, status) = open_until_refused(&server);
        assert_eq!(status, 429);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        socket.connect(&server.address().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(upgrade_request("/echo", "").as_bytes()).unwrap();
        assert_eq!(read_answer(&mut stream).status, 101);
    });
}

#[test]
fn a_burst_above_the_accept_rate_is_told_to_come_later_and_may() {
    for_each_setup(|driver, shards| {
        let server = server(driver, shards, ServerConfig { accepts_per_second_max: 5, ..ServerConfig::default() });
        let (open, status) = open_until_refused(&server);
        assert_eq!(status, 429);
        assert!(open.len() >= 5, "{} at once", open.len());
        eventually("a second later", || ask_upgrade(server.address(), "/rooms/a", "").status == 101);
        assert!(server.counters().sum(|shard| &shard.refused[Refused::AcceptRate as usize]) > 0);
    });
}

#[test]
fn a_handshake_that_is_not_finished_in_time_is_answered_with_408() {
    for_each_setup(|driver, shards| {
        let server = server(driver, shards, ServerConfig { handshake_timeout_ms: 300, ..ServerConfig::default() });
        let request = upgrade_request("/echo", "");
        let mut streams: Vec<_> = ["", "GET", &request[..request.len() - 1]]
            .into_iter()
            .map(|begun| {
                let mut stream = dial(server.address());
                stream.write_all(begun.as_bytes()).unwrap();
                stream
            })
            .collect();
        let mut patient = RawClient::connect(server.address(), "/echo");
        // Bytes that go on coming do not prolong it.
        let mut dribbling = dial(server.address());
        let began = Instant::now();
        while dribbling.write_all(b"x").is_ok() && began.elapsed() < Duration::from_secs(1) {
            std::thread::park_timeout(Duration::from_millis(20));
            if dribbling.set_nonblocking(true).is_ok() && dribbling.peek(&mut [0]).is_ok() {
                break;
            }
        }
        dribbling.set_nonblocking(false).unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        streams.push(dribbling);
        for stream in &mut streams {
            assert_eq!(read_answer(stream).status, 408);
        }
        assert_talks(&mut patient);
        assert_eq!(server.counters().sum(|shard| &shard.refused[Refused::Timeout as usize]), 4);
    });
}
