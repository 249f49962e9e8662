//! `ringrelay healthcheck` against servers that are well, ending, silent or not there.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use support::process::Process;
use support::{config, directory, drivers};

fn check(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringrelay"));
    let Output { status, stdout, stderr } =
        command.arg("healthcheck").args(arguments).current_dir("/").output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_server_is_found_by_url_by_its_file_and_by_its_flags() {
    let process = Process::start("healthcheck-server", &config(drivers()[0], 1));
    let port = process.admin.port();
    let file = directory("healthcheck-file").join("server.yaml");
    let mut config = config(drivers()[0], 1);
    config.metrics.port = port;
    std::fs::write(&file, config.to_yaml()).unwrap();
    let url = format!("http://127.0.0.1:{port}/healthz");
    let answer = (0, format!("{url}: 200\n"), String::new());
    assert_eq!(check(&[&url]), answer);
    assert_eq!(check(&["--config", file.to_str().unwrap()]), answer);
    assert_eq!(check(&["--preset", "echo", "--metrics-port", &port.to_string()]), answer);
    let ready = format!("http://localhost:{port}/readyz");
    assert_eq!(check(&[&ready]).0, 0, "a name is resolved");
    let missing = format!("http://127.0.0.1:{port}/nothing");
    assert_eq!(check(&[&missing]), (1, String::new(), format!("{missing}: status 404\n")));
}

#[test]
fn who_does_not_answer_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (code, _, reason) = check(&[&url, "--timeout-ms", "50"]);
    assert_eq!(code, 1, "{reason}");
    assert!(reason.starts_with(&url), "{reason}");

    let answering = std::thread::spawn(move || {
        // The first is the one that gave up.
        let _ = listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let request = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        assert_eq!(request.count(), 3, "the request line, Host and Connection");
        stream.write_all(b"SSH-2.0-none\r\n").unwrap();
        (listener, stream)
    });
    assert_eq!(check(&[&url]), (1, String::new(), format!("{url}: the answer is no HTTP\n")));
    drop(answering.join().unwrap());
    let (code, _, reason) = check(&[&url]);
    assert!(code == 1 && reason.contains("Connection refused"), "{reason}");
}

#[test]
fn what_cannot_be_asked_is_told() {
    let (code, _, reason) = check(&["https://localhost/"]);
    assert_eq!((code, reason.as_str()), (2, "\"https://localhost/\" is not http://host:port/path\n"));
    let file = directory("healthcheck-off").join("off.yaml");
    std::fs::write(&file, "metrics: {enabled: false}\n").unwrap();
    let (code, _, reason) = check(&["--config", file.to_str().unwrap()]);
    assert_eq!((code, reason.as_str()), (1, "metrics.enabled is false: there is no admin port to ask; name a URL\n"));
    std::fs::write(&file, "metrics: {port: x}\n").unwrap();
    assert_eq!(check(&["--config", file.to_str().unwrap()]).0, 2);
}
