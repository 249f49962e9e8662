//! `--reconnect`: again after a loss, after a refusal that may pass, and with what was to be said meanwhile.

use std::io::{Read, Write};

use nix::sys::signal::Signal;
use tungstenite::protocol::CloseFrame;

use super::client::Client;
use super::host::Host;

#[test]
fn a_lost_connection_is_made_again_and_what_was_typed_meanwhile_is_said() {
    let host = Host::new();
    let mut client = Client::start(&[&host.url(), "--reconnect"]);
    let mut guest = host.accept();
    client.greeting();
    client.write("first\n");
    assert_eq!(guest.hear().as_deref(), Some("first"));
    guest.0.close(Some(CloseFrame { code: 1001.into(), reason: "shutting down".into() })).unwrap();
    drop(guest);
    let told = client.error_line();
    assert!(told.starts_with("the server closed the connection: 1001 shutting down; next try in 0."), "{told}");
    client.write("second\n");

    // Turned away for the time being.
    let mut busy = host.accept_stream();
    let mut request = [0; 64];
    assert!(busy.read(&mut request).unwrap() > 0);
    busy.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").unwrap();
    drop(busy);
    let told = client.error_line();
    assert!(told.contains("the server answers 503 Service Unavailable; next try in "), "{told}");

    let mut guest = host.accept();
    assert_eq!(guest.hear().as_deref(), Some("second"));
    assert_eq!(client.error_line(), "Connected again.");
    guest.say("welcome back");
    assert_eq!(client.line(), "welcome back");
    client.end_input();
    assert_eq!(guest.hear(), None);
    assert_eq!(client.wait().code, Some(0));
}

#[test]
fn who_has_closed_is_not_connected_again_though_nobody_answered() {
    let host = Host::new();
    let mut client = Client::start(&[&host.url(), "--reconnect"]);
    let guest = host.accept();
    client.greeting();
    client.end_input();
    let mut byte = [0];
    guest.0.get_ref().peek(&mut byte).unwrap();
    drop(guest);
    let finished = client.wait();
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr[0].starts_with("ringrelay connect: the server did not answer the Close"), "{finished:?}");
}

#[test]
fn who_is_waiting_for_a_server_can_be_stopped() {
    let gone = Host::new().address();
    let mut client = Client::start(&[&format!("ws://{gone}/"), "--reconnect"]);
    assert!(client.error_line().contains("Connection refused"));
    client.signal(Signal::SIGINT);
    assert_eq!(client.wait().code, Some(130));
}

#[test]
fn a_handshake_that_hangs_can_be_stopped() {
    let host = Host::new();
    let mut client = Client::start(&[&host.url()]);
    let _never_answered = host.accept_stream();
    client.signal(Signal::SIGTERM);
    assert_eq!(client.wait().code, Some(143));
}
