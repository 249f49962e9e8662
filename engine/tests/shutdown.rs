//! SIGTERM: everything accepted is delivered, everybody hears the same last message and Close 1001, the process exits in
//! time, and the last line of its log balances.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::collections::HashMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engine::config::{Config, Driver};
use nix::sys::signal::Signal;
use support::crowd::{Crowd, End};
use support::process::Process;
use support::raw::BINARY;
use support::{Dice, config_with, drivers, eventually, for_each_setup};

const SUBSCRIBERS: usize = 40;
const PUBLISHERS: usize = 6;
/// Messages that a publisher sends before all are read from.
const MESSAGES_PER_TURN: usize = 8;
/// Bytes of publisher and sequence number at the start of each message.
const STAMP_BYTES: usize = 8;

/// Clients on one topic: the first [`PUBLISHERS`] also publish; each keeps what it heard.
struct Load {
    crowd: Crowd,
    runs: Vec<Vec<u64>>,
    published: [u32; PUBLISHERS],
    dice: Dice,
}

impl Load {
    fn join(process: &Process) -> Self {
        let mut crowd = Crowd::new();
        for _ in 0..SUBSCRIBERS + PUBLISHERS {
            crowd.join(process.address, "/rooms/load", None);
        }
        let runs = vec![Vec::new(); crowd.len()];
        Self { crowd, runs, published: [0; PUBLISHERS], dice: Dice::new(7) }
    }

    /// Everybody publishes and reads at full speed until `done`.
    fn run_until(&mut self, what: &str, mut done: impl FnMut(&Crowd, &[Vec<u64>]) -> bool) {
        let Self { crowd, runs, published, dice } = self;
        // Both closures look at what was heard; one at a time.
        let runs = std::cell::RefCell::new(runs);
        crowd.run_until(
            what,
            |number, _, _, payload| {
                runs.borrow_mut()[number].push(u64::from_le_bytes(*payload.first_chunk().unwrap()));
            },
            |crowd| {
                for (publisher, seq) in published.iter_mut().enumerate() {
                    // A few at a time: the server may well be faster than these readers.
                    for _ in 0..MESSAGES_PER_TURN {
                        if crowd.end(publisher).is_some() || crowd.waiting_bytes(publisher) > 64 << 10 {
                            break;
                        }
                        let mut payload = (((publisher as u64) << 32) | u64::from(*seq)).to_le_bytes().to_vec();
                        payload.resize(STAMP_BYTES + dice.below(2000) as usize, publisher as u8);
                        crowd.with(publisher, |member| member.send(BINARY, &payload));
                        *seq += 1;
                    }
                }
                done(crowd, &runs.borrow())
            },
        );
    }

    /// Checks that all runs are the same one, and that each publisher's messages in it begin with its first and have
    /// no gaps.
    fn check(&self, numbers: std::ops::Range<usize>) {
        let first = &self.runs[numbers.start];
        let mut next: HashMap<u64, u64> = HashMap::new();
        for stamp in first {
            let expected = next.entry(stamp >> 32).or_default();
            assert_eq!(stamp & 0xFFFF_FFFF, *expected, "publisher {}", stamp >> 32);
            *expected += 1;
        }
        for number in numbers {
            let run = &self.runs[number];
            assert!(run == first, "{number} heard {} messages, others {}", run.len(), first.len());
            assert_eq!(self.crowd.end(number), Some(End::Closed(1001)));
        }
    }

    fn heard(&self) -> u64 {
        self.runs.iter().map(|run| run.len() as u64).sum()
    }
}

/// The last line of the log.
#[derive(Debug, PartialEq)]
struct LastLine {
    accepted: u64,
    delivered: u64,
    dropped: u64,
    by_reason: HashMap<String, u64>,
    connections: u64,
    seconds: f64,
}

impl LastLine {
    /// Reads `shutdown accepted=A delivered=D dropped=R{reason=n,…} connections=C seconds=S`.
    fn of(log: &[String]) -> Self {
        let line = log.last().expect("something is logged");
        let (_, line) = line.split_once("shutdown accepted=").unwrap_or_else(|| panic!("the last line is {line:?}"));
        let fields: Vec<&str> = line.split(' ').collect();
        let [accepted, delivered, dropped, connections, seconds] = fields[..] else { panic!("fields of {line:?}") };
        let (dropped, reasons) = dropped.strip_prefix("dropped=").unwrap().split_once('{').unwrap();
        let reasons = reasons.strip_suffix('}').unwrap().split(',').filter(|reason| !reason.is_empty());
        let by_reason = reasons.map(|reason| {
            let (name, count) = reason.split_once('=').unwrap();
            (name.to_owned(), count.parse().unwrap())
        });
        Self {
            accepted: accepted.parse().unwrap(),
            delivered: delivered.strip_prefix("delivered=").unwrap().parse().unwrap(),
            dropped: dropped.parse().unwrap(),
            by_reason: by_reason.collect(),
            connections: connections.strip_prefix("connections=").unwrap().parse().unwrap(),
            seconds: seconds.strip_prefix("seconds=").unwrap().parse().unwrap(),
        }
    }

    fn check(&self) {
        assert_eq!(self.accepted, self.delivered + self.dropped, "{self:?}");
        assert_eq!(self.dropped, self.by_reason.values().sum::<u64>(), "{self:?}");
    }
}

/// Lags never matter here: only the deadline cuts.
fn patient(driver: Driver, shards: u16, shutdown_timeout_ms: u64) -> Config {
    let mut config = config_with(driver, shards, |endpoint| {
        endpoint.lag_bytes_max = 1 << 30;
        endpoint.lag_age_max_ms = 0;
    });
    config.server.shutdown_timeout_ms = shutdown_timeout_ms;
    config
}

fn terminate_under_load(driver: Driver, shards: u16, round: u64) {
    let mut process = Process::start(&format!("shutdown-{driver}-{shards}-{round}"), &patient(driver, shards, 10_000));
    let mut load = Load::join(&process);
    let warm = 200 + 150 * round as usize;
    load.run_until("all hear the load", |_, runs| runs.iter().all(|run| run.len() > warm));
    let began = Instant::now();
    process.signal([Signal::SIGTERM, Signal::SIGINT][round as usize % 2]);
    load.run_until("all are closed", |crowd, _| crowd.living() == 0);
    let (status, log) = process.wait_with_log();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    load.check(0..SUBSCRIBERS + PUBLISHERS);
    let line = LastLine::of(&log);
    line.check();
    assert_eq!((line.delivered, line.dropped), (load.heard(), 0));
    assert_eq!(line.connections, (SUBSCRIBERS + PUBLISHERS) as u64);
    assert!(line.seconds <= began.elapsed().as_secs_f64());
}

#[test]
fn everybody_hears_the_same_last_message_and_close_1001() {
    for_each_setup(|driver, shards| (0..5).for_each(|round| terminate_under_load(driver, shards, round)));
}

#[test]
fn who_never_reads_is_cut_at_the_deadline_and_the_exit_is_clean() {
    const STRAGGLERS: usize = 5;
    for_each_setup(|driver, shards| {
        let mut process = Process::start(&format!("stragglers-{driver}-{shards}"), &patient(driver, shards, 1500));
        let mut load = Load::join(&process);
        let stragglers = SUBSCRIBERS + PUBLISHERS - STRAGGLERS..SUBSCRIBERS + PUBLISHERS;
        for straggler in stragglers.clone() {
            load.crowd.with(straggler, |member| member.pause());
        }
        // More than the kernel holds for a straggler.
        load.run_until("the others hear the load", |_, runs| {
            runs[..stragglers.start].iter().all(|run| run.len() > 4000)
        });
        let began = Instant::now();
        process.signal(Signal::SIGTERM);
        load.run_until("the others are closed", |crowd, _| crowd.living() <= STRAGGLERS);
        let (status, log) = process.wait_with_log();
        let took = began.elapsed();
        assert_eq!(status.code(), Some(0), "{log:#?}");
        assert!(took > Duration::from_millis(1000) && took < Duration::from_millis(2500), "took {took:?}");
        load.check(0..stragglers.start);
        let line = LastLine::of(&log);
        line.check();
        assert!(line.by_reason["shutdown"] > 0 && line.by_reason.len() == 1, "{line:?}");
        // What the stragglers were sent waits in their sockets or was lost with the reset.
        assert!(line.delivered >= load.heard(), "{line:?}, {} heard", load.heard());
    });
}

#[test]
fn an_idle_server_ends_at_once() {
    for_each_setup(|driver, shards| {
        let mut process = Process::start(&format!("idle-{driver}-{shards}"), &patient(driver, shards, 10_000));
        process.signal(Signal::SIGTERM);
        let (status, log) = process.wait_with_log();
        let line = LastLine::of(&log);
        assert_eq!((status.code(), line.accepted, line.connections), (Some(0), 0, 0));
        assert!(line.seconds < 5.0, "{line:?}");
    });
}

/// A server that was told to stop and waits for one client that does not answer.
fn draining(test: &str, driver: Driver, first: Signal) -> (Process, Crowd) {
    let process = Process::start(&format!("{test}-{driver}"), &patient(driver, 2, 60_000));
    let mut crowd = Crowd::new();
    crowd.join(process.address, "/rooms/load", None);
    crowd.with(0, |member| member.pause());
    process.signal(first);
    (process, crowd)
}

#[test]
fn a_second_signal_ends_at_once_with_its_own_code() {
    for &driver in drivers() {
        for (first, second, code) in [(Signal::SIGTERM, Signal::SIGINT, 130), (Signal::SIGINT, Signal::SIGTERM, 143)] {
            let (mut process, _crowd) = draining(&format!("second-{code}"), driver, first);
            process.wait_for_line("shutting down");
            process.signal(second);
            assert_eq!(process.wait().code(), Some(code));
        }
    }
}

#[test]
fn a_draining_server_is_not_ready_and_takes_no_connections() {
    for &driver in drivers() {
        let (mut process, _crowd) = draining("draining", driver, Signal::SIGTERM);
        eventually("not ready", || process.get("/readyz").0 == 503);
        assert_eq!(process.get("/healthz").0, 200, "it is alive nevertheless");
        assert_eq!(process.get("/metrics").0, 200, "the admin port closes last");
        eventually("connections are refused", || TcpStream::connect(process.address).is_err());
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait().code(), Some(143));
    }
}
