//! A client of a stage: the other end of a socket pair, which writes frames and checks every byte that comes.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{read, write};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// System calls that all clients of this thread made so far.
pub(crate) fn calls() -> u64 {
    CALLS.get()
}

fn count_call() {
    CALLS.set(CALLS.get() + 1);
}

/// See the module's description.
pub(crate) struct Client {
    socket: OwnedFd,
}

impl Client {
    /// A client that has asked for an upgrade, and the other end, for the server.
    ///
    /// # Panics
    /// If there are no descriptors left.
    pub(crate) fn dial(path: &str) -> (Self, OwnedFd) {
        count_call();
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, flags).expect("there are descriptors for a pair");
        let client = Self { socket: ours };
        client.write(request(path).as_bytes());
        (client, theirs)
    }

    /// True if the upgrade was granted.
    pub(crate) fn is_upgraded(&self) -> bool {
        let mut answer = [0; 1024];
        let bytes = self.read(&mut answer);
        answer.starts_with(b"HTTP/1.1 101 ") && answer[..bytes].ends_with(b"\r\n\r\n")
    }

    /// Writes all of it.
    ///
    /// # Panics
    /// If the socket does not take it at once.
    pub(crate) fn write(&self, bytes: &[u8]) {
        count_call();
        assert_eq!(write(&self.socket, bytes), Ok(bytes.len()), "the socket takes a whole step");
    }

    /// Reads once; 0 if nothing is there.
    fn read(&self, into: &mut [u8]) -> usize {
        count_call();
        match read(&self.socket, into) {
            Ok(bytes) => bytes,
            Err(Errno::EAGAIN) => 0,
            Err(error) => panic!("a client cannot read: {error}"),
        }
    }

    /// True if exactly `expected` is there to be read.
    pub(crate) fn hears(&self, expected: &[u8], into: &mut Vec<u8>) -> bool {
        into.resize(expected.len() + 1, 0);
        let bytes = self.read(into);
        into[..bytes] == *expected
    }

    /// True if the server has ended the stream and left nothing to read.
    pub(crate) fn is_ended(&self) -> bool {
        count_call();
        read(&self.socket, &mut [0; 1]) == Ok(0)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // That of closing its socket.
        count_call();
    }
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}
