//! A pipe: every line is said, every message is a line, the end of input is the end.

use nix::sys::signal::Signal;

use super::chat;
use super::client::{Client, command};
use super::host::Host;
use super::support::start;

#[test]
fn two_clients_of_a_chat_talk_through_pipes() {
    let server = start(&chat());
    let port = server.address().port().to_string();
    let mut ada = Client::start(&["--host", "127.0.0.1", "--port", &port, "--username", "ada lovelace"]);
    assert_eq!(ada.greeting(), format!("Connecting to 127.0.0.1:{port} as ada lovelace..."));
    assert_eq!(ada.line(), "Server: ada lovelace has joined the chat");
    let mut with_variables = command(&[]);
    with_variables.env("HOST", "127.0.0.1").env("PORT", &port).env("USER_NAME", "ben");
    let mut ben = Client::start_command(with_variables);
    assert_eq!(ben.greeting(), format!("Connecting to 127.0.0.1:{port} as ben..."));
    for client in [&ada, &ben] {
        assert_eq!(client.line(), "Server: ben has joined the chat");
    }
    ada.write("Grüße, 你好 🦀\n");
    for client in [&ada, &ben] {
        assert_eq!(client.line(), "ada lovelace: Grüße, 你好 🦀");
    }
    ben.write("two\nlines\n");
    for line in ["ben: two", "ben: lines"] {
        assert_eq!(ada.line(), line);
    }
    let finished = ben.finish();
    assert_eq!((finished.code, finished.stderr), (Some(0), vec![]));
    assert_eq!(ada.line(), "Server: ben has left the chat");
    let finished = ada.finish();
    assert_eq!((finished.code, finished.stdout, finished.stderr), (Some(0), vec![], vec![]));
}

#[test]
fn each_line_is_a_message_as_it_stands_and_the_end_of_input_closes_with_1000() {
    let host = Host::new();
    let mut client = Client::start(&[&host.url()]);
    let guest = host.accept();
    client.write(b"one\ntwo\r\n\n  three\t\xff\nlast without end");
    client.end_input();
    assert_eq!(guest.hear_all(), ["one", "two", "", "  three\t\u{fffd}", "last without end"]);
    assert_eq!(client.wait().code, Some(0));
}

#[test]
fn lines_that_the_server_takes_slowly_all_arrive_in_order() {
    const LINES: usize = 20_000;
    let host = Host::new();
    let mut client = Client::start(&[&host.url()]);
    let guest = host.accept();
    let padding = "x".repeat(500);
    std::thread::scope(|scope| {
        let (client, padding) = (&mut client, &padding);
        scope.spawn(move || {
            // 10 MB: more than pipe, client and sockets hold before the server reads anything.
            (0..LINES).for_each(|number| client.write(format!("{number} {padding}\n")));
            client.end_input();
        });
        let heard = guest.hear_all();
        assert_eq!(heard.len(), LINES);
        for (number, line) in heard.iter().enumerate() {
            assert_eq!(*line, format!("{number} {padding}"));
        }
    });
    assert_eq!(client.wait().code, Some(0));
}

#[test]
fn in_a_flood_of_messages_a_signal_is_heeded() {
    let host = Host::new();
    let mut client = Client::start(&[&host.url()]);
    let mut guest = host.accept();
    client.greeting();
    let flooding = std::thread::spawn(move || {
        // Until the client has gone.
        while guest.0.send(tungstenite::Message::text("flood")).is_ok() {}
    });
    (0..1000).for_each(|_| assert_eq!(client.line(), "flood"));
    client.signal(Signal::SIGINT);
    client.signal(Signal::SIGTERM);
    // The first closes and waits for the answer, the second does not.
    assert_eq!(client.wait().code, Some(143));
    flooding.join().unwrap();
}

#[test]
fn what_arrives_while_it_waits_for_the_servers_close_is_printed_and_nothing_in_it_is_obeyed() {
    let host = Host::new();
    let mut client = Client::start(&[&host.url()]);
    let mut guest = host.accept();
    client.greeting();
    client.end_input();
    // Its Close is read only after this is said.
    guest.say("a\x1b[31m\r\nb\u{202e}c");
    guest.0.send(tungstenite::Message::binary(vec![0; 7])).unwrap();
    assert_eq!(guest.hear(), None);
    let finished = client.wait();
    assert_eq!(
        (finished.code, finished.stdout),
        (Some(0), vec!["a�[31m��b�c".to_owned(), "[a binary message of 7 bytes]".to_owned()])
    );
}

#[test]
fn a_signal_closes_with_1000_and_a_second_one_does_not_wait() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let host = Host::new();
        let mut client = Client::start(&[&host.url()]);
        let mut guest = host.accept();
        client.greeting();
        client.signal(signal);
        assert_eq!(guest.hear(), None);
        assert_eq!(client.wait().code, Some(0));

        let mut client = Client::start(&[&host.url()]);
        let guest = host.accept();
        client.greeting();
        client.signal(signal);
        // The Close has come and is not answered.
        let mut byte = [0];
        guest.0.get_ref().peek(&mut byte).unwrap();
        client.signal(signal);
        assert_eq!(client.wait().code, Some(code));
    }
}
