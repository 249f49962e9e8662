//! Events into a Redis: the server's own writer beside the same writer with one event under way at a time.
//!
//! Starts a Redis of its own; where `redis-server` is not installed it says so and measures nothing. Interleaved rounds; a
//! round's figures are events per second of the control thread's processor time and of the clock. Wants an optimised build:
//! `cargo bench -p benches --bench events`.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use benches::ascii;
use bytes::Bytes;
use engine::config::Config;
use engine::control::streams::stage::{Spent, write_events};

/// Bytes of an event's body.
const BODY_BYTES: usize = 64;
/// Rounds, of which the median counts.
const ROUNDS: usize = 7;
/// Events under way at a time, and how many are written in a round.
const WRITERS: [(usize, usize); 2] = [(512, 200_000), (1, 20_000)];
/// How long Redis may take to start.
const START_WITHIN: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    // As divan's benches do: a word on the command line that is not in the name leaves it out.
    if std::env::args().skip(1).any(|word| !word.starts_with('-') && !"events_into_redis".contains(&*word)) {
        return Ok(());
    }
    let Some(redis) = Redis::start()? else {
        println!("events_into_redis is left out: redis-server is not installed (apt-get install redis-server)");
        return Ok(());
    };
    let mut config = Config::default();
    config.stream_redis.addr = format!("redis://127.0.0.1:{}/0", redis.port);
    let mut spent: [Vec<Spent>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for ((under_way, events), spent) in WRITERS.into_iter().zip(&mut spent) {
            redis.command("*1\r\n$8\r\nFLUSHALL\r\n", "+OK\r\n")?;
            spent.push(write_events(&config, events, Bytes::from(ascii(BODY_BYTES)), under_way)?);
        }
    }
    println!("| under way | thousand events per CPU-second of the control thread | thousand events per second |");
    println!("|---|---|---|");
    for ((under_way, events), spent) in WRITERS.into_iter().zip(&spent) {
        let cpu = thousands(events, spent.iter().map(|spent| spent.cpu));
        let wall = thousands(events, spent.iter().map(|spent| spent.wall));
        println!("| {under_way} | {cpu} | {wall} |");
    }
    Ok(())
}

/// Thousand events per second: the median of the rounds, and the lowest and highest.
fn thousands(events: usize, spent: impl Iterator<Item = Duration>) -> String {
    let mut rates: Vec<f64> = spent.map(|spent| events as f64 / spent.as_secs_f64() / 1e3).collect();
    rates.sort_unstable_by(f64::total_cmp);
    format!("{:.0} ({:.0}–{:.0})", rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
}

/// A Redis that keeps nothing; killed when dropped.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// Starts one; `None` if it is not installed.
    fn start() -> Result<Option<Self>, Box<dyn Error>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        let process = match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            started => started?,
        };
        let redis = Self { process, port };
        let began = Instant::now();
        while let Err(error) = redis.command("*1\r\n$4\r\nPING\r\n", "+PONG\r\n") {
            if began.elapsed() > START_WITHIN {
                return Err(error);
            }
            yield_now();
        }
        Ok(Some(redis))
    }

    /// Sends a command and checks its answer.
    fn command(&self, command: &str, answer: &str) -> Result<(), Box<dyn Error>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.write_all(command.as_bytes())?;
        let mut answered = vec![0; answer.len()];
        stream.read_exact(&mut answered)?;
        if answered == answer.as_bytes() { Ok(()) } else { Err("Redis does not do what it is asked".into()) }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Failure means that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
