//! The binary `ringrelay` as a process: started on ports that the kernel chooses, watched by its log, ended by signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use engine::config::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, dial, directory, eventually_some, seccomp};

/// A running binary; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    lines: Receiver<String>,
    /// What it has logged, as far as it was looked at.
    log: Vec<String>,
}

impl Process {
    /// Starts it with a configuration and waits until it listens. `test` names its directory.
    pub(crate) fn start(test: &str, config: &Config) -> Self {
        Self::start_command(Command::new(env!("CARGO_BIN_EXE_ringrelay")), test, config)
    }

    /// The same with a command prepared by the caller, which may run the binary by another program.
    pub(crate) fn start_command(mut command: Command, test: &str, config: &Config) -> Self {
        seccomp::obey();
        let directory = directory(test);
        std::fs::write(directory.join("test.yaml"), config.to_yaml()).unwrap();
        command.args(["serve", "--config", "test.yaml"]).current_dir(&directory).env_remove("PORT");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process = Self { child, address: nowhere, admin: nowhere, lines, log: Vec::new() };
        process.address = leading_address(&process.wait_for_line("Listening on "));
        if config.metrics.enabled {
            process.admin = leading_address(&process.wait_for_line("Admin on "));
        }
        process
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for a log line that contains `text`, now or earlier; what follows `text` is returned.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        self.wait_for_line_within(text, PATIENCE)
    }

    /// The same for a line that takes its time.
    pub(crate) fn wait_for_line_within(&mut self, text: &str, patience: Duration) -> String {
        let began = Instant::now();
        let mut looked_at = 0;
        loop {
            if let Some(line) = self.log[looked_at..].iter().find(|line| line.contains(text)) {
                return line.split_once(text).unwrap().1.to_owned();
            }
            looked_at = self.log.len();
            match self.lines.recv_timeout(patience.saturating_sub(began.elapsed())) {
                Ok(line) => self.log.push(line),
                Err(_) => panic!("{text:?} is never logged: {:#?}", self.log),
            }
        }
    }

    /// All that it has logged so far.
    pub(crate) fn log(&mut self) -> &[String] {
        self.log.extend(self.lines.try_iter());
        &self.log
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually_some("the process ends", || self.child.try_wait().unwrap())
    }

    /// Waits for its end and for the last of its log.
    pub(crate) fn wait_with_log(&mut self) -> (ExitStatus, Vec<String>) {
        let status = self.wait();
        // The reader ends with the process, and the channel with the reader.
        self.log.extend(self.lines.iter());
        (status, std::mem::take(&mut self.log))
    }

    /// Resident memory.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a living process has VmRSS");
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The answer of the admin port to a GET: status and body. Status 0: it does not answer.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path)
    }

    /// The value of a metric with its labels, e.g. `relay_dropped_total{reason="skipped"}`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200);
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what {} logged: {:#?}", self.child.id(), self.log());
        }
        // Failure means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address that a line goes on with, as text or within JSON.
fn leading_address(rest: &str) -> SocketAddr {
    let address = rest.split([' ', '"']).next().expect("a split has a first part");
    address.trim_end_matches(':').parse().unwrap()
}

/// One GET on a connection of its own: status and body. Status 0: the connection ends without an answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = dial(address);
    let mut answer = Vec::new();
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    // What arrived before a reset counts.
    let _ = asked.and_then(|()| stream.read_to_end(&mut answer).map(drop));
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}
