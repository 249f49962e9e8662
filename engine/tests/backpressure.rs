//! Publishers that outrun the server are slowed by TCP; nobody is dropped and nobody misses anything, and connections
//! that ask for little are not kept waiting.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::ops::Range;
use std::time::{Duration, Instant};

use engine::config::Driver;
use engine::counters::{Dropped, Ended};
use engine::server::Server;
use support::crowd::Crowd;
use support::raw::BINARY;
use support::{PATIENCE, config, config_with, drivers, for_each_setup, start};

const TURN: Duration = Duration::from_millis(2);
/// Bytes that a flooding publisher keeps before its socket.
const FLOOD_BYTES: usize = 64 << 10;

const LAG_BYTES_MAX: u64 = 1 << 20;
/// How far the server may be ahead of the slowest reader: the lag, the publish window, the rings between shards, what
/// the kernel holds for one connection, what was under way when the gate closed.
const AHEAD_BYTES_MAX: u64 = LAG_BYTES_MAX + 5 * (512 << 10);

/// A message: publisher, sequence number, filling.
fn message(publisher: usize, seq: u32, bytes: usize) -> Vec<u8> {
    let mut payload = [(publisher as u32).to_le_bytes(), seq.to_le_bytes()].concat();
    payload.resize(bytes, publisher as u8);
    payload
}

/// Clients of one topic: the publishers, then those who only hear.
struct Room {
    server: Server,
    crowd: Crowd,
    publishers: usize,
    /// By member: how many messages of each publisher it has heard.
    heard: Vec<Vec<u32>>,
}

impl Room {
    fn open(driver: Driver, shards: u16, publishers: usize, listeners: usize) -> Self {
        let server = start(&config_with(driver, shards, |endpoint| {
            endpoint.lag_bytes_max = LAG_BYTES_MAX;
            // Far above what a busy machine does to a healthy reader.
            endpoint.stall_ms = 2000;
        }));
        let mut crowd = Crowd::new();
        for _ in 0..publishers + listeners {
            let number = crowd.join(server.address(), "/rooms/busy", None);
            crowd.with(number, |member| member.bound_receive_buffer(64 << 10));
        }
        let heard = vec![vec![0; publishers]; crowd.len()];
        Self { server, crowd, publishers, heard }
    }

    /// Everybody reads until everybody has heard `each` messages of every publisher, in its order. The server takes no
    /// more from the publishers than fits.
    fn hear_all(&mut self, each: u32, message_bytes: u64) {
        let (mut since, mut ahead_max) = (Instant::now(), 0);
        while self.heard.iter().any(|heard| heard.iter().any(|count| *count < each)) {
            let heard = &mut self.heard;
            self.crowd.turn(TURN, &mut |number, _, _, payload| {
                let (stamp, filling) = payload.split_first_chunk::<8>().unwrap();
                let publisher = u32::from_le_bytes(*stamp.first_chunk().unwrap());
                let seq = u32::from_le_bytes(*stamp.last_chunk().unwrap());
                let count = &mut heard[number][publisher as usize];
                assert_eq!(seq, *count, "{number}: the next message of {publisher}");
                assert!(filling.iter().all(|byte| *byte == publisher as u8));
                *count += 1;
                since = Instant::now();
            });
            assert!(since.elapsed() < PATIENCE, "nothing more is heard");
            assert_eq!(self.crowd.ended(), 0, "somebody was dropped");
            let slowest = self.heard.iter().map(|heard| heard.iter().sum::<u32>()).min().unwrap();
            let ahead = self.server.counters().sum(|shard| &shard.messages_received) - u64::from(slowest);
            ahead_max = ahead_max.max(ahead * message_bytes);
        }
        eprintln!("{} KiB ahead at most", ahead_max >> 10);
        assert!(ahead_max < AHEAD_BYTES_MAX, "{ahead_max} bytes ahead of the slowest reader");
    }

    /// The sums of a server on which nobody was dropped.
    fn end(mut self, each: u32) {
        let dropped = Dropped::ALL.iter().map(|reason| self.server.counters().sum(|c| &c.dropped[*reason as usize]));
        let ended = Ended::ALL.iter().map(|reason| self.server.counters().sum(|c| &c.disconnections[*reason as usize]));
        assert_eq!((dropped.sum::<u64>(), ended.sum::<u64>()), (0, 0));
        self.server.shutdown();
        self.crowd.run_until("all are closed", |_, _, _, _| panic!("more than was sent"), |crowd| crowd.living() == 0);
        let total = self.server.wait().total;
        let accepted = u64::from(each) * self.publishers as u64;
        assert_eq!((total.accepted, total.delivered), (accepted, accepted * self.heard.len() as u64));
    }
}

#[test]
fn one_publisher_with_everything_outstanding_is_slowed_and_everything_arrives() {
    const MESSAGES: u32 = 20_000;
    for_each_setup(|driver, shards| {
        let mut room = Room::open(driver, shards, 1, 30);
        room.crowd.with(0, |member| (0..MESSAGES).for_each(|seq| member.send(BINARY, &message(0, seq, 512))));
        room.hear_all(MESSAGES, 512);
        room.end(MESSAGES);
    });
}

#[test]
fn a_hundred_publishers_at_full_speed_are_slowed_and_everything_arrives() {
    const PUBLISHERS: usize = 100;
    const EACH: u32 = 300;
    for_each_setup(|driver, shards| {
        let mut room = Room::open(driver, shards, PUBLISHERS, 20);
        for publisher in 0..PUBLISHERS {
            room.crowd.with(publisher, |member| {
                (0..EACH).for_each(|seq| member.send(BINARY, &message(publisher, seq, 256)));
            });
        }
        room.hear_all(EACH, 256);
        room.end(EACH);
    });
}

#[test]
fn quiet_echo_connections_are_answered_beside_flooding_publishers() {
    for &driver in drivers() {
        quiet_beside_flood(driver, 3, 60, 1000);
        quiet_beside_flood(driver, 1, 60, 200);
    }
}

/// Each quiet connection asks now and then, one question at a time; the slowest hundredth of the answers is bounded.
fn quiet_beside_flood(driver: Driver, shards: u16, floods: usize, quiet: usize) {
    /// Generous, since server, floods and clock share a busy machine: a starved connection waits far longer.
    const P99_MAX: Duration = Duration::from_secs(1);
    const QUESTIONS: usize = 3;
    let server = start(&config(driver, shards));
    let mut crowd = Crowd::new();
    for flood in 0..floods {
        // Several rooms: a flood is heard by few and limited by the server, not by its readers.
        crowd.join(server.address(), &format!("/rooms/{}", flood % 20), None);
    }
    let quiets: Range<usize> = floods..floods + quiet;
    for _ in quiets.clone() {
        crowd.join(server.address(), "/echo", None);
    }
    let flood = message(0, 0, 512);
    let mut asked = vec![None; quiet];
    let (mut answers, mut flooded, mut next) = (Vec::new(), 0_u64, 0);
    let began = Instant::now();
    while answers.len() < QUESTIONS * quiet {
        assert!(began.elapsed() < PATIENCE, "{} of {} answers", answers.len(), QUESTIONS * quiet);
        for number in 0..floods {
            if crowd.waiting_bytes(number) < FLOOD_BYTES {
                crowd.with(number, |member| (0..64).for_each(|_| member.send(BINARY, &flood)));
            }
        }
        // A few questions per turn, each to one that has had its answer.
        for _ in 0..20 {
            let number = next % quiet;
            if asked[number].is_none() {
                asked[number] = Some(Instant::now());
                crowd.with(quiets.start + number, |member| member.send(BINARY, b"still there?"));
                next += 1;
            }
        }
        crowd.turn(TURN, &mut |number, _, _, payload| match number.checked_sub(floods) {
            None => flooded += 1,
            Some(quiet) => {
                assert_eq!(payload, b"still there?");
                let since: Instant = asked[quiet].take().expect("an answer to a question");
                answers.push(since.elapsed());
            }
        });
        assert_eq!(crowd.ended(), 0, "somebody was dropped");
    }
    answers.sort_unstable();
    let p99 = answers[answers.len() * 99 / 100];
    eprintln!(
        "{driver}, {shards} shards: p50 {:?}, p99 {p99:?}, {flooded} messages of floods",
        answers[answers.len() / 2]
    );
    assert!(p99 < P99_MAX, "p99 {p99:?}");
    assert!(flooded > 10_000, "only {flooded} messages of the floods were heard: that was none");
    server.shutdown();
    drop(crowd);
    assert!(server.wait().total.is_balanced());
}
