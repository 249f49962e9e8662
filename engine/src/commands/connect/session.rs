//! One connection, from its opening handshake to its end: a non-blocking WebSocket driven by readiness.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

use super::input::Input;
use super::screen::Screen;
use super::stream::Stream;
use crate::logging::printable;

/// After so long without a word from the server it is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(30);
/// After so long it does not.
const LOST_AFTER: Duration = Duration::from_secs(75);
/// Messages that are taken before signals and keys are looked at again.
const MESSAGES_PER_TURN: usize = 256;
/// How long the server may take to answer our Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// At the end of the input: closes when nothing has come for so long …
const LISTEN_ON: Duration = Duration::from_millis(250);
/// … and at the latest after so long.
const LISTEN_ON_MAX: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// We closed it, and the server has answered.
    Ours,
    /// We closed it, and the server went without an answer or gives none; how, in one line.
    Unanswered(String),
    /// Otherwise, and how, in one line.
    Lost(String),
}

/// See the module's description.
pub(super) struct Session {
    socket: WebSocket<Stream>,
    /// More may have come than was taken.
    more: bool,
    /// Something is to be sent that the kernel does not take yet.
    blocked: bool,
    /// When the server was last heard.
    heard: Instant,
    pinged: bool,
    /// When the last line of the input was sent.
    finished: Option<Instant>,
    /// When we sent a Close.
    closed: Option<Instant>,
}

impl Session {
    pub(super) fn new(socket: WebSocket<Stream>) -> Self {
        let heard = Instant::now();
        Self { socket, more: false, blocked: false, heard, pinged: false, finished: None, closed: None }
    }

    /// What to wait on, and for what.
    pub(super) fn wants(&self) -> (BorrowedFd<'_>, PollFlags) {
        let write = if self.blocked { PollFlags::POLLOUT } else { PollFlags::empty() };
        (self.socket.get_ref().tcp().as_fd(), PollFlags::POLLIN | write)
    }

    /// When to look at it again though nothing is ready.
    pub(super) fn deadline(&self) -> Instant {
        let due = match self.finished {
            Some(finished) if self.closed.is_none() => self.due().min(self.listens_until(finished)),
            _ => self.due(),
        };
        if self.more { Instant::now() } else { due }
    }

    /// When the server's silence must be answered.
    fn due(&self) -> Instant {
        match self.closed {
            Some(closed) => closed + CLOSE_TIMEOUT,
            None if self.pinged => self.heard + LOST_AFTER,
            None => self.heard + PING_AFTER,
        }
    }

    /// Says what is to be said, closes at the end of it, and shows what came. Returns how it ended, once it has.
    ///
    /// # Errors
    /// The screen takes nothing.
    pub(super) fn drive(&mut self, input: &mut Input, screen: &Screen) -> io::Result<Option<End>> {
        let end = match self.receive(screen)? {
            Some(end) => Some(end),
            None => self.send(input).or_else(|| self.check_deadline()),
        };
        if end.is_some() {
            self.socket.get_mut().finish();
        }
        Ok(end)
    }

    fn receive(&mut self, screen: &Screen) -> io::Result<Option<End>> {
        self.more = false;
        for _ in 0..MESSAGES_PER_TURN {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Ok(Some(self.lost(&error))),
            };
            (self.heard, self.pinged) = (Instant::now(), false);
            match message {
                Message::Text(text) => screen.show(&text)?,
                Message::Binary(bytes) => screen.show(&format!("[a binary message of {} bytes]", bytes.len()))?,
                // Its answer is queued.
                Message::Close(frame) => {
                    _ = self.socket.flush();
                    return Ok(Some(if self.closed.is_some() { End::Ours } else { End::Lost(said_in_close(frame)) }));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        self.more = true;
        Ok(None)
    }

    fn send(&mut self, input: &mut Input) -> Option<End> {
        loop {
            // Also what tungstenite answers by itself: pongs.
            match self.socket.flush() {
                Ok(()) => self.blocked = false,
                Err(error) => return self.blocked_or_lost(&error),
            }
            if self.closed.is_some() {
                return None;
            }
            let written = match input.pop() {
                Some(line) => self.socket.write(Message::text(line)),
                None if input.is_finished() => {
                    if !self.has_listened_on() {
                        return None;
                    }
                    self.close();
                    continue;
                }
                None => return None,
            };
            if let Err(error) = written {
                return self.blocked_or_lost(&error);
            }
        }
    }

    /// At the end of the input: whether what the last lines have caused has come, their own echo above all. That is when
    /// nothing has come for a while.
    fn has_listened_on(&mut self) -> bool {
        let now = Instant::now();
        let finished = *self.finished.get_or_insert(now);
        now >= self.listens_until(finished)
    }

    fn listens_until(&self, finished: Instant) -> Instant {
        (self.heard.max(finished) + LISTEN_ON).min(finished + LISTEN_ON_MAX)
    }

    /// Begins the closing handshake.
    pub(super) fn close(&mut self) {
        if self.closed.is_none() {
            self.closed = Some(Instant::now());
            // What it cannot send yet, it sends with the next flush; a connection that is lost is found by the next read.
            _ = self.socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
        }
    }

    fn check_deadline(&mut self) -> Option<End> {
        if Instant::now() < self.due() {
            return None;
        }
        if self.closed.is_some() {
            return Some(End::Unanswered("the server does not answer the Close".to_owned()));
        }
        if self.pinged {
            return Some(End::Lost(format!("no sign of life for {} s", LOST_AFTER.as_secs())));
        }
        self.pinged = true;
        let pinged = self.socket.send(Message::Ping("".into()));
        pinged.err().and_then(|error| self.blocked_or_lost(&error))
    }

    fn blocked_or_lost(&mut self, error: &Error) -> Option<End> {
        if matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.blocked = true;
            return None;
        }
        Some(self.lost(error))
    }

    fn lost(&self, error: &Error) -> End {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed if self.closed.is_some() => End::Ours,
            error if self.closed.is_some() => End::Unanswered(format!("the server did not answer the Close: {error}")),
            error => End::Lost(format!("the connection is lost: {error}")),
        }
    }
}

fn said_in_close(frame: Option<CloseFrame>) -> String {
    match frame {
        None => "the server closed the connection".to_owned(),
        Some(CloseFrame { code, reason }) if reason.is_empty() => format!("the server closed the connection: {code}"),
        Some(CloseFrame { code, reason }) => {
            format!("the server closed the connection: {code} {}", printable(&*reason))
        }
    }
}
