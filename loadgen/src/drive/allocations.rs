//! No message costs an allocation: a real thread of the generator against a real peer, once with few messages and once
//! with many.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::shared::{Schedule, Shared, Stage};
use super::worker::Worker;
use crate::cli::{FaultArgs, PeerArgs, PeerKind};
use crate::measure::stamp::Stamper;
use crate::peer::Peer;
use crate::sys::clock::now_ns;
use crate::sys::port::Driver;
use crate::sys::uring::UringPort;
use crate::wire::url::WsUrl;
use crate::workload::Load;
use crate::workload::build::{self, Common, Pacing, Target};

const SUBSCRIBERS: u32 = 20;

/// A rate is kept for so long; a closed loop ends earlier, when each publisher has sent its messages.
const RATE_NS: u64 = 300_000_000;
const LOOP_NS_MAX: u64 = 60_000_000_000;
const MESSAGES_PER_PUBLISHER: u32 = 500;

/// What fuller buffers may add per connection, when there are more messages at a time: each doubles a few times.
const GROWTH_MAX: u64 = 20;

/// A peer that ends with the test's process.
fn peer(kind: PeerKind) -> SocketAddr {
    let listen = "127.0.0.1:0".parse().unwrap();
    let args = PeerArgs { kind, listen, faults: FaultArgs::default(), capacity: None, work_ns: 0 };
    let mut peer = Peer::new(&args).unwrap();
    let address = peer.address().unwrap();
    thread::spawn(move || peer.run());
    address
}

fn load(kind: PeerKind, address: SocketAddr, pacing: Pacing) -> Load {
    let url = WsUrl::parse("ws://127.0.0.1/{n}").unwrap();
    let target = Target { url, address, tls: None, headers: Vec::new(), subprotocols: Vec::new() };
    let is_closed_loop = matches!(pacing, Pacing::Outstanding(_));
    let measure_ns = if is_closed_loop { LOOP_NS_MAX } else { RATE_NS };
    let common = Common { seed: 1, size: 64, measure_ns, ..Common::default() };
    let mut load = match kind {
        PeerKind::Echo => build::echo(&target, &common, SUBSCRIBERS, pacing, None).unwrap(),
        _ => build::relay(&target, &common, SUBSCRIBERS, 2, pacing).unwrap(),
    };
    let messages_max = is_closed_loop.then_some(MESSAGES_PER_PUBLISHER);
    load.publishers.iter_mut().for_each(|publisher| publisher.messages_max = messages_max);
    load
}

/// Drives a load on this thread: (allocations from the first connect to the last Close, deliveries).
fn drive(load: Load, driver: Driver) -> (u64, u64) {
    let (notes, inbox) = channel();
    let stamper = Arc::new(Stamper::new(load.run, load.seed, load.size_max()));
    let measure_ns = load.measure_ns;
    let (asked, shared) = (load.connections.len() as u64, Arc::new(Shared::new(load, 1, notes).unwrap()));
    let conductor = {
        let shared = shared.clone();
        let look = || thread::park_timeout(Duration::from_millis(1));
        thread::spawn(move || {
            while shared.sum(|p| &p.opened) < asked {
                look();
            }
            let start_ns = now_ns();
            shared.start(Schedule { start_ns, measure_ns: start_ns, end_ns: start_ns + measure_ns });
            let has_finished = || shared.threads[0].progress.has_finished_sending.load(Ordering::Acquire);
            while !has_finished() || shared.sum(|p| &p.booked) < shared.sum(|p| &p.expected) {
                look();
            }
            shared.enter(Stage::Close);
            drop(inbox);
        })
    };
    let worker = Worker::new(0, shared, stamper, driver).unwrap();
    let mut received = 0;
    let info = allocation_counter::measure(|| received = worker.run().unwrap().tally.counts.received);
    conductor.join().unwrap();
    (info.count_total, received)
}

#[test]
fn messages_cost_no_allocation() {
    let mut drivers = vec![Driver::Epoll];
    match UringPort::new() {
        Ok(_) => drivers.push(Driver::Uring),
        Err(error) => println!("SKIPPED io_uring: {error}"),
    }
    for kind in [PeerKind::Fanout, PeerKind::Echo] {
        let address = peer(kind);
        for driver in &drivers {
            let (few, received_few) = drive(load(kind, address, Pacing::Rate(100.0)), *driver);
            assert!(few > 0, "the counter counts");
            for pacing in [Pacing::Rate(10_000.0), Pacing::Outstanding(1), Pacing::Outstanding(64)] {
                let (many, received) = drive(load(kind, address, pacing), *driver);
                let what = format!("{kind:?} {pacing:?} by {}: {many} for {received} deliveries", driver.name());
                assert!(received >= received_few + 2000, "{what}, {received_few} for the few");
                assert!(many <= few + GROWTH_MAX * u64::from(SUBSCRIBERS), "{what}, {few} for {received_few}");
            }
        }
    }
}
