//! Sockets by system call: what one send is, options, descriptors.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, setsockopt, shutdown, sockopt};

/// What the kernel may hold unsent per connection before it reports the socket as full, in bytes. A stalled reader
/// costs 115–163 KB with it and 4 MB without, at no cost in throughput (perf/README.md).
const NOTSENT_LOWAT_BYTES: libc::c_int = 16 << 10;
/// Ceiling of the send buffer, in bytes.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// A listening socket with the options that accepted sockets inherit. With `reuse_port` several shards listen on one
/// address, each on its own socket.
///
/// # Errors
/// What the kernel says: EADDRINUSE, EACCES, EADDRNOTAVAIL.
pub fn listen(address: SocketAddr, backlog: u32, user_timeout_ms: u32) -> io::Result<std::net::TcpListener> {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, bind, listen, socket};
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
    setsockopt(&fd, sockopt::TcpUserTimeout, &user_timeout_ms)?;
    set_notsent_lowat(&fd)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(backlog.min(i32::MAX as u32) as i32).unwrap_or(Backlog::MAXCONN))?;
    Ok(fd.into())
}

fn set_notsent_lowat(fd: &OwnedFd) -> io::Result<()> {
    let value = NOTSENT_LOWAT_BYTES;
    // SAFETY: the option takes a c_int, whose address and size are passed.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The peer's address, if the connection still has one.
#[must_use]
pub fn peer_address(socket: &OwnedFd) -> Option<SocketAddr> {
    let address: SockaddrStorage = getpeername(socket.as_raw_fd()).ok()?;
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

/// A host as a socket takes it: an IPv6 address may stand in brackets, as in a URL.
pub(crate) fn bare_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// One send: all of the slices, in order, to one socket.
#[derive(Clone, Copy)]
pub(crate) struct Send<'a> {
    pub socket: RawFd,
    pub slices: &'a [IoSlice<'a>],
    /// Nothing but [`shutdown_send`] follows, at once: FIN leaves with the bytes, in one segment.
    pub is_last: bool,
}

impl Send<'_> {
    /// One attempt without waiting, no signal.
    pub(crate) fn flags(&self) -> i32 {
        let cork = if self.is_last { libc::MSG_MORE } else { 0 };
        libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | cork
    }
}

/// Ends the sending direction. An error means the connection is gone, which its receive reports.
pub(crate) fn shutdown_send(socket: RawFd) {
    let _ = shutdown(socket, Shutdown::Write);
}

/// Makes the coming `close` discard unsent bytes and reset the connection.
pub(crate) fn reset_on_close(socket: RawFd) {
    if socket >= 0 {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(&borrow(socket), sockopt::Linger, &linger);
    }
}

/// Takes over a descriptor that the kernel has just returned.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a descriptor fresh from accept4, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Borrows a descriptor that the port's slot table keeps open for the length of the call.
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    assert!(fd >= 0, "only open descriptors are borrowed");
    // SAFETY: not -1, and the port closes descriptors only between calls.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
