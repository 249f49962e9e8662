//! The service manager's side of sd_notify(3): a socket that hears ready, reloading, stopping and the watchdog's food.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::fs;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use support::process::Process;
use support::raw::RawClient;
use support::{PATIENCE, config, config_with, directory, drivers, eventually};

/// Who listens at `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    /// As the environment names it.
    name: String,
}

impl Manager {
    /// A socket with a path, in a directory of the test's own.
    fn with_path(test: &str) -> Self {
        let path = directory(test).join("notify");
        Self::new(&SocketAddr::from_pathname(&path).unwrap(), path.to_str().unwrap().to_owned())
    }

    /// A socket of the abstract namespace.
    fn abstract_one(test: &str) -> Self {
        let name = format!("ringrelay/{test}/{}", std::process::id());
        Self::new(&SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}"))
    }

    fn new(address: &SocketAddr, name: String) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name }
    }

    /// The binary, to be started by this manager, with a watchdog that wants to be fed that often.
    fn command(&self, watchdog: Option<Duration>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringrelay"));
        command.env("NOTIFY_SOCKET", &self.name).env_remove("WATCHDOG_PID").env_remove("WATCHDOG_USEC");
        if let Some(within) = watchdog {
            command.env("WATCHDOG_USEC", within.as_micros().to_string());
        }
        command
    }

    /// The next message; status lines aside.
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        loop {
            let read = self.socket.recv(&mut bytes).unwrap();
            let text = String::from_utf8(bytes[..read].to_vec()).unwrap();
            if !text.starts_with("STATUS=") {
                return text;
            }
        }
    }

    /// What has arrived and was not read yet.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let messages = std::iter::from_fn(|| self.socket.recv(&mut bytes).ok().map(|read| bytes[..read].to_vec()));
        let messages = messages.map(|bytes| String::from_utf8(bytes).unwrap()).collect();
        self.socket.set_nonblocking(false).unwrap();
        messages
    }
}

fn monotonic_usec() -> u128 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros()
}

#[test]
fn ready_reload_and_stop_are_told_in_this_order_by_path_and_by_abstract_name() {
    for &driver in drivers() {
        for manager in [Manager::with_path("systemd-path"), Manager::abstract_one("systemd")] {
            let before = monotonic_usec();
            let config = config(driver, 2);
            let mut process = Process::start_command(manager.command(None), "systemd-order", &config);
            assert_eq!(manager.next(), "READY=1");
            TcpStream::connect(process.address).unwrap();
            process.signal(Signal::SIGHUP);
            let reloading = manager.next();
            let usec: u128 = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
            assert!((before..=monotonic_usec()).contains(&usec), "{usec}");
            assert_eq!(manager.next(), "READY=1");
            process.signal(Signal::SIGTERM);
            assert_eq!(manager.next(), "STOPPING=1");
            assert_eq!(process.wait().code(), Some(0));
            assert_eq!(manager.rest(), [""; 0], "without WATCHDOG_USEC nothing is fed");
        }
    }
}

/// A shard that does not run while this lives, as if it hung.
struct Frozen(Pid);

impl Frozen {
    fn shard(process: &Process, index: usize) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
        let name = format!("shard-{index}\n");
        let task =
            tasks.map(|task| task.unwrap().path()).find(|task| fs::read_to_string(task.join("comm")).unwrap() == name);
        let task = Pid::from_raw(task.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap());
        ptrace::seize(task, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(task).unwrap();
        waitpid(task, Some(WaitPidFlag::__WALL)).unwrap();
        Self(task)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        ptrace::detach(self.0, None).unwrap();
    }
}

#[test]
fn the_watchdog_is_fed_only_while_every_shard_answers() {
    const NOT_FED: &str = "watchdog not fed: 1 of 2 shards did not answer";
    const WITHIN: Duration = Duration::from_millis(600);
    for &driver in drivers() {
        let manager = Manager::with_path("systemd-watchdog-socket");
        let command = manager.command(Some(WITHIN));
        let mut process = Process::start_command(command, "systemd-watchdog", &config(driver, 2));
        assert_eq!(manager.next(), "READY=1");
        for _ in 0..3 {
            assert_eq!(manager.next(), "WATCHDOG=1");
        }
        let missed = |process: &mut Process| process.log().iter().filter(|line| line.contains(NOT_FED)).count();
        let before = missed(&mut process);
        let frozen = Frozen::shard(&process, 1);
        eventually("the shard is missed", || missed(&mut process) > before);
        manager.rest();
        let began = Instant::now();
        eventually("the shard is missed three times more", || missed(&mut process) >= before + 4);
        assert!(began.elapsed() >= WITHIN, "{:?}", began.elapsed());
        assert_eq!(manager.rest(), [""; 0], "a hanging shard, and the watchdog was fed");
        drop(frozen);
        assert_eq!(manager.next(), "WATCHDOG=1");
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait().code(), Some(0));
    }
}

#[test]
fn the_watchdog_is_fed_through_a_long_shutdown() {
    let manager = Manager::with_path("systemd-shutdown-socket");
    let command = manager.command(Some(Duration::from_millis(200)));
    let config = config_with(drivers()[0], 1, |endpoint| endpoint.close_timeout_ms = 1500);
    let mut process = Process::start_command(command, "systemd-shutdown", &config);
    // Never answers the Close.
    let _client = RawClient::connect(process.address, "/echo");
    process.signal(Signal::SIGTERM);
    while manager.next() != "STOPPING=1" {}
    for _ in 0..5 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn a_watchdog_of_another_process_is_not_fed_and_a_missing_socket_hurts_nobody() {
    let manager = Manager::with_path("systemd-other-socket");
    let mut command = manager.command(Some(Duration::from_millis(2)));
    command.env("WATCHDOG_PID", "1");
    let mut process = Process::start_command(command, "systemd-other", &config(drivers()[0], 1));
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(manager.rest(), ["READY=1", "STOPPING=1"]);

    let mut command = manager.command(None);
    command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    let mut process = Process::start_command(command, "systemd-missing", &config(drivers()[0], 1));
    process.wait_for_line("NOTIFY_SOCKET \"/nonexistent/notify\": No such file or directory");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code(), Some(0));
}
