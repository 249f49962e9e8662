//! The limits that the kernel sets: descriptors, locked memory, the accept queue, ports.

use std::fs::read_to_string;
use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;

use crate::sys::socket::bare_host;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// A resource limit; [`u64::MAX`] is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What holds now.
    pub soft: u64,
    /// To which an unprivileged process may raise it.
    pub hard: u64,
}

/// Raises the limit of open descriptors to the hard limit and returns it.
///
/// # Errors
/// Those of `getrlimit(2)` and `setrlimit(2)`.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Open descriptors.
///
/// # Errors
/// Those of `getrlimit(2)`.
pub fn open_files() -> io::Result<Limit> {
    limit(Resource::RLIMIT_NOFILE)
}

/// Locked memory, in bytes.
///
/// # Errors
/// Those of `getrlimit(2)`.
pub fn locked_memory() -> io::Result<Limit> {
    limit(Resource::RLIMIT_MEMLOCK)
}

/// Connections that the kernel holds for a listener at most, whatever its backlog.
///
/// # Errors
/// If `/proc` is not there or unreadable.
pub fn somaxconn() -> io::Result<u64> {
    numbers("/proc/sys/net/core/somaxconn").map(|[most]| most)
}

/// Ports that the kernel takes for outgoing connections.
///
/// # Errors
/// If `/proc` is not there or unreadable.
pub fn local_ports() -> io::Result<RangeInclusive<u64>> {
    numbers("/proc/sys/net/ipv4/ip_local_port_range").map(|[first, last]| first..=last)
}

/// The kernel's version, such as `6.1.0-18-amd64`.
///
/// # Errors
/// If `/proc` is not there or unreadable.
pub fn kernel_release() -> io::Result<String> {
    Ok(read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

/// Whether a listener could be bound there now; 0 always can.
///
/// # Errors
/// Why it could not: `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`, or the host's name does not resolve.
pub fn bindable(host: &str, port: u16) -> io::Result<()> {
    TcpListener::bind((bare_host(host), port)).map(drop)
}

fn limit(resource: Resource) -> io::Result<Limit> {
    let (soft, hard) = getrlimit(resource)?;
    let unlimited = |value| if value == RLIM_INFINITY { u64::MAX } else { value };
    Ok(Limit { soft: unlimited(soft), hard: unlimited(hard) })
}

fn numbers<const N: usize>(file: &str) -> io::Result<[u64; N]> {
    let text = read_to_string(file)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("{file} holds {text:?}"));
    let found: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    found.try_into().map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        let before = open_files().unwrap();
        assert_eq!(raise_open_files().unwrap(), before.hard);
        assert_eq!(open_files().unwrap(), Limit { soft: before.hard, hard: before.hard });
    }

    #[test]
    fn a_port_in_use_is_not_bindable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(bindable("127.0.0.1", port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(bindable("127.0.0.1", 0).is_ok());
    }

    #[test]
    fn the_kernels_own_figures_are_read() {
        assert!(somaxconn().unwrap() > 0);
        let ports = local_ports().unwrap();
        assert!(ports.start() < ports.end());
        assert!(kernel_release().unwrap().contains('.'));
        assert!(numbers::<2>("/proc/sys/net/core/somaxconn").unwrap_err().to_string().contains("somaxconn"));
    }
}
