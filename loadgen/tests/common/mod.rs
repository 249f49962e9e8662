//! Runs the real `loadgen` against real peers on free ports, and reads its JSON.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub(crate) fn loadgen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
}

/// The program under test, run by another that takes its command line behind its own arguments.
pub(crate) fn loadgen_by(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg(env!("CARGO_BIN_EXE_loadgen"));
    command
}

/// A null peer; it ends with the test.
pub(crate) struct Peer {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Peer {
    pub(crate) fn start(kind: &str, faults: &[&str]) -> Self {
        Self::start_by(loadgen(), kind, faults)
    }

    /// Starts it by a command that ends in the program under test.
    pub(crate) fn start_by(mut command: Command, kind: &str, faults: &[&str]) -> Self {
        command.args(["peer", kind, "--listen", "127.0.0.1:0"]).args(faults).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("Listening on ").unwrap().to_owned();
        Self { child, stdout, address }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the peer and returns how many faults of a kind it says it has made.
    pub(crate) fn faults(mut self, kind: &str) -> u64 {
        signal(self.pid(), "TERM");
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        let field = text.split_whitespace().find_map(|field| field.strip_prefix(&format!("{kind}=")));
        field.unwrap_or_else(|| panic!("no {kind} in {text:?}")).parse().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `loadgen` under way, with its stderr.
pub(crate) struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    stdout: ChildStdout,
}

impl Running {
    /// Starts with `--json -`.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_by(loadgen(), args)
    }

    /// Starts it by a command that ends in the program under test.
    pub(crate) fn start_by(mut command: Command, args: &[&str]) -> Self {
        command.args(args).args(["--json", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = child.stdout.take().unwrap();
        Self { child, stderr, stdout }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the live line of a second.
    pub(crate) fn wait_for_second(&mut self, second: u64) {
        self.wait_for_line(&format!("{second:>4} s"));
    }

    /// Waits for a line on stderr that begins like this, and returns the rest of it.
    pub(crate) fn wait_for_line(&mut self, start: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it ended before it said {start:?}");
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// Waits for the end: (exit code, report, rest of stderr).
    pub(crate) fn finish(mut self) -> (i32, Value, String) {
        let (mut report, mut errors) = (String::new(), String::new());
        self.stdout.read_to_string(&mut report).unwrap();
        self.stderr.read_to_string(&mut errors).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, serde_json::from_str(&report).unwrap_or(Value::Null), errors)
    }
}

/// Runs to the end: (exit code, report, stderr).
pub(crate) fn run(args: &[&str]) -> (i32, Value, String) {
    Running::start(args).finish()
}

/// Runs to the end, whatever it is: (exit code, stdout, stderr).
pub(crate) fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let output = loadgen().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A file for this test process.
pub(crate) fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("loadgen-{}-{name}", std::process::id()))
}

/// Does the same with each at the same time: for runs of which only the account matters.
pub(crate) fn at_once<T: Sync>(all: &[T], each: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| all.iter().for_each(|one| drop(scope.spawn(|| each(one)))));
}

/// Sends a signal by name.
pub(crate) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Stops a process for a time: the stimulus of some tests.
pub(crate) fn freeze(pid: u32, time: Duration) {
    signal(pid, "STOP");
    let began = Instant::now();
    while began.elapsed() < time {
        std::thread::park_timeout(time - began.elapsed());
    }
    signal(pid, "CONT");
}

/// A number in the report, by JSON pointer.
pub(crate) fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} is no number in {report:#}"))
}

/// Every key that the schema asks for is in the report, and the report has no other.
pub(crate) fn assert_described(value: &Value, schema: &Value, place: &str) {
    if let (Some(properties), Value::Object(object)) = (schema["properties"].as_object(), value) {
        let (wanted, found): (Vec<_>, Vec<_>) = (properties.keys().collect(), object.keys().collect());
        assert_eq!(wanted.iter().collect::<BTreeSet<_>>(), found.iter().collect(), "at {place}");
        for (key, schema) in properties {
            assert_described(&object[key], schema, &format!("{place}/{key}"));
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        values.iter().for_each(|value| assert_described(value, items, &format!("{place}[]")));
    }
}
