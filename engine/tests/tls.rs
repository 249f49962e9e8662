//! TLS: both versions, messages of all sizes, certificates that change, clients that do not speak it or stop reading, and
//! ends that are told from truncation.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::{ErrorKind, Read as _, Write as _};

use engine::config::{Config, Driver};
use engine::counters::{Ended, Refused};
use engine::server::Server;
use nix::sys::signal::Signal;
use support::http::{ask_upgrade_over, read_answer};
use support::process::Process;
use support::raw::{BINARY, CLOSE, Frame, RawClient, TEXT, close_payload};
use support::tls::{Certificate, TlsStream};
use support::{config, config_with, dial, directory, eventually, for_each_setup, start};

/// Has a configuration use a new certificate.
fn with_tls(name: &str, mut config: Config) -> (Config, Certificate) {
    let certificate = Certificate::install(&directory(&format!("tls-{name}")), &mut config);
    (config, certificate)
}

fn start_with_tls(name: &str, config: Config) -> (Server, Certificate) {
    let (config, certificate) = with_tls(name, config);
    (start(&config), certificate)
}

fn open(certificate: &Certificate, server: &Server, path: &str) -> RawClient<TlsStream> {
    RawClient::upgrade(certificate.dial(server.address()), path)
}

fn ended(server: &Server, reason: Ended) -> u64 {
    server.counters().sum(|shard| &shard.disconnections[reason as usize])
}

fn refused(server: &Server, reason: Refused) -> u64 {
    server.counters().sum(|shard| &shard.refused[reason as usize])
}

#[test]
fn messages_of_all_sizes_pass_by_both_versions() {
    for_each_setup(|driver, shards| {
        let (server, certificate) = start_with_tls("sizes", config(driver, shards));
        let address = server.address();
        let dials = || [certificate.dial(address), certificate.dial_1_2(address)];
        let sizes = [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20];
        let payload = |size: usize| (0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>();
        for stream in dials() {
            let mut client = RawClient::upgrade(stream, "/echo");
            for size in sizes {
                client.send(BINARY, &payload(size)).unwrap();
                assert!(client.read_frame() == Frame { first: BINARY, payload: payload(size) }, "{size} bytes");
            }
        }
        let mut members = dials().map(|stream| RawClient::upgrade(stream, "/rooms/a"));
        for speaker in 0..members.len() {
            for size in sizes {
                members[speaker].send(BINARY, &payload(size)).unwrap();
                for member in &mut members {
                    assert!(member.read_frame() == Frame { first: BINARY, payload: payload(size) }, "{size} bytes");
                }
            }
        }
    });
}

#[test]
fn every_end_is_said_by_close_notify() {
    // A stream that ends without it reads as an error, not as its end.
    for_each_setup(|driver, shards| {
        let (server, certificate) = start_with_tls("end", config(driver, shards));
        for path in ["/echo", "/rooms/a"] {
            let mut client = open(&certificate, &server, path);
            client.send(CLOSE, &close_payload(1000)).unwrap();
            assert_eq!(client.read_frame().close_code(), 1000);
            assert_eq!(client.read().unwrap(), None, "after the client's Close");

            let mut client = open(&certificate, &server, path);
            client.send(0xC1, b"reserved bit").unwrap();
            assert_eq!(client.read_frame().close_code(), 1002);
            assert_eq!(client.read().unwrap(), None, "after an error");

            let mut client = open(&certificate, &server, path);
            client.stream.conn.send_close_notify();
            client.stream.flush().unwrap();
            assert_eq!(client.read().unwrap(), None, "after the client's close_notify");
        }
        let mut client = open(&certificate, &server, "/echo?close_after=1&code=4000");
        client.send(TEXT, b"last").unwrap();
        assert_eq!(client.read_frame().payload, b"last");
        assert_eq!(client.read_frame().close_code(), 4000);
        client.send(CLOSE, &close_payload(4000)).unwrap();
        assert_eq!(client.read().unwrap(), None, "after the server's Close");

        // `read_answer` takes a reset for an end, but nothing else.
        for (target, status) in [("/nowhere", 404), ("/rooms/", 404), ("/echo?delay_ms=x", 400)] {
            assert_eq!(ask_upgrade_over(certificate.dial(server.address()), target).status, status);
        }
        drop(client);
        let mut page = certificate.dial(server.address());
        page.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = read_answer(&mut page);
        assert_eq!((answer.status, answer.body.ends_with("</html>\n")), (200, true));
        eventually("nobody is left", || server.counters().sum(|shard| &shard.connections) == 0);
        assert_eq!(ended(&server, Ended::Client), 4);
    });
}

#[test]
fn who_does_not_speak_tls_gets_an_alert_and_is_counted() {
    for_each_setup(|driver, shards| {
        let (server, certificate) = start_with_tls("plain", config(driver, shards));
        let mut healthy = open(&certificate, &server, "/echo");
        for plain in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"] {
            let mut stream = dial(server.address());
            stream.write_all(plain.as_bytes()).unwrap();
            let mut answer = Vec::new();
            // What came before a reset counts.
            let _ = stream.read_to_end(&mut answer);
            assert_eq!(answer.first(), Some(&0x15), "no alert but {answer:02x?}");
        }
        // A client that does not trust the certificate says so and goes.
        let (_, stranger) = with_tls("stranger", config(driver, shards));
        let error = stranger.dial(server.address()).write_all(b"GET").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        eventually("all are counted", || refused(&server, Refused::Tls) == 3);
        healthy.send(TEXT, b"unharmed").unwrap();
        assert_eq!(healthy.read_frame().payload, b"unharmed");
    });
}

#[test]
fn a_tls_handshake_that_is_not_finished_in_time_is_ended() {
    for_each_setup(|driver, shards| {
        let mut config = config(driver, shards);
        config.server.handshake_timeout_ms = 200;
        let (server, certificate) = start_with_tls("timeout", config);
        let mut silent = dial(server.address());
        let mut begun = dial(server.address());
        begun.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
        for stream in [&mut silent, &mut begun] {
            assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "nothing can be said before the handshake");
        }
        let mut secured = certificate.dial(server.address());
        secured.write_all(b"GET /echo").unwrap();
        assert_eq!(read_answer(&mut secured).status, 408);
        assert_eq!(refused(&server, Refused::Timeout), 3);
    });
}

#[test]
fn a_stalled_reader_is_cut_and_the_others_lose_nothing() {
    const MESSAGES: u32 = 400;
    for_each_setup(|driver, shards| {
        let (server, certificate) = start_with_tls(
            "stalled",
            config_with(driver, shards, |endpoint| {
                endpoint.lag_bytes_max = 1 << 20;
            }),
        );
        let [mut publisher, mut healthy, mut stalled] = [(); 3].map(|()| open(&certificate, &server, "/rooms/a"));
        let message = |i: u32| i.to_be_bytes().repeat(16 << 10);
        for i in 0..MESSAGES {
            publisher.send(BINARY, &message(i)).unwrap();
            for reader in [&mut publisher, &mut healthy] {
                assert!(reader.read_frame().payload == message(i), "message {i}");
            }
        }
        eventually("the stalled reader is dealt with", || ended(&server, Ended::SlowConsumer) == 1);
        let mut heard = 0;
        while let Ok(Some(frame)) = stalled.read() {
            if frame.first == CLOSE {
                assert_eq!(frame.close_code(), 1013);
                break;
            }
            assert!(frame.payload == message(heard), "message {heard}");
            heard += 1;
        }
        assert!(heard > 0 && heard < MESSAGES, "{heard} messages");
        assert_eq!(ended(&server, Ended::SlowConsumer), 1);
        publisher.send(TEXT, b"still here").unwrap();
        assert_eq!(healthy.read_frame().payload, b"still here");
    });
}

#[test]
fn sighup_reads_a_new_certificate_and_a_bad_one_leaves_the_old_in_use() {
    for_each_setup(|driver, shards| {
        let directory = directory("tls-reload");
        let mut config = config(driver, shards);
        let first = Certificate::install(&directory, &mut config);
        let mut process = Process::start("tls-reload-process", &config);
        let mut before = RawClient::upgrade(first.dial(process.address), "/echo");

        let second = Certificate::install(&directory, &mut config);
        process.signal(Signal::SIGHUP);
        process.wait_for_line("certificate and key were read again");
        let mut after = RawClient::upgrade(second.dial(process.address), "/echo");
        assert!(first.dial(process.address).write_all(b"GET").is_err(), "the first is not shown any more");

        let key = std::fs::read(&config.server.tls.key_file).unwrap();
        for (bad, reason) in [(&b"no key"[..], "key.pem"), (&b""[..], "key.pem")] {
            std::fs::write(&config.server.tls.key_file, bad).unwrap();
            assert_kept(&mut process, reason, &second);
        }
        // A key of another certificate.
        Certificate::install(&directory, &mut config);
        std::fs::write(&config.server.tls.key_file, key).unwrap();
        assert_kept(&mut process, "key.pem", &second);

        for client in [&mut before, &mut after] {
            client.send(TEXT, b"still here").unwrap();
            assert_eq!(client.read_frame().payload, b"still here");
        }
    });
}

/// Has the certificate read again, which must fail, and checks that `certificate` is still shown.
fn assert_kept(process: &mut Process, reason: &str, certificate: &Certificate) {
    const KEPT: &str = "the old certificate stays in use: ";
    let kept = |process: &mut Process| process.log().iter().filter(|line| line.contains(KEPT)).count();
    let before = kept(process);
    process.signal(Signal::SIGHUP);
    eventually("it is said", || kept(process) == before + 1);
    let last = process.log().iter().rfind(|line| line.contains(KEPT)).cloned().unwrap();
    assert!(last.contains(reason), "{last}");
    RawClient::upgrade(certificate.dial(process.address), "/echo");
}

#[test]
fn a_server_without_a_usable_certificate_does_not_start() {
    let (mut config, _certificate) = with_tls("unusable", config(Driver::Auto, 1));
    config.server.tls.key_file = config.server.tls.cert_file.clone();
    let error = Server::start(&config).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.starts_with("cannot serve TLS: ") && error.contains("cert.pem"), "{error:?}");
}
