//! Subscribers that read slowly or not at all: who is struck, when and how, and that nobody else notices.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use engine::config::{Driver, EndpointConfig, SlowConsumer};
use engine::counters::{Dropped, Ended};
use engine::server::Server;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;
use support::crowd::{Crowd, End};
use support::process::Process;
use support::raw::{BINARY, RawClient};
use support::{PATIENCE, config_with, dial, eventually, for_each_setup, start};

const MESSAGE_BYTES: usize = 4096;
/// Messages that the slowest healthy reader may be behind the publisher: what keeps it healthy.
const AHEAD_MAX: u32 = 16;
/// Enough to fill the kernel's buffers of a stalled reader and `lag_bytes_max`: then it is struck.
const MESSAGES_TO_STRIKE: u32 = 180;
const MESSAGES: u32 = 400;
const LOG_BYTES_MAX: u64 = 8 << 20;
const LAG_BYTES_MAX: u64 = 256 << 10;
const CLOSE_TIMEOUT_MS: u64 = 3000;

/// A publisher (number 0), healthy readers and stalled ones on one topic of a server process.
struct Hall {
    process: Process,
    crowd: Crowd,
    healthy: Range<usize>,
    stalled: Range<usize>,
    /// By member: the last message heard, and how many were missing before it.
    heard: Vec<(u32, u64)>,
    published: u32,
}

impl Hall {
    fn open(driver: Driver, shards: u16, policy: SlowConsumer, each: usize) -> Self {
        let mut config = config_with(driver, shards, |endpoint| {
            endpoint.slow_consumer = policy;
            endpoint.lag_bytes_max = LAG_BYTES_MAX;
            endpoint.topic_log_bytes_max = LOG_BYTES_MAX;
            endpoint.close_timeout_ms = CLOSE_TIMEOUT_MS;
        });
        config.server.demo_page = false;
        let process = Process::start(&format!("slow-{driver}-{policy}"), &config);
        let mut crowd = Crowd::new();
        for _ in 0..=2 * each {
            crowd.join(process.address, "/rooms/hall", None);
        }
        let (healthy, stalled) = (1..1 + each, 1 + each..1 + 2 * each);
        for number in stalled.clone() {
            crowd.with(number, |member| member.pause());
        }
        let heard = vec![(0, 0); crowd.len()];
        Self { process, crowd, healthy, stalled, heard, published: 0 }
    }

    /// Publishes up to message `last`, at the pace of the slowest healthy reader, and waits until `done`.
    fn publish(&mut self, last: u32, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) || self.published < last {
            assert!(began.elapsed() < PATIENCE, "{what}");
            let slowest = self.heard[self.healthy.clone()].iter().map(|(heard, _)| *heard).min().unwrap();
            while self.published < last.min(slowest + AHEAD_MAX) {
                self.published += 1;
                let mut payload = self.published.to_le_bytes().to_vec();
                payload.resize(MESSAGE_BYTES, self.published as u8);
                self.crowd.with(0, |member| member.send(BINARY, &payload));
            }
            let heard = &mut self.heard;
            self.crowd.turn(Duration::from_millis(2), &mut |number, _, _, payload| {
                let (stamp, rest) = payload.split_first_chunk().unwrap();
                let message = u32::from_le_bytes(*stamp);
                assert!(rest.len() == MESSAGE_BYTES - 4 && rest.iter().all(|byte| *byte == message as u8));
                let (last, missing) = &mut heard[number];
                assert!(message > *last, "{number} heard {message} after {last}");
                *missing += u64::from(message - *last - 1);
                *last = message;
            });
        }
    }

    fn healthy_heard(&self, last: u32) -> bool {
        self.heard[self.healthy.clone()].iter().all(|(heard, _)| *heard == last)
    }

    fn resume(&mut self, numbers: Range<usize>) {
        for number in numbers {
            self.crowd.with(number, |member| member.resume());
        }
    }

    /// Nobody healthy was dropped or missed anything.
    fn check_healthy(&self) {
        for number in self.healthy.clone() {
            assert_eq!((self.heard[number], self.crowd.end(number)), ((self.published, 0), None), "{number}");
        }
        assert_eq!(self.crowd.end(0), None, "the publisher is connected");
    }

    fn metric(&self, name: &str, reason: &str) -> u64 {
        self.process.metric(&format!("{name}{{reason=\"{reason}\"}}")) as u64
    }
}

/// What the server may need beside the log: buffers to receive into, outboxes, what the allocator keeps.
const OTHER_BYTES_MAX: u64 = 4 << 20;

fn stalled_readers_harm_nobody(driver: Driver, shards: u16, policy: SlowConsumer, each: usize) {
    eprintln!("--- {driver}, {shards} shards, {policy}, {each} of each");
    let mut hall = Hall::open(driver, shards, policy, each);
    let before = hall.process.rss_bytes();
    hall.publish(MESSAGES_TO_STRIKE, "publishing goes on", |hall| hall.healthy_heard(MESSAGES_TO_STRIKE));
    if policy == SlowConsumer::Disconnect {
        half_of_the_stalled_see_their_close(&mut hall);
    }
    hall.publish(MESSAGES, "the healthy hear everything", |hall| hall.healthy_heard(MESSAGES));
    hall.check_healthy();
    let grown = hall.process.rss_bytes().saturating_sub(before);
    eprintln!("grown by {} KiB from {} KiB", grown >> 10, before >> 10);
    assert!(grown < LOG_BYTES_MAX + OTHER_BYTES_MAX, "grown by {grown} bytes");
    match policy {
        SlowConsumer::Disconnect => all_of_the_stalled_are_counted(&hall),
        SlowConsumer::Skip => the_stalled_go_on_with_the_newest(&mut hall),
    }
    hall.check_healthy();
}

/// Who reads again in time finds a run without gaps and Close 1013.
fn half_of_the_stalled_see_their_close(hall: &mut Hall) {
    let half = hall.stalled.start..hall.stalled.start + hall.stalled.len() / 2;
    hall.resume(half.clone());
    hall.publish(MESSAGES_TO_STRIKE, "who reads again is closed", |hall| {
        half.clone().all(|number| hall.crowd.end(number).is_some())
    });
    for number in half {
        assert_eq!((hall.crowd.end(number), hall.heard[number].1), (Some(End::Closed(1013)), 0), "{number}");
    }
}

/// Those who read again and the others, who are cut.
fn all_of_the_stalled_are_counted(hall: &Hall) {
    let stalled = hall.stalled.len() as u64;
    eventually("all are counted", || hall.metric("websocket_disconnections_total", "slow_consumer") == stalled);
    assert!(hall.metric("relay_dropped_total", "slow_consumer") >= stalled);
    assert_eq!(hall.process.metric("websocket_connections") as usize, hall.healthy.len() + 1);
}

/// All stalled ones read again, hear what comes now, and miss exactly what was counted.
fn the_stalled_go_on_with_the_newest(hall: &mut Hall) {
    assert_eq!(hall.process.metric("websocket_connections") as usize, hall.crowd.len(), "nobody is disconnected");
    hall.resume(hall.stalled.clone());
    let last = MESSAGES + 1;
    hall.publish(last, "everybody hears the newest message", |hall| {
        hall.heard[hall.healthy.start..].iter().all(|(heard, _)| *heard == last)
    });
    let missing = hall.heard[hall.stalled.clone()].iter().map(|(_, missing)| missing);
    assert!(missing.clone().all(|missing| *missing > 0), "each was skipped");
    assert_eq!(hall.metric("relay_dropped_total", "skipped"), missing.sum::<u64>());
}

#[test]
fn a_thousand_stalled_readers_harm_no_healthy_one() {
    stalled_readers_harm_nobody(Driver::IoUring, 3, SlowConsumer::Disconnect, 1000);
    stalled_readers_harm_nobody(Driver::Epoll, 3, SlowConsumer::Skip, 1000);
}

#[test]
fn a_hundred_stalled_readers_harm_no_healthy_one() {
    stalled_readers_harm_nobody(Driver::IoUring, 1, SlowConsumer::Skip, 100);
    stalled_readers_harm_nobody(Driver::Epoll, 1, SlowConsumer::Disconnect, 100);
}

/// A server in this process with one topic, a healthy reader that also publishes, and a reader that is slow.
struct Pair {
    server: Server,
    crowd: Crowd,
    slow: RawClient,
    heard: usize,
    began: Instant,
}

impl Pair {
    fn start(driver: Driver, shards: u16, change: impl FnMut(&mut EndpointConfig)) -> Self {
        let server = start(&config_with(driver, shards, change));
        let mut crowd = Crowd::new();
        crowd.join(server.address(), "/rooms/pair", None);
        let slow = dial(server.address());
        // A buffer of its own size, so that it does not grow to hold everything.
        setsockopt(&slow, RcvBuf, &(128 << 10)).unwrap();
        Self { server, crowd, slow: RawClient::upgrade(slow, "/rooms/pair"), heard: 0, began: Instant::now() }
    }

    fn publish(&mut self, messages: usize, message_bytes: usize) {
        self.began = Instant::now();
        self.crowd.with(0, |member| (0..messages).for_each(|_| member.send(BINARY, &vec![7; message_bytes])));
    }

    /// The healthy one reads until `done`. Returns the time since the last publish began.
    fn run_until(&mut self, what: &str, mut done: impl FnMut(&Server, usize) -> bool) -> Duration {
        let Self { server, crowd, heard, began, .. } = self;
        while !done(server, *heard) {
            assert!(began.elapsed() < PATIENCE, "{what}; heard {heard}");
            crowd.turn(Duration::from_millis(2), &mut |_, _, _, _| *heard += 1);
        }
        began.elapsed()
    }

    /// The slow one reads so much every 10 ms, from now on to its end. Tells how many bytes it has read.
    fn trickle(&mut self, chunk_bytes: usize) -> Arc<AtomicUsize> {
        let read = Arc::new(AtomicUsize::new(0));
        let (mut stream, sum) = (self.slow.stream.try_clone().unwrap(), Arc::clone(&read));
        std::thread::spawn(move || {
            let mut chunk = vec![0; chunk_bytes];
            while let Ok(bytes @ 1..) = stream.read(&mut chunk) {
                sum.fetch_add(bytes, Relaxed);
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        read
    }

    /// Ends the server; its books must balance.
    fn end(self) {
        self.server.shutdown();
        drop((self.crowd, self.slow));
        assert!(self.server.wait().total.is_balanced());
    }
}

fn ended(server: &Server, reason: Ended) -> u64 {
    server.counters().sum(|shard| &shard.disconnections[reason as usize])
}

fn nobody_was_cut(server: &Server) -> bool {
    let ended: u64 = Ended::ALL.iter().map(|reason| ended(server, *reason)).sum();
    let dropped = |reason: &Dropped| server.counters().sum(|shard| &shard.dropped[*reason as usize]);
    ended + Dropped::ALL.iter().map(dropped).sum::<u64>() == 0
}

#[test]
fn a_stalled_reader_is_struck_after_the_stall_time_while_publishers_wait() {
    for_each_setup(|driver, shards| {
        let mut pair = Pair::start(driver, shards, |endpoint| {
            (endpoint.lag_bytes_max, endpoint.stall_ms, endpoint.close_timeout_ms) = (64 << 10, 500, 100);
        });
        pair.publish(800, 8 << 10);
        let took = pair.run_until("the publisher goes on", |_, heard| heard == 800);
        assert!(took >= Duration::from_millis(500), "nobody waited: {took:?}");
        pair.run_until("the stalled one is counted", |server, _| ended(server, Ended::SlowConsumer) == 1);
        pair.end();
    });
}

#[test]
fn a_reader_that_keeps_draining_is_waited_for() {
    const MESSAGES: usize = 500;
    const BYTES: usize = MESSAGES * (8 << 10);
    for_each_setup(|driver, shards| {
        let mut pair = Pair::start(driver, shards, |endpoint| {
            (endpoint.lag_bytes_max, endpoint.stall_ms, endpoint.lag_age_max_ms) = (64 << 10, 1000, 0);
        });
        pair.publish(MESSAGES, 8 << 10);
        let read = pair.trickle(32 << 10);
        pair.run_until("everything is published", |_, heard| heard == MESSAGES);
        // Rings, window and kernel hold less than the other half.
        assert!(read.load(Relaxed) > BYTES / 2, "the publisher did not wait");
        pair.run_until("the slow one reads to the end", |_, _| read.load(Relaxed) >= BYTES);
        assert!(nobody_was_cut(&pair.server));
        pair.end();
    });
}

#[test]
fn a_reader_that_drains_too_slowly_is_struck_at_the_age_limit() {
    for_each_setup(|driver, shards| {
        let mut pair = Pair::start(driver, shards, |endpoint| {
            (endpoint.lag_bytes_max, endpoint.stall_ms, endpoint.lag_age_max_ms) = (256 << 10, 60_000, 200);
            endpoint.close_timeout_ms = 100;
        });
        pair.publish(400, 16 << 10);
        // 256 KiB take it 0.6 s.
        let _read = pair.trickle(4 << 10);
        let took = pair.run_until("it is struck", |server, _| ended(server, Ended::SlowConsumer) == 1);
        assert!(took >= Duration::from_millis(200), "struck after {took:?}");
        pair.run_until("the publisher goes on", |_, heard| heard == 400);
        pair.end();
    });
}

#[test]
fn one_message_always_fits_and_a_second_may_not() {
    for_each_setup(|driver, shards| {
        let mut pair = Pair::start(driver, shards, |endpoint| (endpoint.lag_bytes_max, endpoint.stall_ms) = (1, 20));
        pair.publish(1, 4 << 20);
        let waited = pair.began + Duration::from_millis(300);
        pair.run_until("time passes", |server, _| {
            assert!(nobody_was_cut(server), "struck for one message");
            Instant::now() > waited
        });
        assert_eq!(pair.slow.read_frame().payload, vec![7; 4 << 20]);
        pair.publish(2, 4 << 20);
        pair.run_until("two do not fit", |server, heard| heard == 3 && ended(server, Ended::SlowConsumer) == 1);
        pair.end();
    });
}

#[test]
fn a_write_without_progress_ends_at_its_timeout() {
    for_each_setup(|driver, shards| {
        let mut pair = Pair::start(driver, shards, |endpoint| endpoint.write_timeout_ms = 300);
        pair.publish(64, 16 << 10);
        let took = pair.run_until("the write ends", |server, _| ended(server, Ended::Write) == 1);
        assert!(took >= Duration::from_millis(300), "ended after {took:?}");
        pair.run_until("the publisher goes on", |_, heard| heard == 64);
        // The same where a client does not read its echoes.
        let echo = pair.crowd.join(pair.server.address(), "/echo", None);
        pair.crowd.with(echo, |member| {
            member.pause();
            (0..64).for_each(|_| member.send(BINARY, &[7; 64 << 10]));
        });
        pair.began = Instant::now();
        pair.run_until("the echo's write ends", |server, _| ended(server, Ended::Write) == 2);
        pair.end();
    });
}
