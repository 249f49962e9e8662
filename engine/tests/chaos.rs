//! Clients that do anything at any time, in an order that dice decide: the process lives, a healthy pair talks on, and the
//! books balance at the end.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use engine::config::{Config, Driver, EndpointConfig, Mode, SlowConsumer};
use nix::sys::signal::Signal;
use support::http::upgrade_request;
use support::process::Process;
use support::raw::{CLOSE, CONTINUATION, PING, RawClient, TEXT, close_payload, masked_frame, reset_on_close};
use support::tls::Certificate;
use support::{Dice, config, dial, directory, eventually, for_each_setup};

/// Clients at a time.
const CLIENTS: usize = 48;
/// What they do in all, per setup.
const STEPS: usize = 12_000;
/// Steps between two messages of the healthy pair.
const STEPS_PER_TALK: usize = 200;

const PATHS: [&str; 10] = [
    "/",
    "/rooms/a",
    "/rooms/b",
    "/rooms/c",
    "/excluding/a",
    "/skipping/a",
    "/echo",
    "/echo?delay_ms=5",
    "/echo?close_after=2&delay_ms=1",
    "/nowhere",
];

/// Small bounds, so that slow consumers, gates and timeouts are met often.
fn tight(driver: Driver, shards: u16) -> Config {
    let mut config = config(driver, shards);
    config.endpoints.push(EndpointConfig {
        slow_consumer: SlowConsumer::Skip,
        ..EndpointConfig::new("/skipping/{topic}", Mode::Relay)
    });
    config
        .endpoints
        .push(EndpointConfig { exclude_sender: true, ..EndpointConfig::new("/excluding/{topic}", Mode::Relay) });
    for endpoint in &mut config.endpoints {
        endpoint.message_bytes_max = 1 << 20;
        endpoint.publish_window_bytes = 16 << 10;
        endpoint.lag_bytes_max = 128 << 10;
        endpoint.stall_ms = 10;
        endpoint.close_timeout_ms = 200;
        endpoint.ping_interval_ms = 50;
        endpoint.pong_wait_ms = 1000;
    }
    config.endpoints.push(EndpointConfig::new("/healthy", Mode::Relay));
    config.server.handshake_timeout_ms = 200;
    config
}

/// What a client talks through.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A connection in whatever state its actions have brought it to.
struct Client {
    stream: Box<dyn Stream>,
    /// The same, below TLS.
    socket: TcpStream,
}

impl Client {
    fn connect(address: SocketAddr, certificate: Option<&Certificate>, dice: &mut Dice) -> Self {
        let (mut stream, socket): (Box<dyn Stream>, _) = match certificate {
            // Some speak plainly to a TLS port.
            Some(certificate) if dice.below(16) > 0 => {
                let stream = certificate.dial(address);
                let socket = stream.sock.try_clone().unwrap();
                (Box::new(stream), socket)
            }
            _ => {
                let stream = dial(address);
                let socket = stream.try_clone().unwrap();
                (Box::new(stream), socket)
            }
        };
        let path = PATHS[dice.below(PATHS.len() as u64) as usize];
        let mut bytes = upgrade_request(path, "").into_bytes();
        match dice.below(8) {
            0 => bytes.truncate(dice.below(bytes.len() as u64) as usize),
            1..=3 => (0..dice.below(5)).for_each(|_| bytes.extend(something(dice))),
            _ => {}
        }
        // On a busy machine the handshake's time may be up already.
        let _ = stream.write_all(&bytes);
        socket.set_nonblocking(true).unwrap();
        Self { stream, socket }
    }

    /// Does one thing. `None` if it was the last.
    fn act(mut self, dice: &mut Dice) -> Option<Self> {
        match dice.below(20) {
            0 => return None,
            1 => {
                reset_on_close(&self.socket);
                return None;
            }
            2 => {
                // A server that has reset the connection is ahead of us.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            3 => {
                let _ = self.stream.write_all(&masked_frame(CLOSE, &close_payload(1000)));
            }
            4..=9 => {
                let mut chunk = [0; 32 << 10];
                for _ in 0..dice.below(8) {
                    let _ = self.stream.read(&mut chunk);
                }
            }
            // What does not fit is left out: half a frame is as good as a whole one.
            _ => {
                let _ = self.stream.write(&something(dice));
            }
        }
        Some(self)
    }
}

/// A frame or several, mostly valid.
fn something(dice: &mut Dice) -> Vec<u8> {
    let size = match dice.below(10) {
        0 => dice.below(200 << 10),
        1..=3 => dice.below(20 << 10),
        _ => dice.below(200),
    };
    let payload = vec![b'x'; size as usize];
    match dice.below(40) {
        0 => (0..size.min(64)).map(|_| dice.below(256) as u8).collect(),
        1 => masked_frame(0x01, &payload),
        2 => masked_frame(CONTINUATION, &payload),
        3 => [masked_frame(0x02, &payload), masked_frame(CONTINUATION, b"end")].concat(),
        4..=6 => masked_frame(PING, &payload[..payload.len().min(125)]).repeat(20),
        7..=9 => masked_frame(TEXT, b"many").repeat(2000),
        _ => masked_frame(TEXT, &payload),
    }
}

fn talk<S: Read + Write>(pair: &mut [RawClient<S>; 2], step: usize) {
    let message = step.to_be_bytes();
    pair[step / STEPS_PER_TALK % 2].send(0x82, &message).unwrap();
    for hearer in pair {
        assert_eq!(hearer.read_frame().payload, message);
    }
}

#[test]
fn clients_that_do_anything_at_any_time_harm_nobody_and_the_books_balance() {
    for_each_setup(|driver, shards| perform("chaos", &tight(driver, shards), None));
}

#[test]
fn nor_do_they_over_tls() {
    for_each_setup(|driver, shards| {
        let mut config = tight(driver, shards);
        let certificate = Certificate::install(&directory("chaos-certificate"), &mut config);
        perform("chaos-tls", &config, Some(&certificate));
    });
}

fn perform(name: &str, config: &Config, certificate: Option<&Certificate>) {
    let mut process = Process::start(name, config);
    match certificate {
        Some(certificate) => {
            let pair = [(); 2].map(|()| RawClient::upgrade(certificate.dial(process.address), "/healthy"));
            play(&process, pair, certificate.into());
        }
        None => play(&process, [(); 2].map(|()| RawClient::connect(process.address, "/healthy")), None),
    }
    process.signal(Signal::SIGTERM);
    let (status, log) = process.wait_with_log();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let last = log.last().unwrap();
    let [accepted, delivered, dropped] = ["accepted=", "delivered=", "dropped="].map(|key| number_after(last, key));
    assert_eq!(accepted, delivered + dropped, "{last}");
    assert!(delivered > 0 && dropped > 0, "{last}");
}

/// All steps, and the healthy pair in between.
fn play<S: Read + Write>(process: &Process, mut pair: [RawClient<S>; 2], certificate: Option<&Certificate>) {
    let mut dice = Dice::new(1);
    let mut clients: Vec<Option<Client>> = (0..CLIENTS).map(|_| None).collect();
    for step in 0..STEPS {
        let client = &mut clients[dice.below(CLIENTS as u64) as usize];
        *client = match client.take() {
            Some(client) => client.act(&mut dice),
            None => Some(Client::connect(process.address, certificate, &mut dice)),
        };
        if step % STEPS_PER_TALK == 0 {
            talk(&mut pair, step);
        }
    }
    drop(clients);
    eventually("only the pair is left", || process.metric("websocket_connections") == 2.0);
    assert_eq!(process.metric("websocket_disconnections_total{reason=\"internal\"}"), 0.0);
    talk(&mut pair, 0);
}

fn number_after(line: &str, key: &str) -> u64 {
    let rest = line.split_once(key).unwrap_or_else(|| panic!("no {key} in {line}")).1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
