//! No connection, or one that is lost: one clear line on stderr and the right exit code.

use std::io::Write;
use std::net::Shutdown;

use tungstenite::protocol::CloseFrame;

use super::chat;
use super::client::{Client, Finished};
use super::host::Host;
use super::support::tls::Certificate;
use super::support::{directory, start};

/// Runs a client that is expected to fail, and returns what it says of it.
fn failing(arguments: &[&str], code: i32) -> String {
    let Finished { code: exit, stderr, .. } = Client::start(arguments).wait();
    assert_eq!(exit, Some(code), "{arguments:?}: {stderr:?}");
    assert_eq!(stderr.len(), 1, "{stderr:?}");
    stderr.into_iter().next().unwrap()
}

#[test]
fn a_server_that_is_not_there_or_refuses_is_told_with_its_reason() {
    let gone = Host::new().address();
    let error = failing(&[&format!("ws://{gone}/ws")], 1);
    assert!(error.starts_with(&format!("ringrelay connect: cannot connect to {gone}: Connection refused")), "{error}");
    let error = failing(&["--host", "no.such.host.invalid"], 1);
    assert!(error.starts_with("ringrelay connect: cannot connect to no.such.host.invalid:8080: "), "{error}");

    let server = start(&chat());
    let (address, port) = (server.address(), server.address().port().to_string());
    let error = failing(&[&format!("ws://{address}/nowhere")], 1);
    assert_eq!(
        error,
        format!("ringrelay connect: cannot connect to {address}: the server answers 404 Not Found: no such path")
    );
    let error = failing(&["--host", "127.0.0.1", "--port", &port, "--username", &"x".repeat(51), "--reconnect"], 1);
    assert!(error.ends_with("400 Bad Request: username has 51 characters, allowed are 50"), "{error}");
    let error = failing(&[&format!("wss://{address}/ws"), "--insecure"], 1);
    assert!(error.contains(": TLS: "), "{error}");
}

#[test]
fn a_server_that_speaks_something_else_is_told() {
    let host = Host::new();
    let client = Client::start(&[&host.url()]);
    host.accept_stream().write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").unwrap();
    let finished = client.finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr[0].starts_with(&format!("ringrelay connect: cannot connect to {}: ", host.address())));
}

#[test]
fn a_connection_that_the_server_ends_is_told_with_its_reason() {
    let host = Host::new();
    for (code, reason, told) in [
        (1001, "shutting down", "the server closed the connection: 1001 shutting down"),
        (1013, "", "the server closed the connection: 1013"),
        (4000, "a\x1b[2Jb", "the server closed the connection: 4000 a\\u{1b}[2Jb"),
    ] {
        let mut client = Client::start(&[&host.url()]);
        let mut guest = host.accept();
        guest.0.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).unwrap();
        let finished = client.wait();
        assert_eq!((finished.code, finished.stderr), (Some(1), vec![format!("ringrelay connect: {told}")]));
    }
    let mut client = Client::start(&[&host.url()]);
    host.accept().0.get_ref().shutdown(Shutdown::Both).unwrap();
    let finished = client.wait();
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr[0].starts_with("ringrelay connect: the connection is lost: "), "{finished:?}");
}

#[test]
fn wss_believes_the_system_or_the_file_given_or_anybody() {
    let mut config = chat();
    let directory = directory("connect-wss");
    Certificate::install(&directory, &mut config);
    let server = start(&config);
    let url = format!("wss://localhost:{}/ws?username=ada", server.address().port());
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    for flags in [&["--ca", cert.to_str().unwrap()][..], &["--insecure"]] {
        let mut client = Client::start(&[&[url.as_str()], flags].concat());
        assert_eq!(client.greeting(), format!("Connecting to localhost:{} as ada...", server.address().port()));
        assert!(client.line().ends_with(" has joined the chat"));
        client.write("hello\n");
        assert!(client.line().ends_with(": hello"));
        let finished = client.finish();
        assert_eq!((finished.code, finished.stderr), (Some(0), vec![]));
    }
    let error = failing(&[&url], 1);
    assert!(
        error.contains("TLS: invalid peer certificate") || error.contains("no certificate in this system"),
        "{error}"
    );
    let error = failing(&[&url, "--ca", key.to_str().unwrap()], 1);
    assert!(error.contains("there is no certificate in "), "{error}");
    let error = failing(&[&url, "--ca", "/nowhere.pem"], 1);
    assert!(error.contains("cannot read /nowhere.pem: "), "{error}");
    let error = failing(&[&url.replace("localhost", "127.0.0.1"), "--ca", cert.to_str().unwrap()], 1);
    assert!(error.contains("TLS: invalid peer certificate"), "{error}");
}

#[test]
fn mistakes_in_what_was_typed_exit_with_2() {
    for arguments in [&["http://localhost/"][..], &["localhost:8080"], &["ws://"], &["ws://u:p@localhost/"]] {
        assert!(failing(arguments, 2).starts_with("ringrelay connect: "));
    }
    for arguments in [
        &["ws://h/", "--port", "1"][..],
        &["--port", "0"],
        &["--host", ""],
        &["--insecure", "--ca", "x"],
        &["--nonsense"],
        &["ws://h/", "ws://i/"],
    ] {
        assert_eq!(Client::start(arguments).wait().code, Some(2), "{arguments:?}");
    }
}
