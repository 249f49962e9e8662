//! Clients that make the server hold much for long: they cost only themselves.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::Write as _;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
use support::raw::{BINARY, CLOSE, RawClient, TEXT, close_payload, masked_header};
use support::{config_with, dial, drivers, for_each_setup, start};

/// Bytes that unfinished messages may hold on a shard before who holds them for longest is closed.
const TIGHT_BYTES: usize = 384 << 20;
/// Bytes that delayed echoes may hold on a shard.
const DELAYED_BYTES_MAX: usize = 256 << 20;
const TRY_AGAIN_LATER: u16 = 1013;

#[test]
fn unfinished_messages_that_hold_most_of_the_memory_are_the_first_to_go() {
    let piece = vec![b'x'; 110 << 20];
    for &driver in drivers() {
        let mut server = config_with(driver, 1, |endpoint| {
            (endpoint.message_bytes_max, endpoint.frame_bytes_max) = (128 << 20, 128 << 20);
        });
        server.metrics.enabled = false;
        let server = start(&server);
        let mut honest = RawClient::connect(server.address(), "/echo");
        let mut dribblers: Vec<RawClient> = Vec::new();
        while dribblers.len() * piece.len() <= TIGHT_BYTES {
            let mut dribbler = RawClient::connect(server.address(), "/echo");
            dribbler.stream.write_all(&masked_header(BINARY, 128 << 20)).unwrap();
            dribbler.stream.write_all(&piece).unwrap();
            dribblers.push(dribbler);
        }
        assert_eq!(dribblers[0].read_frame().close_code(), TRY_AGAIN_LATER, "it began first");
        // One that lies whole in no receive.
        let long = vec![b'y'; 1 << 20];
        honest.send(TEXT, &long).unwrap();
        assert_eq!(honest.read_frame().payload, long);
    }
}

#[test]
fn delayed_echoes_have_a_bound_that_their_senders_share() {
    let message = vec![b'x'; 15 << 20];
    for &driver in drivers() {
        let server = start(&config_with(driver, 1, |_| {}));
        let mut honest = RawClient::connect(server.address(), "/echo");
        let mut hoarders: Vec<RawClient> = Vec::new();
        while hoarders.len() * message.len() <= DELAYED_BYTES_MAX {
            let mut hoarder = RawClient::connect(server.address(), "/echo?delay_ms=60000");
            hoarder.send(TEXT, &message).unwrap();
            hoarders.push(hoarder);
        }
        assert_eq!(hoarders.last_mut().unwrap().read_frame().close_code(), TRY_AGAIN_LATER);
        honest.send(TEXT, b"hello").unwrap();
        assert_eq!(honest.read_frame().payload, b"hello");
        // Their memory is free again.
        hoarders.drain(..).for_each(RawClient::reset);
        let mut late = RawClient::connect(server.address(), "/echo?delay_ms=1");
        late.send(TEXT, &message).unwrap();
        assert_eq!(late.read_frame().payload.len(), message.len());
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the reader's pace, no wait for anything")]
fn a_close_waits_for_a_reader_that_goes_on_reading() {
    const MESSAGE_BYTES: usize = 6 << 20;
    for_each_setup(|driver, shards| {
        let server = start(&config_with(driver, shards, |endpoint| endpoint.close_timeout_ms = 300));
        let stream = dial(server.address());
        setsockopt(&stream, RcvBuf, &(64 << 10)).unwrap();
        let mut reader = RawClient::upgrade(stream, "/echo");
        reader.send(BINARY, &vec![b'x'; MESSAGE_BYTES]).unwrap();
        reader.send(CLOSE, &close_payload(1000)).unwrap();
        // Slowly, over more than twice the timeout.
        let began = std::time::Instant::now();
        let mut frames = 0;
        loop {
            std::thread::sleep(Duration::from_millis(8));
            if let Some((_, payload)) = reader.frames.next() {
                frames += 1;
                match frames {
                    1 => assert_eq!(payload.len(), MESSAGE_BYTES),
                    _ => break assert_eq!(payload, close_payload(1000)),
                }
                continue;
            }
            assert!(reader.frames.fill(&mut reader.stream).unwrap() > 0, "cut after {:?}", began.elapsed());
        }
        assert!(began.elapsed() > Duration::from_millis(600), "{:?}", began.elapsed());
    });
}
