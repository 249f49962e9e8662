//! Many clients in one thread: an epoll loop that reads whoever may be read and writes what waits.
//!
//! One thread, so that a machine with few cores delays all of them alike and no healthy one looks slow.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;

use super::raw::{CLOSE, Frames, PING, PONG, RawClient, close_payload, masked_frame, reset_on_close};
use super::tls::{Certificate, TlsStream};
use super::{PATIENCE, dial};

/// Bytes read from one member before the next has its turn.
const READS_PER_TURN: usize = 4;
/// Readiness taken from the kernel at a time.
const EVENTS_PER_TURN: usize = 256;

/// A member's transport.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// How a member's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A Close frame with this code came, then the end of the stream.
    Closed(u16),
    /// The stream ended or was reset without a Close frame.
    Cut,
    /// We reset it.
    Ours,
}

/// One client.
pub(crate) struct Member {
    /// `None` once it has ended: the descriptor is given back, the books stay.
    stream: Option<Stream>,
    frames: Frames,
    outgoing: Vec<u8>,
    sent: usize,
    paused: bool,
    close_sent: bool,
    close_code: Option<u16>,
    end: Option<End>,
    armed: EpollFlags,
}

/// All clients of a test, by number.
pub(crate) struct Crowd {
    epoll: Epoll,
    members: Vec<Member>,
    living: usize,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        Self { epoll, members: Vec::new(), living: 0 }
    }

    /// Connects one more, by TLS if there is a certificate. Returns its number.
    pub(crate) fn join(&mut self, address: SocketAddr, path: &str, tls: Option<&Certificate>) -> usize {
        let stream = match tls {
            Some(certificate) => Stream::Tls(Box::new(certificate.dial(address))),
            None => Stream::Plain(dial(address)),
        };
        let RawClient { stream, frames } = RawClient::upgrade(stream, path);
        stream.socket().set_nonblocking(true).unwrap();
        let number = self.members.len();
        let armed = EpollFlags::EPOLLIN;
        self.epoll.add(&stream, EpollEvent::new(armed, number as u64)).unwrap();
        self.members.push(Member {
            stream: Some(stream),
            frames,
            outgoing: Vec::new(),
            sent: 0,
            paused: false,
            close_sent: false,
            close_code: None,
            end: None,
            armed,
        });
        self.living += 1;
        number
    }

    /// How many ever joined.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many have not ended.
    pub(crate) fn living(&self) -> usize {
        self.living
    }

    /// How many have ended.
    pub(crate) fn ended(&self) -> usize {
        self.members.len() - self.living
    }

    /// Bytes that a member's socket has not taken yet.
    pub(crate) fn waiting_bytes(&self, number: usize) -> usize {
        self.members[number].waiting_bytes()
    }

    /// How a member ended, if it has.
    pub(crate) fn end(&self, number: usize) -> Option<End> {
        self.members[number].end
    }

    /// Acts on a member that has not ended; for one that has, nothing happens.
    pub(crate) fn with(&mut self, number: usize, act: impl FnOnce(&mut Member)) {
        if self.members[number].end.is_none() {
            act(&mut self.members[number]);
            self.settle(number);
        }
    }

    /// Waits until something can be read or written, at most `wait`; hands each data frame to `heard`, with its first byte.
    pub(crate) fn turn(&mut self, wait: Duration, heard: &mut impl FnMut(usize, &mut Member, u8, &[u8])) {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        let wait = EpollTimeout::try_from(wait).unwrap();
        let count = match self.epoll.wait(&mut events, wait) {
            Err(Errno::EINTR) => 0,
            count => count.unwrap(),
        };
        for event in &events[..count] {
            let (number, flags) = (event.data() as usize, event.events());
            if self.members[number].end.is_some() {
                continue;
            }
            if flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP) {
                self.read(number, heard);
            }
            self.settle(number);
        }
    }

    /// Takes turns until `done`.
    ///
    /// # Panics
    /// If that takes longer than [`PATIENCE`] without anybody hearing anything.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        mut heard: impl FnMut(usize, &mut Member, u8, &[u8]),
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let mut since = Instant::now();
        while !done(self) {
            assert!(since.elapsed() < PATIENCE, "nothing more happens: {what}");
            let living = self.living;
            self.turn(Duration::from_millis(2), &mut |number, member, first, payload| {
                since = Instant::now();
                heard(number, member, first, payload);
            });
            if living != self.living {
                since = Instant::now();
            }
        }
    }

    fn read(&mut self, number: usize, heard: &mut impl FnMut(usize, &mut Member, u8, &[u8])) {
        let member = &mut self.members[number];
        // TLS may hold decrypted bytes that no readiness tells of: it is read dry.
        let Some(mut stream) = member.stream.take() else { return };
        let is_tls = matches!(stream, Stream::Tls(_));
        let reads = if is_tls { usize::MAX } else { READS_PER_TURN };
        let mut frames = std::mem::take(&mut member.frames);
        for _ in 0..reads {
            let read = frames.fill(&mut stream);
            while let Some((first, payload)) = frames.next() {
                match first {
                    CLOSE => member.on_close(payload),
                    PING => member.send(PONG, payload),
                    PONG => {}
                    _ => heard(number, member, first, payload),
                }
            }
            match read {
                Ok(0) => member.finish(),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => member.finish(),
            }
            if member.end.is_some() || member.paused && !is_tls {
                break;
            }
        }
        (member.frames, member.stream) = (frames, Some(stream));
    }

    /// Writes what waits, and asks the kernel for what the member now waits for.
    fn settle(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.write();
        if member.end.is_some() {
            // Closing takes it out of the epoll instance.
            member.stream = None;
            self.living -= 1;
            return;
        }
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, !member.paused);
        wanted.set(EpollFlags::EPOLLOUT, member.waiting_bytes() > 0 || member.holds_cipher_text());
        if wanted != member.armed {
            member.armed = wanted;
            let stream = member.stream.as_ref().expect("a living member has a stream");
            self.epoll.modify(stream, &mut EpollEvent::new(wanted, number as u64)).unwrap();
        }
    }
}

impl Member {
    /// Has a masked frame sent.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.outgoing.extend(masked_frame(first, payload));
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    fn holds_cipher_text(&self) -> bool {
        matches!(&self.stream, Some(Stream::Tls(stream)) if stream.conn.wants_write())
    }

    /// Stops reading.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Goes on reading.
    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    /// Keeps the kernel from taking more than about so many bytes for a reader that is late.
    pub(crate) fn bound_receive_buffer(&mut self, bytes: usize) {
        let stream = self.stream.as_ref().expect("a living member has a stream");
        setsockopt(stream, RcvBuf, &bytes).unwrap();
    }

    /// Begins the closing handshake; everything that comes before the answer is still heard.
    pub(crate) fn close(&mut self, code: u16) {
        if !std::mem::replace(&mut self.close_sent, true) {
            self.send(CLOSE, &close_payload(code));
        }
    }

    /// Goes without a word.
    pub(crate) fn reset(&mut self) {
        self.end = Some(End::Ours);
        if let Some(stream) = &self.stream {
            reset_on_close(stream.socket());
        }
    }

    fn on_close(&mut self, payload: &[u8]) {
        let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        self.close_code = Some(code);
        self.close(code);
    }

    fn finish(&mut self) {
        self.end = Some(self.close_code.map_or(End::Cut, End::Closed));
    }

    fn write(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while self.sent < self.outgoing.len() {
            match stream.write(&self.outgoing[self.sent..]) {
                Ok(0) => break,
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What it was sent before may still be there to be read: the end is found by reading.
                Err(_) => self.sent = self.outgoing.len(),
            }
        }
        // TLS tries to send what it holds; what it cannot is asked for by `wants_write`.
        let _ = stream.flush();
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.sent = 0;
        }
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
