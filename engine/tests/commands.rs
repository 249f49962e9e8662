//! The binary's commands as a shell sees them: what they print, where, and how they exit.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod seccomp;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a command printed and how it exited.
struct Finished {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The binary in an empty directory of its own, with nothing of ours in its environment.
fn ringrelay(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringrelay"));
    command.current_dir(directory).env_remove("PORT");
    command
}

fn finish(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        code: output.status.code().expect("no signal ends it"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// An empty directory, named after the test.
fn directory(test: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("commands-{test}"));
    _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Two ports that are free at the moment.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// `doctor` on ports that are free and limits that this machine certainly keeps, so that only io_uring decides.
fn doctor(directory: &Path) -> Command {
    let [port, metrics_port] = free_ports();
    let file = format!(
        "server: {{host: 127.0.0.1, port: {port}, backlog: 16, connections_max: 100}}\nmetrics: {{port: {metrics_port}}}\n"
    );
    std::fs::write(directory.join("config.yaml"), file).unwrap();
    let mut command = ringrelay(directory);
    command.arg("doctor");
    command
}

#[test]
fn what_check_prints_is_a_file_that_check_prints_the_same() {
    let directory = directory("check");
    let first = finish(ringrelay(&directory).args(["check", "--preset", "chat", "--port", "7"]));
    assert_eq!((first.code, first.stderr.as_str()), (0, ""));
    std::fs::write(directory.join("shown.yaml"), &first.stdout).unwrap();
    let second = finish(ringrelay(&directory).args(["check", "--config", "shown.yaml"]));
    assert_eq!((second.code, second.stdout), (0, first.stdout));
}

#[test]
fn every_preset_printed_by_config_is_valid_and_gives_the_preset() {
    let directory = directory("config");
    for preset in ["relay", "chat", "echo", "gateway"] {
        let printed = finish(ringrelay(&directory).args(["config", "--preset", preset]));
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
        std::fs::write(directory.join("preset.yaml"), &printed.stdout).unwrap();
        let by_file = finish(ringrelay(&directory).args(["check", "--config-file", "preset.yaml"]));
        let by_preset = finish(ringrelay(&directory).args(["check", "--preset", preset]));
        assert_eq!((by_file.code, &by_file.stdout), (0, &by_preset.stdout), "{preset}");
    }
}

#[test]
fn the_file_in_the_directory_is_read_but_not_with_a_preset() {
    let directory = directory("default-file");
    let port = |arguments: &[&str]| {
        let shown = finish(ringrelay(&directory).arg("check").args(arguments)).stdout;
        shown.lines().find_map(|line| line.strip_prefix("  port: ")).unwrap().to_owned()
    };
    assert_eq!(port(&[]), "8443");
    std::fs::write(directory.join("config.yaml"), "server: {port: 1234}\n").unwrap();
    assert_eq!(port(&[]), "1234");
    assert_eq!(port(&["--preset", "relay"]), "8443");
    assert_eq!(port(&["--preset", "relay", "--config", "config.yaml"]), "1234");
    assert_eq!(port(&["--port", "5"]), "5");
}

#[test]
fn mistakes_exit_with_2_and_tell_them_on_stderr() {
    let directory = directory("mistakes");
    std::fs::write(directory.join("bad.yaml"), "server:\n  prot: 1\n").unwrap();
    let message = "bad.yaml:2: server.prot: unknown key; did you mean port?\n";
    for arguments in [
        &["check", "--config", "bad.yaml"][..],
        &["doctor", "--config", "bad.yaml"],
        &["serve", "--config", "bad.yaml"],
        &["start", "--config", "bad.yaml"],
        &["--config", "bad.yaml"],
    ] {
        let finished = finish(ringrelay(&directory).args(arguments));
        assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (2, "", message));
    }
    let finished = finish(ringrelay(&directory).args(["check", "--config", "missing.yaml"]));
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.starts_with("missing.yaml: cannot be opened: "), "{}", finished.stderr);
    let finished = finish(ringrelay(&directory).arg("check").env("RINGRELAY_SERVER__PORT", "x"));
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.starts_with("environment variable RINGRELAY_SERVER__PORT: "), "{}", finished.stderr);
    let finished = finish(ringrelay(&directory).arg("--nonsense"));
    assert_eq!((finished.code, finished.stdout.as_str()), (2, ""));
}

#[test]
fn check_warns_of_a_certificate_that_is_not_there() {
    let directory = directory("certificate");
    std::fs::write(directory.join("tls.yaml"), "server: {tls: {enabled: true, cert_file: none.pem}}\n").unwrap();
    let finished = finish(ringrelay(&directory).args(["check", "--config", "tls.yaml"]));
    assert_eq!(finished.code, 0);
    assert!(finished.stderr.contains("server.tls.cert_file: none.pem cannot be read"), "{}", finished.stderr);
    let finished = finish(ringrelay(&directory).args(["doctor", "--config", "tls.yaml"]));
    assert_eq!(finished.code, 1);
    assert!(finished.stdout.contains("FIX   tls"), "{}", finished.stdout);
}

#[test]
fn version_and_help_exit_with_0() {
    let directory = directory("version");
    let version = finish(ringrelay(&directory).arg("--version"));
    assert_eq!((version.code, version.stdout), (0, format!("ringrelay {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(finish(ringrelay(&directory).arg("--help")).code, 0);
}

#[test]
fn an_answer_that_nobody_takes_exits_with_1() {
    let directory = directory("full");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = ringrelay(&directory).arg("config").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn messages_that_nobody_takes_change_no_exit_code() {
    let directory = directory("full-stderr");
    std::fs::write(directory.join("bad.yaml"), "server:\n  prot: 1\n").unwrap();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let code = |arguments: &[&str]| {
        let status = ringrelay(&directory).args(arguments).stderr(full()).status().unwrap();
        status.code().expect("no signal ends it")
    };
    assert_eq!(code(&["check", "--config", "bad.yaml"]), 2);
    assert_eq!(code(&["healthcheck", "http://127.0.0.1:1/"]), 1);
    assert_eq!(code(&["serve", "--config", "bad.yaml"]), 2);
}

#[test]
fn a_server_whose_log_cannot_be_written_goes_on_serving() {
    let directory = directory("full-log");
    let [port, metrics_port] = free_ports();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut server = ringrelay(&directory);
    server.args(["--preset", "echo", "--host", "127.0.0.1", "--port", &port.to_string()]);
    server.args(["--metrics-port", &metrics_port.to_string()]);
    let mut server = server.stderr(full).spawn().unwrap();
    let well = || {
        let url = format!("http://127.0.0.1:{metrics_port}/healthz");
        finish(ringrelay(&directory).args(["healthcheck", &url])).code == 0
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !well() {
        assert!(server.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(Instant::now() < deadline, "it does not serve");
    }
    // Each refusal is a line.
    for _ in 0..3 {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
    assert!(well());
    kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn doctor_takes_a_host_in_brackets() {
    let directory = directory("brackets");
    let finished = finish(doctor(&directory).args(["--host", "[::1]"]));
    assert!(finished.stdout.lines().any(|line| line.starts_with("ok    server port")), "{}", finished.stdout);
}

#[test]
fn doctor_tells_that_a_port_is_in_use() {
    let directory = directory("port");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let finished = finish(doctor(&directory).args(["--port", &port.to_string()]));
    assert_eq!(finished.code, 1);
    let expected = format!("127.0.0.1:{port} is in use");
    let line = finished.stdout.lines().find(|line| line.contains(&expected)).unwrap();
    assert!(line.starts_with("FIX   server port"), "{line}");
}

#[test]
fn doctor_asks_for_room_for_the_connections_configured() {
    let directory = directory("connections");
    let hard = engine::sys::limits::open_files().unwrap().hard;
    let file = format!("server: {{host: 127.0.0.1, port: 0, connections_max: {hard}}}\nmetrics: {{port: 0}}\n");
    std::fs::write(directory.join("many.yaml"), file).unwrap();
    let finished = finish(ringrelay(&directory).args(["doctor", "--config", "many.yaml"]));
    assert_eq!(finished.code, 1);
    assert!(finished.stdout.contains("FIX   descriptors"), "{}", finished.stdout);
}

#[test]
fn doctor_under_a_seccomp_filter_names_it_and_the_fix() {
    let directory = directory("seccomp");
    let finished = finish(seccomp::forbid_io_uring(&mut doctor(&directory)));
    let line = finished.stdout.lines().find(|line| line.contains("io_uring")).unwrap();
    assert!(line.starts_with("FIX   io_uring"), "{line}");
    assert!(line.contains("a seccomp filter forbids io_uring_setup"), "{line}");
    assert!(line.contains("run with a seccomp profile that allows io_uring_setup"), "{line}");
    assert!(finished.stdout.ends_with("1 thing to fix.\n"), "{}", finished.stdout);
    assert_eq!(finished.code, 1);
}

#[test]
fn with_the_epoll_driver_doctor_does_not_ask_for_io_uring() {
    let directory = directory("epoll");
    let finished = finish(seccomp::forbid_io_uring(doctor(&directory).args(["--driver", "epoll"])));
    assert!(finished.stdout.contains("note  io_uring"), "{}", finished.stdout);
    assert_eq!(finished.code, 0, "{}", finished.stdout);
}
