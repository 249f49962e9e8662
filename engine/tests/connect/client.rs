//! A running `ringrelay connect` with pipes for stdin, stdout and stderr.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{PATIENCE, eventually_some};

/// Killed when dropped.
pub(crate) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// What a client printed after what was already looked at, and how it exited.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

/// The command with nothing of ours in its environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringrelay"));
    for name in ["HOST", "PORT", "USER_NAME"] {
        command.env_remove(name);
    }
    command.arg("connect").args(arguments);
    command
}

impl Client {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_command(command(arguments))
    }

    pub(crate) fn start_command(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take(), child, stdout, stderr }
    }

    /// Writes to its stdin.
    pub(crate) fn write(&mut self, text: impl AsRef<[u8]>) {
        self.stdin.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    /// Ends its stdin.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of its stdout.
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(PATIENCE).expect("it prints one more line")
    }

    /// The next line of its stderr.
    pub(crate) fn error_line(&self) -> String {
        self.stderr.recv_timeout(PATIENCE).expect("it prints one more line on stderr")
    }

    /// Reads the two lines that come before messages. Returns the first.
    pub(crate) fn greeting(&self) -> String {
        let first = self.line();
        assert_eq!(self.line(), "Type your messages (press Ctrl+C to exit):");
        first
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end; stdin stays as it is.
    pub(crate) fn wait(&mut self) -> Finished {
        let status = eventually_some("the client ends", || self.child.try_wait().unwrap());
        Finished { code: status.code(), stdout: self.stdout.iter().collect(), stderr: self.stderr.iter().collect() }
    }

    /// Ends its stdin and waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        self.end_input();
        self.wait()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Failure means that it has ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}
