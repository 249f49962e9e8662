//! Many connections on the binary: opened, used and closed they leave nothing behind, and idle they cost nothing.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::time::Duration;

use engine::config::Driver;
use engine::sys::limits;
use support::process::Process;
use support::raw::{BINARY, CLOSE, RawClient, TEXT, close_payload};
use support::{config, drivers, eventually};

/// Connections at a time. The server and its clients are two processes: each end needs a descriptor.
const CONNECTIONS: usize = 10_000;
/// Messages that everybody in the room hears.
const MESSAGES: u32 = 10;
/// What the process may keep for connections to come, in bytes.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// What it may keep more of after each further time.
const CREEP_BYTES_MAX: u64 = 2 << 20;

/// Opens all, half of them on the echo endpoint and half in one room, has each use what it opened, and ends them in
/// three ways.
fn open_use_and_close(process: &Process) {
    let mut clients: Vec<_> = (0..CONNECTIONS)
        .map(|i| RawClient::connect(process.address, if i % 2 == 0 { "/echo" } else { "/rooms/many" }))
        .collect();
    assert_eq!(process.metric("websocket_connections"), CONNECTIONS as f64);
    for (i, client) in clients.iter_mut().enumerate().step_by(2) {
        client.send(BINARY, &i.to_be_bytes()).unwrap();
    }
    for i in 0..MESSAGES {
        clients[1].send(BINARY, &i.to_be_bytes()).unwrap();
    }
    for (i, client) in clients.iter_mut().enumerate() {
        if i % 2 == 0 {
            assert_eq!(client.read_frame().payload, i.to_be_bytes());
        } else {
            (0..MESSAGES).for_each(|i| assert_eq!(client.read_frame().payload, i.to_be_bytes()));
        }
    }
    for (i, mut client) in clients.into_iter().enumerate() {
        match i % 5 {
            0 => client.reset(),
            1 => drop(client),
            _ => {
                client.send(CLOSE, &close_payload(1000)).unwrap();
                assert_eq!(client.read_frame().close_code(), 1000);
            }
        }
    }
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    limits::raise_open_files().unwrap();
    let hard = limits::open_files().unwrap().hard;
    assert!(hard > CONNECTIONS as u64 + 500, "the limit of open files is {hard}: raise it (ulimit -Hn)");
    for &driver in drivers() {
        let process = Process::start("many-connections", &config(driver, 2));
        // The first one pays for what is allocated once.
        RawClient::connect(process.address, "/rooms/many");
        eventually("it is gone", || process.metric("websocket_connections") == 0.0);
        let (files, start) = (process.open_files().len(), process.rss_bytes());
        let mut after = Vec::new();
        for _ in 0..3 {
            open_use_and_close(&process);
            eventually("all are gone", || process.metric("websocket_connections") == 0.0);
            eventually("all descriptors are given back", || process.open_files().len() <= files);
            after.push(process.rss_bytes());
        }
        let kept: Vec<_> = after.iter().map(|bytes| bytes.saturating_sub(start) >> 10).collect();
        assert!(after[2] < start + KEPT_BYTES_MAX, "{kept:?} KiB are kept");
        assert!(after[2] < after[1] + CREEP_BYTES_MAX, "{kept:?} KiB are kept, more each time");
        let metrics = ["relay_shard_connections{shard=\"0\"}", "relay_shard_connections{shard=\"1\"}"];
        assert_eq!(metrics.map(|name| process.metric(name)), [0.0, 0.0]);
        assert_eq!(process.metric("websocket_connections_total"), 3.0 * CONNECTIONS as f64 + 1.0);
        assert_eq!(process.metric("relay_accept_errors_total{reason=\"emfile\"}"), 0.0);
    }
}

#[test]
fn a_thousand_idle_connections_use_no_cpu_to_speak_of() {
    let share_of = |driver: Driver| {
        let process = Process::start(&format!("idle-{driver}"), &config(driver, 2));
        let mut clients: Vec<_> = (0..1000).map(|_| RawClient::connect(process.address, "/rooms/idle")).collect();
        clients[0].send(TEXT, b"used").unwrap();
        clients.iter_mut().for_each(|client| assert_eq!(client.read_frame().payload, b"used"));
        process.cpu_share_over(Duration::from_secs(10))
    };
    limits::raise_open_files().unwrap();
    std::thread::scope(|scope| {
        let shares: Vec<_> = drivers().iter().map(|&driver| (driver, scope.spawn(move || share_of(driver)))).collect();
        for (driver, share) in shares {
            let share = share.join().unwrap();
            assert!(share < 0.005, "{driver}: {:.2} % of a core", share * 100.0);
        }
    });
}
