//! Where io_uring is forbidden, as in a container under Docker's default profile: epoll, or a refusal with the reason.
//!
//! With `RINGRELAY_TEST_SECCOMP=1` the other test files run in such a place as a whole.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::process::Command;

use engine::config::Driver;
use engine::server::Server;
use support::process::Process;
use support::raw::{RawClient, TEXT};
use support::{config, seccomp};

const FALLBACK: &str = "no io_uring, serving by epoll: ";

fn forbidden() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringrelay"));
    seccomp::forbid_io_uring(&mut command);
    command
}

fn assert_serves(process: &Process) {
    for path in ["/", "/rooms/a", "/echo"] {
        let mut client = RawClient::connect(process.address, path);
        client.send(TEXT, b"served").unwrap();
        assert_eq!(client.read_frame().payload, b"served");
    }
}

fn uses_io_uring(process: &Process) -> bool {
    process.open_files().iter().any(|file| file.contains("io_uring"))
}

#[test]
fn auto_falls_back_to_epoll_and_says_why_and_what_to_do_in_one_line() {
    for shards in [1, 3] {
        let mut process = Process::start_command(forbidden(), "fallback-auto", &config(Driver::Auto, shards));
        assert_serves(&process);
        assert!(!uses_io_uring(&process), "{:?}", process.open_files());
        assert_eq!(process.metric("relay_driver{driver=\"epoll\"}"), 1.0);
        assert_eq!(process.metric("relay_driver{driver=\"io_uring\"}"), 0.0);
        let log = process.log();
        let about: Vec<_> = log.iter().filter(|line| line.contains("io_uring")).collect();
        assert_eq!(about.len(), 1, "{about:#?}");
        assert!(about[0].contains(FALLBACK) && about[0].contains("a seccomp filter forbids io_uring_setup"));
        assert!(about[0].contains("run with a seccomp profile that allows io_uring_setup"), "{about:?}");
        assert!(log.iter().any(|line| line.contains("DRIVER=epoll")), "{log:#?}");
    }
}

#[test]
fn a_driver_that_is_demanded_and_forbidden_ends_the_start_with_the_reason() {
    let directory = support::directory("fallback-demanded");
    std::fs::write(directory.join("test.yaml"), config(Driver::Auto, 1).to_yaml()).unwrap();
    let output = forbidden().args(["--driver", "io_uring", "--config", "test.yaml"]).current_dir(&directory).output();
    let output = output.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(errors[0].contains("cannot use io_uring: a seccomp filter forbids io_uring_setup"), "{log}");
    assert!(!log.contains("Listening"), "{log}");
}

#[test]
fn epoll_that_is_asked_for_needs_no_excuse() {
    let mut config = config(Driver::Epoll, 1);
    config.server.driver = Driver::Epoll;
    let mut process = Process::start_command(forbidden(), "fallback-epoll", &config);
    assert_serves(&process);
    assert!(process.log().iter().all(|line| !line.contains("io_uring")), "{:#?}", process.log());
}

#[test]
fn auto_takes_io_uring_where_it_is_allowed() {
    let allowed = !seccomp::is_asked_for() && engine::sys::probe::probe_io_uring().is_ok();
    let mut process = Process::start("fallback-allowed", &config(Driver::Auto, 1));
    assert_serves(&process);
    assert_eq!(uses_io_uring(&process), allowed);
    assert_eq!(process.log().iter().any(|line| line.contains(FALLBACK)), !allowed);
}

#[test]
fn a_filter_on_the_starting_thread_alone_makes_a_server_in_this_process_fall_back_too() {
    let thread = std::thread::spawn(|| {
        seccomp::forbid_io_uring_here();
        let mut demanding = config(Driver::IoUring, 1);
        demanding.server.driver = Driver::IoUring;
        let refused = Server::start(&demanding).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("a seccomp filter forbids io_uring_setup"), "{refused:?}");
        let server = Server::start(&config(Driver::Auto, 3)).unwrap();
        let mut client = RawClient::connect(server.address(), "/rooms/a");
        client.send(TEXT, b"served").unwrap();
        assert_eq!(client.read_frame().payload, b"served");
    });
    thread.join().unwrap();
}
