//! Clients that send at a steady rate, whatever becomes of their events, beside two that measure how an echo fares: on the
//! server under load, and on another that has no event targets and shows how the machine fares.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use engine::config::Driver;
use tungstenite::{Message, WebSocket};

use crate::support::{StopOnDrop, connect};
use crate::{Stage, close};

/// Clients at a time.
pub(crate) const CLIENTS: usize = 100;
/// Messages per second of all of them together.
const RATE: u32 = 500;
/// How often the echo is measured.
const ECHO_EVERY: Duration = Duration::from_millis(5);

/// What the load and its driver share.
#[derive(Default)]
pub(crate) struct Load {
    stop: AtomicBool,
    sent: AtomicU64,
    /// Of the echoes of the server under load, and of the other one, since they were last taken.
    latencies: [Mutex<Vec<Duration>>; 2],
}

/// The p99 of the echo over a span of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Echo {
    pub(crate) server: Duration,
    /// On the server that nothing is asked of but this.
    pub(crate) machine: Duration,
}

impl Load {
    /// Runs the load beside `play`; afterwards all clients have closed. Returns how many messages were sent.
    pub(crate) fn during(stage: &Stage, play: impl FnOnce(&Self)) -> u64 {
        let load = Self::default();
        let other = Stage::start(&crate::config(Driver::Auto, 1));
        std::thread::scope(|scope| {
            let threads = [load.senders(stage, scope), load.echo(stage, 0, scope), load.echo(&other, 1, scope)];
            let stop = StopOnDrop(&load.stop);
            play(&load);
            drop(stop);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        other.end();
        load.sent.load(Relaxed)
    }

    fn senders<'s>(&'s self, stage: &'s Stage, scope: &'s Scope<'s, '_>) -> ScopedJoinHandle<'s, ()> {
        scope.spawn(|| {
            let mut clients: Vec<WebSocket<TcpStream>> = (0..CLIENTS).map(|_| stage.connect()).collect();
            let began = Instant::now();
            for number in 0.. {
                if self.stop.load(Relaxed) {
                    break;
                }
                wait_until(began + Duration::from_secs(1) / RATE * number);
                let (client, number) = (number as usize % CLIENTS, number as usize / CLIENTS);
                clients[client].send(Message::text(format!("{client} {number}"))).unwrap();
                self.sent.fetch_add(1, Relaxed);
            }
            clients.into_iter().for_each(close);
        })
    }

    fn echo<'s>(&'s self, stage: &'s Stage, which: usize, scope: &'s Scope<'s, '_>) -> ScopedJoinHandle<'s, ()> {
        scope.spawn(move || {
            let mut client = connect(stage.0.address(), "/echo");
            while !self.stop.load(Relaxed) {
                let began = Instant::now();
                client.send(Message::text("echo")).unwrap();
                assert_eq!(client.read().unwrap(), Message::text("echo"));
                self.latencies[which].lock().unwrap().push(began.elapsed());
                wait_until(began + ECHO_EVERY);
            }
        })
    }

    /// Lets the load run for a while and returns how the echo fared meanwhile.
    pub(crate) fn run_for(&self, span: Duration) -> Echo {
        self.latencies.iter().for_each(|latencies| latencies.lock().unwrap().clear());
        wait_until(Instant::now() + span);
        let p99 = |which: usize| {
            let mut latencies = std::mem::take(&mut *self.latencies[which].lock().unwrap());
            assert!(!latencies.is_empty(), "no echo within {span:?}");
            latencies.sort_unstable();
            latencies[latencies.len() * 99 / 100]
        };
        Echo { server: p99(0), machine: p99(1) }
    }
}

/// Waits for a point in time; a load keeps its pace by it.
fn wait_until(when: Instant) {
    while let left = when.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
}
