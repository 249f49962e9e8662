//! What is to be said: keys of a terminal or lines of a pipe, until it is given to the connection.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use super::editor::Typed;
use super::screen::Screen;

/// Bytes that wait at most before no more is read.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// What a line costs beside its text, in bytes.
const LINE_BYTES: usize = 64;

/// Bytes of a line from a pipe at most: what a ringrelay takes by default.
const LINE_BYTES_MAX: usize = 16 << 20;

/// See the module's description.
pub(super) struct Input {
    /// stdin without a buffer of its own: what was polled is what is read.
    stdin: File,
    /// A line of a pipe that is not complete.
    partial: Vec<u8>,
    /// Finished lines that nobody has taken.
    waiting: VecDeque<String>,
    waiting_bytes: usize,
    ended: bool,
}

impl Input {
    pub(super) fn new() -> io::Result<Self> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Self { stdin, partial: Vec::new(), waiting: VecDeque::new(), waiting_bytes: 0, ended: false })
    }

    /// What to wait on, if more is to be read.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'_>> {
        (!self.ended && self.waiting_bytes < WAITING_BYTES_MAX).then(|| self.stdin.as_fd())
    }

    /// Reads once.
    ///
    /// # Errors
    /// The screen takes nothing, or a line has no end.
    pub(super) fn handle_readable(&mut self, screen: &mut Screen) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        let bytes = match self.stdin.read(&mut chunk) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                return Ok(());
            }
            // A terminal that went away.
            Err(_) => 0,
            Ok(bytes) => bytes,
        };
        match screen {
            Screen::Terminal { .. } if bytes > 0 => self.take_keys(screen.handle_keys(&chunk[..bytes])?),
            Screen::Plain if bytes > 0 => self.take_lines(&chunk[..bytes])?,
            _ => self.end(),
        }
        Ok(())
    }

    fn take_keys(&mut self, typed: Vec<Typed>) {
        for event in typed {
            match event {
                // An empty one says nothing.
                Typed::Line(line) if !line.is_empty() => self.push(line),
                Typed::Line(_) => {}
                Typed::End => self.ended = true,
            }
        }
    }

    fn take_lines(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            if self.partial.len() > LINE_BYTES_MAX {
                return Err(io::Error::other(format!("a line has more than {LINE_BYTES_MAX} bytes")));
            }
            if piece.ends_with(b"\n") {
                self.finish_line();
            }
        }
        Ok(())
    }

    fn finish_line(&mut self) {
        let mut line = std::mem::take(&mut self.partial);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.push(String::from_utf8_lossy(&line).into_owned());
    }

    fn push(&mut self, line: String) {
        self.waiting_bytes += line.len() + LINE_BYTES;
        self.waiting.push_back(line);
    }

    fn end(&mut self) {
        self.ended = true;
        if !self.partial.is_empty() {
            self.finish_line();
        }
    }

    /// The next line to be said.
    pub(super) fn pop(&mut self) -> Option<String> {
        let line = self.waiting.pop_front()?;
        self.waiting_bytes -= line.len() + LINE_BYTES;
        Some(line)
    }

    /// True if nothing is left to be said, now or later.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }
}
