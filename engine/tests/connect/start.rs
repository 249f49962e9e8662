//! `ringrelay start`: the chat preset, told on stdout.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::Client;
use super::support::seccomp;

#[test]
fn start_tells_its_port_serves_a_chat_and_stops_on_sigterm() {
    seccomp::obey();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringrelay"));
    command.args(["start", "--host", "127.0.0.1", "--metrics-port", "0", "--shards", "1"]).env("PORT", "0");
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("Starting server on port 0..."));
    let started = lines.next().unwrap();
    let port = started.strip_prefix("Server started on port ").unwrap_or_else(|| panic!("{started:?}"));

    let mut client = Client::start(&["--host", "127.0.0.1", "--port", port]);
    assert_eq!(client.greeting(), format!("Connecting to 127.0.0.1:{port} as anonymous..."));
    assert_eq!(client.line(), "Server: anonymous has joined the chat");
    client.write("anybody here?\n");
    assert_eq!(client.line(), "anonymous: anybody here?");

    kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).unwrap();
    let finished = client.wait();
    assert_eq!(finished.stdout, Vec::<String>::new(), "no leave notice");
    assert_eq!(finished.stderr, ["ringrelay connect: the server closed the connection: 1001 shutting down"]);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert_eq!(lines.next(), None);
}
