//! What the service manager is told, by the protocol of sd_notify(3): ready, reloading, stopping, and still alive.
//!
//! In comes the environment: `NOTIFY_SOCKET` (a path, or `@` and a name of the abstract namespace), `WATCHDOG_USEC` and
//! `WATCHDOG_PID`. Out go datagrams. Without a socket nothing is said; a failure is logged and hurts nobody. Whether the
//! watchdog is fed is the conductor's to decide: only while every shard answers.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};

use crate::logging::RateLimited;

/// How long a datagram may wait for a service manager that is behind with reading.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment has it.
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let socket = variable("NOTIFY_SOCKET").and_then(|name| {
            connect(&name).inspect_err(|error| tracing::warn!("NOTIFY_SOCKET {name:?}: {error}")).ok()
        });
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// How often the watchdog wants to be fed at the latest; none if it does not watch.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The server accepts connections, for the first time or after [`ServiceManager::reloading`].
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// A reload has begun.
    pub(crate) fn reloading(&self) {
        match clock_gettime(ClockId::CLOCK_MONOTONIC) {
            Ok(now) => self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", Duration::from(now).as_micros())),
            Err(error) => tracing::warn!("the monotonic clock: {error}"),
        }
    }

    /// A line for `systemctl status`.
    pub(crate) fn status(&self, text: &str) {
        self.tell(&format!("STATUS={text}"));
    }

    /// The server is alive.
    pub(crate) fn feed_watchdog(&self) {
        self.tell("WATCHDOG=1");
    }

    /// The shutdown has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Feeds the watchdog for as long as it is awaited: a shutdown has a deadline of its own.
    pub(crate) async fn feed_while_stopping(&self) {
        let Some(within) = self.watchdog else { return };
        let mut ticker = interval(within / 2);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            self.feed_watchdog();
        }
    }

    fn tell(&self, state: &str) {
        static LIMIT: RateLimited = RateLimited::new("failed notifications of the service manager", 1);
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes())
            && LIMIT.admit()
        {
            tracing::warn!("the service manager was not told {state:?}: {error}");
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_WITHIN))?;
    Ok(socket)
}

/// `usec` if it is a time and meant for this process; another's `pid` is inherited from a parent.
fn watchdog(usec: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    let usec: u64 = usec?.parse().ok()?;
    (ours && usec >= 2).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_watches_the_process_that_is_named_or_any() {
        let watched = |usec: &str, pid: Option<&str>| watchdog(Some(usec.to_owned()), pid.map(str::to_owned), 7);
        assert_eq!(watched("30000000", None), Some(Duration::from_secs(30)));
        assert_eq!(watched("30000000", Some("7")), Some(Duration::from_secs(30)));
        for (usec, pid) in [("30000000", Some("8")), ("30000000", Some("x")), ("0", None), ("-1", None), ("", None)] {
            assert_eq!(watched(usec, pid), None, "{usec} {pid:?}");
        }
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn a_socket_of_another_kind_is_refused_with_the_reason() {
        for name in ["vsock:2:1", "relative/path"] {
            assert_eq!(connect(name).unwrap_err().to_string(), "neither a path nor an abstract name");
        }
    }
}
